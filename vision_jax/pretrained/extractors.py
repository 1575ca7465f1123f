"""Networks whose features distances between sets of images are measured in: FID's Inception, or any classifier here.

Images come in as uint8: what a file would hold. A generator's floats are rounded to 8 bits before
(`tasks.base.to_bytes`); after resizing nothing is rounded. Features are float32, products in full float32 also where a
device computes with less by default.

FID's network has three ways of reaching it, whose distances differ and carry different names:

- 'pytorch_fid' (metric `fid`): PyTorch's bilinear to 299×299, no antialiasing, then to [-1, 1] by x / 127.5 - 1, as
  `pytorch-fid` (Seitzer 2020);
- 'clean' (metric `fid_clean`): Pillow's bicubic with antialiasing on each channel in float, clipped to [0, 255], then
  (x - 128) / 128, as `clean-fid` (Parmar et al. 2022, arXiv 2104.11222);
- 'tensorflow' (metric `fid_tensorflow`): TensorFlow 1's bilinear without half-pixel centers, then (x - 128) / 128, as
  the graph of 2015-12-05 and `torch-fidelity` (Obukhov et al. 2020).

Its logits are without the last bias, as the Inception Score's reference and `torch-fidelity` take them.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import Mesh

from vision_jax import models, parallel
from vision_jax.metrics.generative import FeatureSet
from vision_jax.metrics.receipt import Protocol
from vision_jax.models.inception import InceptionV3
from vision_jax.models.layers import at_least_float32
from vision_jax.models.network import Classifier
from vision_jax.ops import resize
from vision_jax.pretrained import weights as weights_lib
from vision_jax.pretrained.weights import Preprocessing
from vision_jax.utils import trees
from vision_jax.utils.text import closest

FID_NETWORK = "fid_inception"
# Features of FID's network by their number, as `pytorch-fid --dims`: stages, averaged over positions.
FID_STAGES = {64: "pool1", 192: "pool2", 768: "Mixed_6e", 2048: "features"}


@dataclasses.dataclass(frozen=True)
class View:
    """How a picture becomes what a network sees: resized to a square, then (x - shift) / scale on [0, 255].

    Attributes:
        size: side in pixels.
        method: of resizing; see `ops.resize`.
        shift, scale: per channel.
        words: the same for people; the same words mean the same view.
    """

    size: int
    method: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    words: str

    def __call__(self, images: jax.Array) -> jax.Array:
        """uint8 [N, H, W, C] to float32 [N, size, size, C of the network] (pure)."""
        images = resize.resize(images.astype(jnp.float32), self.size, self.method)
        return self._normalized(images, jnp)

    def on_host(self, image: np.ndarray) -> np.ndarray:
        """The same for one picture, uint8 [H, W, C], whatever its size."""
        return self._normalized(resize.resize_on_host(image, self.size, self.method), np)

    def _normalized(self, images: Any, library: Any) -> Any:
        if self.method == "pillow_bicubic":
            images = library.clip(images, 0.0, 255.0)  # It overshoots.
        channels = len(self.shift)
        if images.shape[-1] == 1 and channels > 1:
            images = library.repeat(images, channels, axis=-1)
        if images.shape[-1] != channels:
            raise ValueError(f"The extractor sees {channels} channels, and the images have {images.shape[-1]}.")
        return (images - np.asarray(self.shift, np.float32)) / np.asarray(self.scale, np.float32)


FID_VIEWS = {
    "pytorch_fid": View(
        299,
        "torch_bilinear",
        (127.5,) * 3,
        (127.5,) * 3,
        "from 8 bits to 299×299 by bilinear interpolation, half-pixel centers, no antialiasing, not rounded; "
        "x / 127.5 - 1 (pytorch-fid)",
    ),
    "clean": View(
        299,
        "pillow_bicubic",
        (128.0,) * 3,
        (128.0,) * 3,
        "from 8 bits to 299×299 by Pillow's bicubic in float, antialiased, clipped, not rounded; (x - 128) / 128 "
        "(clean-fid)",
    ),
    "tensorflow": View(
        299,
        "tensorflow_bilinear",
        (128.0,) * 3,
        (128.0,) * 3,
        "from 8 bits to 299×299 by TensorFlow 1's bilinear interpolation without half-pixel centers, not rounded; "
        "(x - 128) / 128 (the graph of 2015, torch-fidelity)",
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A network, its weights and its view of images.

    Attributes:
        name: 'fid' ('fid_clean', 'fid_tensorflow', 'fid_192' …) or the network's.
        model: the network.
        variables: its parameters and running statistics, on the host.
        weights: SHA-256 of them (`trees.fingerprint`, as `results.json` names constants).
        view: what images go through.
        stage: whose output, averaged over positions, is the features.
        dimension: their number.
        note: a sentence about something that had to be assumed, or ''.
    """

    name: str
    model: Classifier
    variables: dict[str, Any]
    weights: str
    view: View
    stage: str
    dimension: int
    note: str = ""

    @property
    def resize(self) -> str:
        """The view in words."""
        return self.view.words

    @property
    def prefix(self) -> str:
        """Of the metric's name: 'fid' and its variants, else 'fd_<name>'."""
        return self.name if self.name.partition("_")[0] == "fid" else f"fd_{self.name}"

    def apply(self, variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        """uint8 [N, H, W, C] to {'features': float32 [N, D], 'logits': float32 [N, K]} (pure), resizing included.

        `variables` is an argument so that it is no constant when compiled. Features from the middle of the network come
        without 'logits'.
        """
        return self.embed(variables, self.view(images))

    def embed(self, variables: Mapping[str, Any], inputs: jax.Array) -> dict[str, jax.Array]:
        """The same from what `view` returns, float32 [N, S, S, C]."""
        with jax.default_matmul_precision("highest"):
            logits, kept = self.model.apply(variables, inputs, train=False, mutable=["intermediates"])
            features = at_least_float32(kept["intermediates"][self.stage][0])
            if features.ndim == 4:
                features = features.mean((1, 2))
            if self.stage != "features":
                return {"features": features}
            if isinstance(self.model, InceptionV3) and self.model.fid:
                logits = features @ variables["params"]["fc"]["kernel"]
        return {"features": features, "logits": at_least_float32(logits)}

    def protocol(self, reference: str, split: str, fingerprint: str) -> Protocol:
        """Returns what distances to this reference (its name, split and images' SHA-256) are measured with."""
        taken = f"{self.model_name}, {self.stage}"
        return Protocol(self.prefix, taken, self.weights, self.dimension, self.resize, reference, split, fingerprint)

    @property
    def model_name(self) -> str:
        """The network's name in the table of networks."""
        return FID_NETWORK if self.prefix == self.name else self.name


def load(network: str = FID_NETWORK, weights: str = "", *, mode: str = "pytorch_fid", dims: int = 0) -> Extractor:
    """Returns an extractor with published weights, from the cache or fetched, or with those in a file.

    Args:
        network: a classifier of `models.MODELS`; all but 'fid_inception' see images as their weights' preprocessing
            says: the whole image resized to `crop` pixels (nothing is cropped), antialiased, and normalized.
        weights: as of `weights.load`; by default the network's published ones.
        mode: for 'fid_inception', a key of `FID_VIEWS`.
        dims: for 'fid_inception', one of `FID_STAGES`; 0 is 2048.

    Raises:
        ValueError: no such network, weights, mode or features; or nothing is known of the preprocessing.
        DownloadError: the weights cannot be fetched; the message says where to put them.
    """
    if network != FID_NETWORK:
        if dims or mode != "pytorch_fid":
            raise ValueError(f"{network} has one preprocessing and one kind of features; leave mode and dims out")
        model, variables, record = weights_lib.load_classifier(network, weights)
        assert record.preprocessing is not None  # `load_classifier` finds one, or says so.
        channels = (record.input_shape or models.entry(network).input_shape)[-1]
        return of_classifier(network, model, variables, record.preprocessing, channels, note=record.note)
    if mode not in FID_VIEWS:
        raise ValueError(f"FID has no mode {mode!r}{closest(mode, FID_VIEWS)}; there are {', '.join(FID_VIEWS)}")
    if dims and dims not in FID_STAGES:
        raise ValueError(f"FID's network has no {dims} features; there are {', '.join(map(str, FID_STAGES))}")
    variables, record = weights_lib.load(network, weights or "fid")
    model = models.build(network, **record.options)
    assert isinstance(model, Classifier)
    dims = dims or 2048
    name = "fid" + ("" if mode == "pytorch_fid" else f"_{mode}") + ("" if dims == 2048 else f"_{dims}")
    return Extractor(name, model, variables, trees.fingerprint(variables), FID_VIEWS[mode], FID_STAGES[dims], dims)


def of_classifier(
    name: str,
    model: Classifier,
    variables: dict[str, Any],
    preprocessing: Preprocessing,
    channels: int,
    *,
    note: str = "",
) -> Extractor:
    """Returns the extractor that takes what the head of a classifier sees.

    Args:
        name: of its network in `models.MODELS`.
        model: the network.
        variables: its parameters and running statistics.
        preprocessing: of its images; see `load`.
        channels: of them.
        note: something that had to be assumed.
    """
    leaves = trees.flatten(variables["params"])
    dimension = leaves[f"{model.head_layers[0]}/kernel"].shape[0]
    method = "nearest" if preprocessing.interpolation == "nearest" else f"pillow_{preprocessing.interpolation}"
    mean, std = (np.broadcast_to(values, channels) for values in (preprocessing.mean, preprocessing.std))
    numbers = ["/".join(f"{x:g}" for x in values) for values in (preprocessing.mean, preprocessing.std)]
    view = View(
        preprocessing.crop,
        method,
        tuple(float(255.0 * x) for x in mean),
        tuple(float(255.0 * x) for x in std),
        f"from 8 bits to {preprocessing.crop}×{preprocessing.crop} by {preprocessing.interpolation} interpolation, "
        f"antialiased, not rounded; mean {numbers[0]}, deviation {numbers[1]} of [0, 1]",
    )
    return Extractor(name, model, variables, trees.fingerprint(variables), view, "features", dimension, note)


def collect(
    extractor: Extractor,
    images: Iterable[np.ndarray],
    *,
    batch_size: int = 50,
    limit: int = 10_000,
    mesh: Mesh | None = None,
    seen: Callable[[int], None] | None = None,
) -> FeatureSet:
    """Returns the features of images, uint8 [H, W, C] each, whose sizes may differ.

    Args:
        extractor: what computes them.
        images: read once.
        batch_size: images at a time; rounded up to a multiple of the devices.
        limit: of the features that are kept besides the statistics.
        mesh: the devices; by default all.
        seen: told after each batch how many images are done.
    """
    mesh = parallel.make_mesh() if mesh is None else mesh
    batch_size = -(-batch_size // mesh.size) * mesh.size
    variables = parallel.put_replicated(extractor.variables, mesh)
    # Resizing is compiled for the first size that comes and done on the host for others; the network is compiled once.
    view, embed = _compiled(extractor)
    found, usual, done = FeatureSet(limit), None, 0
    iterator, ahead = iter(images), None

    def take(outputs: dict[str, jax.Array], count: int) -> None:
        nonlocal done
        found.add({name: parallel.gather_to_host(rows)[:count] for name, rows in outputs.items()})
        done += count
        if seen is not None:
            seen(done)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        while batch := list(itertools.islice(iterator, batch_size)):
            usual = usual or batch[0].shape
            padded = batch + [batch[-1]] * (batch_size - len(batch))
            if all(image.shape == usual for image in batch):
                inputs = view(parallel.put_split(np.stack(padded), mesh))
            else:
                inputs = parallel.put_split(np.stack(list(pool.map(extractor.view.on_host, padded))), mesh)
            computed = embed(variables, inputs)
            if ahead is not None:  # The device works while the host takes in the batch before and reads the next.
                take(*ahead)
            ahead = computed, len(batch)
    if ahead is not None:
        take(*ahead)
    return found


@functools.lru_cache(maxsize=2)
def _compiled(extractor: Extractor) -> tuple[Callable, Callable]:
    return jax.jit(extractor.view), jax.jit(extractor.embed)

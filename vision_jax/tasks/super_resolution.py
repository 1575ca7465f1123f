"""Single-image super-resolution: the network restores what bicubic reduction by `scale` took away.

Low resolution is made by antialiased bicubic reduction (Keys' a = -0.5, as MATLAB's and Pillow's). Training sees random
patches of the pictures in low and high resolution, evaluation whole pictures. The network restores RGB, or the luma
alone, as the papers that compare on Set5 do: a picture's luma, rounded to 8 bits, is then what is reduced and restored.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from vision_jax import models, optim
from vision_jax.data import augment, patches
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.metrics import image_quality
from vision_jax.models import network_options
from vision_jax.models.upscaler import Upscaler
from vision_jax.ops import resize
from vision_jax.tasks import base, restoration_losses, upscaling
from vision_jax.tasks.state import NetworkState, TrainState
from vision_jax.utils.options import ConfigError

_HIGHEST_PSNR = 100.0  # Of a flat picture restored exactly, whose PSNR is infinite, so that means stay finite.
_ERROR_SHOWN = 8.0  # Times the error; 32 of 255 is white.
_LUMA = np.array([65.481, 128.553, 24.966], np.float32)  # As `image_quality.luma`, on the host.


class SuperResolution(base.Task):
    """Trains `config.model` to restore patches; `config.super_resolution.losses` says by which errors."""

    shown = 5  # All of Set5.

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        super().__init__(config, dataset, durations)
        options = config.super_resolution
        self.scale, self.patch, self.border = options.scale, options.patch_size, options.border
        height, width, image_channels = base.image_shape(config, dataset)
        self.luma = options.channels == "y" and image_channels == 3
        self.channels = 1 if self.luma else image_channels
        name = config.model.name
        model = models.build(
            name,
            channels=self.channels,
            scale=self.scale,
            dtype=jnp.dtype(config.train.dtype),
            **network_options.given(config.model, name),
        )
        if not isinstance(model, Upscaler):
            known = [name for name, row in models.MODELS.items() if issubclass(row.module, Upscaler)]
            raise ConfigError(f"config.model.name={name!r} does not restore images; there are {', '.join(known)}.")
        self.model = model
        # What the network sees enlarged lacks neighbors within two pixels of the low resolution from a patch's border.
        self.inexact = 2 * self.scale if model.sees_enlarged else 0
        self._check_sizes(height, width)
        if not any(options.losses.values()):
            raise ConfigError(
                "All weights of config.super_resolution.losses are 0; set one above, such as losses.mse=1."
            )
        self.network = self.optimizer(config.optimizer.learning_rate)
        self.augment = augment.build_paired(config.data.augment)
        self.perceptual = None
        if options.losses.perceptual or options.perceptual.measure:
            if self.channels != 3:
                raise ConfigError("config.super_resolution.perceptual compares RGB images; set channels='rgb'.")
            self.perceptual = restoration_losses.load(options.perceptual)
        self.measures = self._measures()
        self.psnr, *others = self.measures
        self.metrics = {self.psnr: True, f"bicubic_{self.psnr}": True, f"gain_{self.psnr}": True}
        for name in others:
            self.metrics |= {name: True, f"bicubic_{name}": True}
        if self.perceptual:
            distance = f"{self.perceptual.name}_distance_x{self.scale}"
            self.metrics |= {distance: False, f"bicubic_{distance}": False}

    def _measures(self) -> dict[str, "_Measure"]:
        """Returns what is measured of whole pictures, by name; the first picks the best checkpoint."""

        def protocol(channel: str) -> image_quality.Protocol:
            rounded = self.config.super_resolution.rounded
            return image_quality.Protocol(self.scale, self.scale, channel, self.luma, rounded)

        # Luma that is restored is a picture of its own; of RGB, luma is computed.
        of_planes, color = (image_quality.psnr, image_quality.ssim), (image_quality.psnr_y, image_quality.ssim_y)
        channel = "gray" if self.channels == 1 and not self.luma else "y"
        psnr, ssim = of_planes if self.channels == 1 else color
        measures = [("psnr", _Measure(psnr, protocol(channel))), ("ssim", _Measure(ssim, protocol(channel)))]
        if self.channels == 3:
            measures.append(("psnr", _Measure(image_quality.psnr, protocol("rgb"))))
        return {measure.protocol.metric(name): measure for name, measure in measures}

    def _check_sizes(self, height: int, width: int) -> None:
        options = self.config.super_resolution
        if self.patch % self.scale:
            raise ConfigError(
                f"config.super_resolution.patch_size={self.patch} is not a multiple of config.super_resolution.scale="
                f"{self.scale}."
            )
        left = self.patch - 2 * (self.border + self.inexact)
        if left < 1:
            raise ConfigError(
                f"Nothing is left of patches of config.super_resolution.patch_size={self.patch} without "
                f"config.super_resolution.border={options.border}"
                + (f" and the {self.inexact} pixels that bicubic interpolation needs" if self.inexact else "")
                + " on each side; make them larger."
            )
        if isinstance(self.dataset.splits["train"], ArraySource) and self.patch > min(height, width):
            raise ConfigError(
                f"config.super_resolution.patch_size={self.patch} is larger than the images of {self.dataset.name}, "
                f"{height}x{width}."
            )

    def init(self, key: jax.Array) -> TrainState:
        variables = self.model.init(key, jnp.zeros((1, self.patch, self.patch, self.channels)), train=False)
        return TrainState.first(model=self.network.init(variables))

    def constants(self) -> dict[str, base.Tree]:
        return {"perceptual": self.perceptual.variables} if self.perceptual else {}

    def loader(self, state: TrainState, loader: Loader) -> Any:
        """Returns patches of the training split, and pictures of others in batches or, of different sizes, one by one.

        The loop asks for the former by `train`, for the latter by `evaluation`, and 'train' may be evaluated, too.
        """
        return _Pictures(self, loader)

    def pairs(self, image: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns what there is to learn from a picture, uint8 [H, W, C]: itself and its shrunk copies, reduced."""
        sides = [(round(image.shape[0] * f), round(image.shape[1] * f)) for f in self.config.super_resolution.shrink]
        copies = [_bytes(resize.resize_on_host(image / np.float32(255), size, upscaling.METHOD)) for size in sides]
        return [self._pair(copy) for copy in (image, *copies) if min(copy.shape[:2]) >= self.patch]

    def _pair(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        high = upscaling.cropped(image, self.scale)
        if self.luma:
            high = np.round(16.0 + (high / np.float32(255)) @ _LUMA[:, None]).astype(np.uint8)
        size = (high.shape[0] // self.scale, high.shape[1] // self.scale)
        low = resize.resize_on_host(high / np.float32(255), size, upscaling.METHOD)
        return (_bytes(low) if self.config.super_resolution.rounded else np.clip(low, 0.0, 1.0)), high

    def reduce(self, high: jax.Array) -> jax.Array:
        """Images [N, H, W, C] in [0, 1] -> low resolution [N, H / scale, W / scale, C] in [0, 1], as of the config."""
        low = upscaling.reduce(high, self.scale)
        return base.to_unit(base.to_bytes(low)) if self.config.super_resolution.rounded else low

    def train_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[TrainState, base.Arrays]:
        seen, high = self._prepared(batch, key)
        network = state.networks["model"]

        def loss_of(params: base.Tree) -> tuple[jax.Array, base.Arrays]:
            return self._loss(constants, *self._restored(network, params, seen, high))

        (loss, parts), gradients = jax.value_and_grad(loss_of, has_aux=True)(network.params)
        metrics = {
            "loss": loss,
            **parts,
            "gradient_norm": optim.norm(gradients),
            "learning_rate": self.network.rate(state.step),
        }
        return state.replace(networks={"model": self.network.update(network, gradients, {}, state.step)}), metrics

    def example_losses(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> jax.Array:
        network = state.networks["model"]
        pairs = self._restored(network, network.params, *self._prepared(batch, key))
        return lax.map(lambda pair: self._loss(constants, pair[0][None], pair[1][None])[0], pairs)

    def _prepared(self, batch: base.Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns what the network sees of a training batch and what it is to restore, augmented, in [0, 1]."""
        pair = self.augment(key, {name: _unit(batch[name]) for name in ("low", "high")})
        low, high = pair["low"], _without_border(pair["high"], self.inexact)
        seen = _without_border(upscaling.enlarge(low, self.scale), self.inexact) if self.model.sees_enlarged else low
        return seen, high

    def _restored(
        self, network: NetworkState, params: base.Tree, seen: jax.Array, high: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the restored patches as in training and the originals, both as the loss compares them."""
        restored = self.model.apply(network.variables(params), seen, train=True)
        return _without_border(restored, self.border), _without_border(high, self.border)

    def _loss(self, constants: base.Constants, restored: jax.Array, high: jax.Array) -> tuple[jax.Array, base.Arrays]:
        """Returns the sum of the losses with their weights, and each without its weight where there are several."""
        parts = {}
        for name, weight in self.config.super_resolution.losses.items():
            if not weight:
                continue
            if name == "perceptual":
                assert self.perceptual is not None  # As the weight says.
                parts[f"{self.perceptual.name}_loss"] = (
                    weight,
                    self.perceptual.loss(constants["perceptual"], restored, high),
                )
            else:
                parts[f"{name}_loss"] = weight, restoration_losses.PIXEL_LOSSES[name](restored, high)
        total = jnp.stack([weight * value for weight, value in parts.values()]).sum()
        return total, {name: value for name, (_, value) in parts.items()} if len(parts) > 1 else {}

    def _network(self, state: TrainState) -> tuple[Upscaler, base.Tree]:
        network: NetworkState = state.networks["model"]
        return self.model.deployed(network.variables())

    def restore(self, state: TrainState, low: jax.Array) -> jax.Array:
        """Low resolution [N, h, w, C] in [0, 1] -> [N, h * scale, w * scale, C] in [0, 1]."""
        return upscaling.restore(*self._network(state), low)

    def planes(self, images: jax.Array) -> jax.Array:
        """uint8 pictures [N, H, W, C] -> what is restored of them, float32 in [0, 1], cut to multiples of `scale`."""
        high = base.to_unit(upscaling.cropped(images, self.scale))
        return jnp.round(image_quality.luma(high))[..., None] / 255.0 if self.luma else high

    def eval_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns sums of what is measured of the network and of bicubic interpolation, and all of it of every row."""
        del key
        high = self.planes(batch["image"])
        low = self.reduce(high)
        outputs = {}
        for prefix, found in (("", self.restore(state, low)), ("bicubic_", upscaling.enlarge(low, self.scale))):
            for name, measure in self.measures.items():
                values = measure.function(found, high, measure.protocol.shave)
                outputs[prefix + name] = jnp.minimum(values, _HIGHEST_PSNR)  # SSIM is 1 at most.
            if self.perceptual:
                of = [self.perceptual.features(constants["perceptual"], x) for x in (found, high)]
                distance = image_quality.feature_distance(*of)
                outputs[f"{prefix}{self.perceptual.name}_distance_x{self.scale}"] = distance
        return {name: jnp.sum(values * batch["mask"]) for name, values in outputs.items()}, outputs

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns means over pictures: PSNR in dB, SSIM, of the network and of bicubic interpolation, and the gain."""
        gain = f"gain_{self.psnr}"
        means = {name: float(sums[name]) / int(sums["count"]) for name in self.metrics if name != gain}
        means[gain] = means[self.psnr] - means[f"bicubic_{self.psnr}"]
        return {name: means[name] for name in self.metrics}

    def evaluators(self) -> list[base.Evaluator]:
        """Returns the evaluations of every task, which say at the end how they measured."""
        return [
            dataclasses.replace(evaluator, collector=lambda: _Receipts(self.measures))
            for evaluator in super().evaluators()
        ]

    def first_examples(self, split: str, count: int) -> dict[str, np.ndarray]:
        """Returns the first pictures of a split; of different sizes, the middle of each."""
        source = self.dataset.splits[split]
        if self.config.data.image_size or isinstance(source, ArraySource):
            return super().first_examples(split, count)
        examples = [source[i] for i in range(min(count, len(source)))]
        return {
            "image": patches.common_window([example["image"] for example in examples], self.scale),
            "label": np.stack([example["label"] for example in examples]),
        }

    def pictures(self, state: TrainState, constants: base.Constants, batch: base.Batch) -> base.Arrays:
        """Returns the images in low resolution (its pixels enlarged), by bicubic interpolation, restored and as is.

        'error' is the absolute error of the restored, a mean over channels, eightfold, in gray.
        """
        del constants
        original = upscaling.cropped(batch["image"], self.scale)
        low = self.reduce(base.to_unit(original))
        restored = upscaling.restore_rgb(*self._network(state), low)
        return {
            "low_resolution": base.to_bytes(jnp.repeat(jnp.repeat(low, self.scale, 1), self.scale, 2)),
            "bicubic": base.to_bytes(upscaling.enlarge(low, self.scale)),
            "restored": base.to_bytes(restored),
            "original": original,
            "error": base.to_bytes(
                _ERROR_SHOWN * jnp.mean(jnp.abs(restored - base.to_unit(original)), -1, keepdims=True)
            ),
        }


@dataclasses.dataclass(frozen=True)
class _Measure:
    """A function of (images, references, shave) -> [N], and what is to be known of its figures."""

    function: Callable[[jax.Array, jax.Array, int], jax.Array]
    protocol: image_quality.Protocol


class _Pictures:
    """The loader of a split: patches to train on, pictures to evaluate."""

    data: Mapping[str, jax.Array] = {}

    def __init__(self, task: SuperResolution, loader: Loader):
        self.task, self.loader, self.source = task, loader, loader.source

    def train(self, batch_size: int, seed: int, start: int = 0) -> Any:
        """See `PatchLoader.train`."""
        task, loader = self.task, self.loader
        made = patches.PatchLoader(
            self.source, task.pairs, patch=task.patch, scale=task.scale, transform=loader.eval_transform
        )
        return made.train(batch_size, seed, start)

    def evaluation(self, batch_size: int) -> Any:
        """See `Loader.evaluation`."""
        if self.loader.eval_transform is not None or isinstance(self.source, ArraySource):
            return self.loader.evaluation(batch_size)
        return patches.WholePictures(self.source, self.loader.mesh).evaluation(batch_size)


class _Receipts(base.Collector):
    """Says how figures were measured."""

    def __init__(self, measures: Mapping[str, "_Measure"]):
        self.measures = measures
        self.outputs: dict[str, list[np.ndarray]] = {}

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        for name, values in outputs.items():
            self.outputs.setdefault(name, []).append(values)

    def metrics(self) -> dict[str, float]:
        return {}

    def final(self) -> base.Measured:
        found = {name: np.concatenate(values) for name, values in self.outputs.items()}
        receipts = {
            name: measure.protocol.receipt(name, float(values.mean()), len(values))
            for name, values in found.items()
            if (measure := self.measures.get(name.removeprefix("bicubic_")))
        }
        return base.Measured({}, receipts)


def _unit(images: jax.Array) -> jax.Array:
    """Bytes to float32 in [0, 1]; float32 is in it already."""
    return base.to_unit(images) if images.dtype == jnp.uint8 else images


def _bytes(images: np.ndarray) -> np.ndarray:
    """As `base.to_bytes`, on the host."""
    return np.round(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)


def _without_border(images: jax.Array, border: int) -> jax.Array:
    return images[:, border:-border, border:-border] if border else images

"""Trained and published networks at work on pictures, and what in a picture decided.

Grad-CAM is Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017 (arXiv 1610.02391): the last feature map, its channels weighted by the mean gradient of the class's logit, above
zero.
"""

import concurrent.futures
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vision_jax.data.decode import ImageError
from vision_jax.models.network import Network
from vision_jax.pretrained.classifiers import ImageClassifier as ImageClassifier
from vision_jax.pretrained.classifiers import TrainedRun as TrainedRun
from vision_jax.pretrained.classifiers import classifier_of_run as classifier_of_run
from vision_jax.pretrained.classifiers import open_run as open_run
from vision_jax.pretrained.classifiers import preprocessing_of_run as preprocessing_of_run
from vision_jax.pretrained.classifiers import pretrained_classifier as pretrained_classifier


@dataclasses.dataclass
class Answer:
    """What was found on one picture: (class name, index, probability), best first; or why nothing was."""

    image: str
    predictions: list[tuple[str, int, float]] = dataclasses.field(default_factory=list)
    error: str = ""
    explanation: str = ""


def predict(
    network: ImageClassifier,
    paths: Iterable[pathlib.Path],
    *,
    top: int,
    batch_size: int,
    explain_in: pathlib.Path | None = None,
) -> Iterator[Answer]:
    """Yields an answer for each path, in order; pictures are decoded in threads and computed in batches.

    Args:
        network: what to ask.
        paths: picture files.
        top: how many classes to name; at most as many as there are.
        batch_size: pictures at a time, at most.
        explain_in: folder for Grad-CAM pictures, if they are wanted.
    """
    top = min(top, len(network.class_names))
    variables = jax.device_put(network.variables)
    size, channels = network.preprocessing.crop, network.channels
    stage = ""
    if explain_in is not None:
        explain_in.mkdir(parents=True, exist_ok=True)
        shape = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
        stage = last_map(network.model, variables, shape)

    @jax.jit
    def best(variables, images):
        return jax.lax.top_k(jax.nn.softmax(network.logits(variables, images)), top)

    @jax.jit
    def explained(variables, images, classes):
        return grad_cam(network.model, variables, network.normalize(images), classes, stage)

    def opened(path: pathlib.Path) -> np.ndarray | str:
        try:
            return network.open(path)
        except (ImageError, OSError) as error:
            return str(error) if isinstance(error, ImageError) else f"{path}: {error.strerror or error}"

    def answer(good: list[tuple[int, Answer, np.ndarray]]) -> None:
        """Fills in the answers of the pictures (number, answer, image) of one batch."""
        padded = min(batch_size, 1 << (len(good) - 1).bit_length())  # few sizes, so few programs
        batch = np.zeros((padded, size, size, channels), np.uint8)
        batch[: len(good)] = [image for _, _, image in good]
        probabilities, classes = jax.device_get(best(variables, batch))
        for row, (_, found, _) in enumerate(good):
            pairs = zip(classes[row].tolist(), probabilities[row].tolist(), strict=True)
            found.predictions = [(network.class_names[c], c, p) for c, p in pairs]
        if explain_in is None:
            return
        maps = np.asarray(explained(variables, batch, classes[:, 0]))
        for row, (number, found, image) in enumerate(good):
            name = "".join(c if c.isalnum() else "_" for c in found.predictions[0][0])
            target = explain_in / f"{number:05d}_{pathlib.Path(found.image).stem}_{name}.png"
            overlay(image, maps[row]).save(target)
            found.explanation = str(target)

    numbered = enumerate(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while chunk := list(itertools.islice(numbered, batch_size)):
            answers, good = [], []
            images = pool.map(opened, [path for _, path in chunk])
            for (number, path), image in zip(chunk, images, strict=True):
                answers.append(Answer(str(path), error=image if isinstance(image, str) else ""))
                if not isinstance(image, str):
                    good.append((number, answers[-1], image))
            if good:
                answer(good)
            yield from answers


def _intercepted(stage_function: Callable[[str, jax.Array], jax.Array]) -> Any:
    """Returns a context in which every feature map that a network keeps goes through `stage_function(stage, map)`."""

    def interceptor(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "keep" and isinstance(context.module, Network):
            stage, value = args
            args = (stage, stage_function(stage, value))
        return call(*args, **kwargs)

    return nn.intercept_methods(interceptor)


def last_map(model: Network, variables: Mapping[str, Any], images: jax.ShapeDtypeStruct) -> str:
    """Returns the stage of the last feature map [N, H, W, C] with more than one position.

    Raises:
        ValueError: the network has none, as perceptrons.
    """
    maps: list[str] = []

    def look(stage: str, value: jax.Array) -> jax.Array:
        if value.ndim == 4 and value.shape[1] * value.shape[2] > 1:
            maps.append(stage)
        return value

    with _intercepted(look):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
    if not maps:
        raise ValueError(f"{type(model).__name__} has no feature map with positions; nothing can be shown on a picture")
    return maps[-1]


def grad_cam(
    model: Network, variables: Mapping[str, Any], images: jax.Array, classes: jax.Array, stage: str
) -> jax.Array:
    """Returns float32 [N, h, w], at least 0, in the resolution of the feature map (pure).

    Args:
        model: a classifier.
        variables: its parameters and running statistics.
        images: normalized [N, H, W, C].
        classes: int [N], the class to explain in each picture.
        stage: name of the feature map; see `last_map`.
    """

    def score(shift: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        kept: list[jax.Array] = []

        def move(name: str, value: jax.Array) -> jax.Array:
            if name != stage:
                return value
            kept.append(value)
            return value if shift is None else value + shift

        with _intercepted(move):
            logits = model.apply(variables, images, train=False)
        return jnp.sum(jnp.take_along_axis(logits, classes[:, None], axis=1)), kept[0]

    # The gradient with respect to something added to the map is the gradient with respect to the map.
    map_ = jax.eval_shape(score, None)[1]
    gradient, value = jax.grad(score, has_aux=True)(jnp.zeros(map_.shape, map_.dtype))
    channel_weights = jnp.mean(gradient.astype(jnp.float32), axis=(1, 2), keepdims=True)
    return nn.relu(jnp.sum(channel_weights * value.astype(jnp.float32), axis=-1))


def overlay(image: np.ndarray, cam: np.ndarray) -> Image.Image:
    """Returns a picture with its heat map on top: from blue, nothing, to red, the most in this picture.

    Args:
        image: uint8 [H, W, 1 or 3].
        cam: float32 [h, w], at least 0.
    """
    from matplotlib import colormaps

    peak = float(cam.max())
    scaled = Image.fromarray((cam / peak if peak > 0 else cam).astype(np.float32))
    heat = np.clip(np.asarray(scaled.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)), 0, 1)
    colors = colormaps["turbo"](heat)[..., :3] * 255.0
    gray_or_rgb = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float64)
    return Image.fromarray(np.round(0.55 * gray_or_rgb + 0.45 * colors).astype(np.uint8))

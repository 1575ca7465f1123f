"""Naming what is on pictures, and showing what decided."""

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.data.decode import EXTENSIONS, ImageError
from vision_jax.inference.explain import grad_cam, last_map, overlay
from vision_jax.pretrained.classifiers import ImageClassifier
from vision_jax.report import image_plots
from vision_jax.utils.text import printable

_SIDE = 224  # pixels that small pictures are enlarged to where they are explained


@dataclasses.dataclass
class Answer:
    """What was found on one picture: (class name, index, probability), best first; or why nothing was."""

    image: str
    predictions: list[tuple[str, int, float]] = dataclasses.field(default_factory=list)
    error: str = ""
    explanation: str = ""

    @property
    def label(self) -> str:
        """The likeliest class; '' where the picture was not read."""
        return self.predictions[0][0] if self.predictions else ""

    @property
    def probability(self) -> float:
        """Of the likeliest class; 0 where the picture was not read."""
        return self.predictions[0][2] if self.predictions else 0.0


def picture_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[pathlib.Path]:
    """Yields files as they are named, and of folders all picture files in them at any depth, sorted."""
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
        else:
            yield path


def predict(
    network: ImageClassifier,
    paths: Iterable[pathlib.Path | np.ndarray],
    *,
    top: int,
    batch_size: int,
    explain_in: pathlib.Path | None = None,
) -> Iterator[Answer]:
    """Yields an answer for each path, in order; pictures are decoded in threads and computed in batches.

    Args:
        network: what to ask.
        paths: picture files, or pictures, uint8 [H, W, 3 or 1], which are then called 'array NUMBER'.
        top: how many classes to name; at most as many as there are.
        batch_size: pictures at a time, at most.
        explain_in: folder for pictures beside Grad-CAM of their likeliest class, if they are wanted.
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

    def opened(path: pathlib.Path | np.ndarray) -> np.ndarray | str:
        try:
            return network.open(path)
        except (ImageError, OSError) as error:
            return (
                str(error) if isinstance(error, ImageError) else f"{path}: {getattr(error, 'strerror', None) or error}"
            )

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
            _explanation(target, image, maps[row], found.label, found.probability)
            found.explanation = str(target)

    numbered = enumerate(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while chunk := list(itertools.islice(numbered, batch_size)):
            answers, good = [], []
            images = pool.map(opened, [path for _, path in chunk])
            for (number, path), image in zip(chunk, images, strict=True):
                name = f"array {number}" if isinstance(path, np.ndarray) else printable(str(path))
                answers.append(Answer(name, error=printable(image) if isinstance(image, str) else ""))
                if not isinstance(image, str):
                    good.append((number, answers[-1], image))
            if good:
                answer(good)
            yield from answers


def _explanation(path: pathlib.Path, image: np.ndarray, cam: np.ndarray, name: str, probability: float) -> None:
    """Draws the prepared picture, uint8 [S, S, C], and beside it what decided for a class, float32 [h, w]."""
    shown = np.asarray(overlay(image, cam))
    pair = np.stack([np.broadcast_to(image, shown.shape), shown])[None]
    columns = ("picture", f"{name}, {100 * probability:.1f}\u00a0%")
    image_plots.image_table(path, pair, scale=max(round(_SIDE / len(image)), 1), columns=columns, gap=8)

"""Trained and published classifiers with everything that using them takes: preprocessing and names of the classes."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vision_jax import models
from vision_jax.data import decode, transforms
from vision_jax.models import network_options
from vision_jax.models.network import Classifier
from vision_jax.pretrained import extractors, weights
from vision_jax.pretrained.runs import TrainedRun, open_run
from vision_jax.pretrained.weights import Preprocessing


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """A classifier that takes pictures as they are decoded.

    Attributes:
        name: what it is, for people.
        model: the network.
        variables: its parameters and running statistics.
        preprocessing: of a picture.
        channels: 3, or 1 for a network that was trained on gray images.
        class_names: of its outputs.
        note: a sentence about something that had to be assumed, or ''.
    """

    name: str
    model: Classifier
    variables: dict[str, Any]
    preprocessing: Preprocessing
    channels: int
    class_names: tuple[str, ...]
    note: str = ""

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """Returns uint8 [crop, crop, channels] of a decoded picture, uint8 [H, W, 3]."""
        steps = self.preprocessing
        view = transforms.ResizeCenterCrop(steps.resize, steps.crop, steps.interpolation)
        image = view({"image": picture})["image"]
        return np.asarray(Image.fromarray(image).convert("L"))[..., None] if self.channels == 1 else image

    def open(self, picture: pathlib.Path | np.ndarray) -> np.ndarray:
        """Returns the prepared image of a file or of an array, uint8 [H, W, 3 or 1].

        Raises:
            ImageError, OSError: a file that is none.
            ValueError: an array of another type or shape.
        """
        if not isinstance(picture, np.ndarray):
            return self.prepare(decode.decode_image(picture))
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (1,), (3,)):
            raise ValueError(
                f"Expected a picture, uint8 [H, W, 3] or gray [H, W, 1]; found {picture.dtype} {list(picture.shape)}."
            )
        return self.prepare(np.broadcast_to(picture.reshape(*picture.shape[:2], -1), (*picture.shape[:2], 3)))

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8 [N, H, W, C], or float32 in [0, 1], to what the network sees, float32."""
        mean, std = (jnp.asarray(values, jnp.float32) for values in (self.preprocessing.mean, self.preprocessing.std))
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255.0
        return (images - mean) / std

    def logits(self, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        """float32 [N, K] of images as `normalize` takes them (pure; `variables` is an argument, not compiled in)."""
        return self.model.apply(variables, self.normalize(images), train=False)


def classifier_of_run(workdir: pathlib.Path, step: int | str = "best") -> ImageClassifier:
    """Returns the classifier that a run has trained; see `open_run`.

    Raises:
        CheckpointError: as `open_run`.
        ValueError: the run trained something else.
    """
    return _classifier(open_run(workdir, step, "classification"), workdir)


def _classifier(trained: TrainedRun, workdir: pathlib.Path) -> ImageClassifier:
    config = trained.config
    model = models.build(
        config.model.name,
        num_classes=len(trained.class_names),
        dtype=jnp.dtype(config.train.dtype),
        **network_options.given(config.model, config.model.name),
    )
    name = f"{config.model.name} of {workdir}, step {trained.step}"
    channels = trained.image_shape[-1]
    preprocessing = preprocessing_of_run(trained)
    return ImageClassifier(name, model, trained.variables["model"], preprocessing, channels, trained.class_names)


def preprocessing_of_run(run: TrainedRun) -> Preprocessing:
    """Returns what a photo has to go through to look like the images that the run evaluated.

    Raises:
        ValueError: these were not square.
    """
    height, width, _ = run.image_shape
    if height != width:
        raise ValueError(f"the run was trained on images of {height}×{width}; only square ones can be made of photos")
    data = run.config.data
    resize = round(data.image_size / data.crop_fraction) if data.image_size else height
    mean, std = tuple(data.mean or (0.0,)), tuple(data.std or (1.0,))
    return Preprocessing(resize, height, data.interpolation, mean, std)


def pretrained_classifier(name: str, source: str = "") -> ImageClassifier:
    """Returns a classifier with published weights, or with those in a file.

    Args:
        name: the network.
        source: as `weights` of `vision_jax.pretrained.weights.load`; by default the network's published weights.

    Raises:
        ValueError: no such network or weights, or a network that is no classifier.
        DownloadError: the weights cannot be fetched.
    """
    model, variables, record = weights.load_classifier(name, source)
    assert record.preprocessing is not None  # `load_classifier` finds one, or says so.
    classes, row = model.num_classes, weights.published(name)
    names = record.class_names
    if names is None or len(names) != classes:
        names = weights.class_names(row.classes) if row is not None and row.classes else ()
    if len(names) != classes:
        names = tuple(f"class {i}" for i in range(classes))
    channels = (record.input_shape or models.entry(name).input_shape)[-1]
    called = f"{name}, {record.source}"
    return ImageClassifier(called, model, variables, record.preprocessing, channels, names, record.note)


def extractor_of_run(workdir: pathlib.Path, step: int | str = "best") -> extractors.Extractor:
    """Returns the classifier that a run has trained as a measure of images: `fd_<its network>`.

    Raises:
        CheckpointError, ValueError: as `classifier_of_run`.
    """
    trained = open_run(workdir, step, "classification")
    network = _classifier(trained, workdir)
    return extractors.of_classifier(
        trained.config.model.name, network.model, network.variables, network.preprocessing, network.channels
    )

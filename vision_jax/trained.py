"""Trained networks ready for use: from a run's workdir, or pretrained by name or file.

A classifier is handed out with everything that using it takes: its preprocessing and the names of its classes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict
from PIL import Image

from vision_jax import checkpoints, models
from vision_jax import config as config_lib
from vision_jax.data import decode, transforms
from vision_jax.models.network import Classifier
from vision_jax.pretrained import weights
from vision_jax.pretrained.weights import Preprocessing


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run has made.

    Attributes:
        config: the options of the run.
        step: the checkpoint's.
        variables: Flax variables of each network by name ('model'; 'generator', 'discriminator'), as evaluated: with
            the averaged parameters where there are any. NumPy arrays.
        class_names: of the data set.
        image_shape: (H, W, C) of what the run trained on.
    """

    config: ConfigDict
    step: int
    variables: dict[str, dict[str, Any]]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]


def open_workdir(workdir: pathlib.Path, step: int | str = "best") -> Trained:
    """Reads a checkpoint of a run; neither its data nor its optimiser is needed.

    Args:
        workdir: folder of the run.
        step: number of the checkpoint, 'best' or 'newest'.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    restored = checkpoints.read(workdir, step)
    try:
        dataset = json.loads((pathlib.Path(workdir) / "dataset.json").read_text())
        class_names, image_shape = tuple(dataset["class_names"]), tuple(dataset["image_shape"])
    except (OSError, ValueError, KeyError) as error:
        raise checkpoints.CheckpointError(
            f"{workdir}/dataset.json, which names the classes, cannot be read ({error}); continuing the run writes it."
        ) from error
    groups: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for path, array in restored.state.items():
        if path.startswith("networks/"):
            _, network, part, leaf = path.split("/", 3)
            groups.setdefault(network, {}).setdefault(part, {})[leaf] = array
    variables = {
        network: {
            "params": _nested(parts.get("params", {}) | parts.get("averaged", {}) | parts.get("fixed", {})),
            "batch_stats": _nested(parts.get("batch_stats", {})),
        }
        for network, parts in groups.items()
    }
    config = config_lib.from_dict(restored.config)
    return Trained(config, restored.step, variables, class_names, image_shape)


def _nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return traverse_util.unflatten_dict(flat, sep="/")


@dataclasses.dataclass(frozen=True)
class Usable:
    """A classifier that takes pictures as they are decoded.

    Attributes:
        name: what it is, for people.
        model: the network.
        variables: its parameters and running statistics.
        preprocessing: of a picture.
        channels: 3, or 1 for a network that was trained on grey images.
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

    def open(self, path: pathlib.Path) -> np.ndarray:
        """Returns the prepared image of a file; raises `decode.ImageError` or `OSError` when it is none."""
        return self.prepare(decode.decode_image(path))

    def normalise(self, images: jax.Array) -> jax.Array:
        """uint8 [N, H, W, C] to what the network sees, float32."""
        mean, std = (jnp.asarray(values, jnp.float32) for values in (self.preprocessing.mean, self.preprocessing.std))
        return (images.astype(jnp.float32) / 255.0 - mean) / std

    def logits(self, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        """float32 [N, K] of uint8 images (pure; `variables` is an argument so that it is no constant when compiled)."""
        return self.model.apply(variables, self.normalise(images), train=False)


def classifier_of_run(workdir: pathlib.Path, step: int | str = "best") -> Usable:
    """Returns the classifier that a run has trained; see `open_workdir`.

    Raises:
        CheckpointError: as `open_workdir`.
        ValueError: the run trained something else.
    """
    trained = open_workdir(workdir, step)
    config = trained.config
    if config.task != "classification":
        raise ValueError(f"{workdir} is a run of the task {config.task!r}; only 'classification' names classes")
    model = models.build(
        config.model.name,
        num_classes=len(trained.class_names),
        dtype=jnp.dtype(config.train.dtype),
        **config_lib.network_options(config),
    )
    name = f"{config.model.name} of {workdir}, step {trained.step}"
    channels = trained.image_shape[-1]
    return Usable(name, model, trained.variables["model"], preprocessing_of_run(trained), channels, trained.class_names)


def preprocessing_of_run(run: Trained) -> Preprocessing:
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


def pretrained_classifier(name: str, source: str = "") -> Usable:
    """Returns a classifier with published weights, or with those in a file.

    Args:
        name: the network.
        source: as `weights` of `vision_jax.pretrained.weights.load`; by default the network's published weights.

    Raises:
        ValueError: no such network or weights, or a network that is no classifier.
        DownloadError: the weights cannot be fetched.
    """
    row = weights.published(name)
    if not source:
        if row is None:
            raise ValueError(f"{name} has no published weights; name a file of weights")
        source = row.weights
    variables, record = weights.load(name, source)
    model = models.build(name, **record.options)
    if not isinstance(model, Classifier):
        raise ValueError(f"{name} is no classifier")
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    classes = flat[f"{model.head_layers[0]}/bias"].size
    model = model.clone(num_classes=classes)
    note, preprocessing = "", record.preprocessing
    if preprocessing is None:
        if row is None:
            raise ValueError(
                f"nothing is known about the preprocessing of {record.source}, and {name} has no published weights to "
                "take it from; convert the file with vision_jax.tools.port_weights, which keeps it"
            )
        preprocessing = row.preprocessing
        note = f"Nothing is known about the preprocessing of {record.source}; using that of {row.source}."
    names = record.class_names
    if names is None or len(names) != classes:
        names = weights.class_names(row.classes) if row is not None and row.classes else ()
    if len(names) != classes:
        names = tuple(f"class {i}" for i in range(classes))
    channels = (record.input_shape or models.entry(name).input_shape)[-1]
    return Usable(f"{name}, {record.source}", model, variables, preprocessing, channels, names, note)

"""Teachers of knowledge distillation: trained runs or published networks, constants of the task that learns from them.

A teacher is named as 'FOLDER' of a run of classification, as 'NETWORK' with published weights, or 'NETWORK:FILE'.
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vision_jax import models
from vision_jax.checkpoints import CheckpointError
from vision_jax.data.sources import Dataset
from vision_jax.pretrained import classifiers
from vision_jax.pretrained.classifiers import ImageClassifier
from vision_jax.tasks import base, classification_losses
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

_OPTION = "config.classification.distillation.teachers"


class Teachers:
    """The networks that a task learns from.

    Attributes:
        networks: by the names that they have among the task's constants.
        temperature: of their probabilities.
    """

    def __init__(self, names: Sequence[str], temperature: float, dataset: Dataset, channels: int):
        self.temperature = temperature
        self.networks = {f"teacher{i}": _opened(name) for i, name in enumerate(names, 1)}
        for name, network in zip(names, self.networks.values(), strict=True):
            _check(name, network, dataset, channels)

    def constants(self) -> dict[str, base.Tree]:
        """Returns the teachers' variables by name."""
        return {name: network.variables for name, network in self.networks.items()}

    def log_probabilities(self, constants: base.Constants, images: jax.Array) -> jax.Array:
        """Returns the logarithm of the teachers' mean probabilities at the temperature, float32 [N, K].

        Args:
            constants: the task's.
            images: float32 [N, H, W, C] in [0, 1], resized for a teacher that takes another size.
        """
        logits = []
        for name, network in self.networks.items():
            side = network.preprocessing.crop
            shape = (images.shape[0], side, side, images.shape[-1])
            sized = images if images.shape == shape else jax.image.resize(images, shape, "bilinear")
            logits.append(network.logits(constants[name], sized).astype(jnp.float32))
        return jax.lax.stop_gradient(classification_losses.softened(logits, self.temperature))


def _opened(name: str) -> ImageClassifier:
    if pathlib.Path(name).is_dir():
        try:
            return classifiers.classifier_of_run(pathlib.Path(name))
        except (CheckpointError, ValueError) as error:
            raise ConfigError(f"{_OPTION}: {error}") from error
    network, _, file = name.partition(":")
    if network not in models.MODELS:
        raise ConfigError(
            f"{_OPTION} names {name!r}, neither the folder of a run (train the teacher first) nor 'NETWORK' or "
            f"'NETWORK:FILE'{closest(network, models.MODELS)}"
        )
    return classifiers.pretrained_classifier(network, file)


def _check(name: str, network: ImageClassifier, dataset: Dataset, channels: int) -> None:
    """Raises `ConfigError` unless a teacher names the data set's classes, in their order, from such images."""
    found, expected = network.class_names, dataset.class_names
    unnamed = all(label == f"class {i}" for i, label in enumerate(found))
    if len(found) != len(expected) or (found != tuple(expected) and not unnamed):
        raise ConfigError(
            f"{_OPTION}: {name} knows {len(found)} classes ({', '.join(found[:3])}, …), {dataset.name} has "
            f"{len(expected)} ({', '.join(expected[:3])}, …). A teacher has the same classes in the same order."
        )
    if network.channels != channels:
        raise ConfigError(
            f"{_OPTION}: {name} takes images of {network.channels} channel(s), those of {dataset.name} have {channels}."
        )

"""The networks of a GAN, built from its config for the images that they make and judge."""

from collections.abc import Sequence

import jax.numpy as jnp
from ml_collections import ConfigDict

from vision_jax import models
from vision_jax.models import network_options, registry


def build(config: ConfigDict, part: str, image_shape: Sequence[int], classes: int) -> models.Network:
    """Returns the network 'NAME_generator' or 'NAME_discriminator', NAME being `config.model.name`.

    Args:
        config: of the run.
        part: 'generator' or 'discriminator'.
        image_shape: (H, W, C), of square images.
        classes: that a conditional GAN is told apart; 0 where it is told none.

    Raises:
        ValueError: as `models.build`.
    """
    name = f"{config.model.name}_{part}"
    of_data = {
        "image_size": image_shape[0],
        "channels": image_shape[2],
        "image_shape": tuple(image_shape),
        "latent": config.gan.latent_dim,
        "classifies": classes > 0 and config.gan.classifier > 0,
    }
    return models.build(
        name,
        num_classes=classes,
        dtype=jnp.dtype(config.train.dtype),
        **{field: value for field, value in of_data.items() if field in registry.values(name)},
        **network_options.given(config.model, name),
    )


def classes(config: ConfigDict, class_names: Sequence[str]) -> int:
    """Returns how many classes the networks are told apart: those of the data, if they are told any."""
    return len(class_names) if config.gan.conditional else 0

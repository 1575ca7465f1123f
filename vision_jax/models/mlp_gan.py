"""Fully connected GAN for small images (MNIST): the generator and discriminator of the first GAN experiments.

Source: Goodfellow et al. 2014 (arXiv 1406.2661). Reference implementation: `torch.nn.Sequential` of Linear layers with
ReLU (generator) and LeakyReLU 0.2 (discriminator).
"""

import math
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import Dense, at_least_float32
from vision_jax.models.network import Network
from vision_jax.utils.options import Between


class MLPGenerator(Network):
    """Noise [N,latent] → images [N,*image_shape] in [-1, 1]: Dense + ReLU per hidden width, Dense, tanh.

    Attributes:
        hidden: widths of the hidden layers.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("image_shape", "latent")

    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden: Annotated[tuple[int, ...], Between(1)] = (256, 512, 1024)
    latent: int = 100

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per hidden layer, then the head."""
        return {**{f"hidden{i}": (f"hidden{i}",) for i in range(1, len(self.hidden) + 1)}, "head": ("head",)}

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Noise [N,latent] → float32 images in [-1, 1]."""
        x = x.astype(self.dtype)
        for i, width in enumerate(self.hidden, 1):
            x = self.keep(f"hidden{i}", nn.relu(Dense(width, dtype=self.dtype, name=f"hidden{i}")(x)))
        x = Dense(math.prod(self.image_shape), dtype=self.dtype, name="head")(x)
        return jnp.tanh(at_least_float32(x)).reshape(-1, *self.image_shape)


class MLPDiscriminator(Network):
    """Images [N,...] in [-1, 1] → logits [N] (positive: real; the sigmoid belongs to the loss).

    Attributes:
        hidden: widths of the hidden layers.
    """

    hidden: Annotated[tuple[int, ...], Between(1)] = (512, 256)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per hidden layer, then the head."""
        return {**{f"hidden{i}": (f"hidden{i}",) for i in range(1, len(self.hidden) + 1)}, "head": ("head",)}

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images → float32 logits [N]."""
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for i, width in enumerate(self.hidden, 1):
            x = self.keep(f"hidden{i}", nn.leaky_relu(Dense(width, dtype=self.dtype, name=f"hidden{i}")(x), 0.2))
        self.keep("features", x)
        return at_least_float32(Dense(1, dtype=self.dtype, name="head")(x)[:, 0])

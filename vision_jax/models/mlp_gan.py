"""Fully connected GAN for small images (MNIST): the generator and discriminator of the first GAN experiments.

Source: Goodfellow et al. 2014 (arXiv 1406.2661). Reference implementation: `torch.nn.Sequential` of Linear layers with
ReLU (generator) and LeakyReLU 0.2 (discriminator).
"""

import math
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.adversarial_layers import (
    ClassEmbedding,
    ClassProjection,
    MinibatchDiscrimination,
    SpectralNorm,
)
from vision_jax.models.layers import Dense, Dropout, at_least_float32
from vision_jax.models.network import AdversarialNetwork, Discriminator
from vision_jax.utils.options import Between, OneOf


class MLPGenerator(AdversarialNetwork):
    """Noise [N,latent] → images [N,*image_shape] in [-1, 1]: Dense + ReLU per hidden width, Dense, tanh.

    Attributes:
        hidden: widths of the hidden layers.
        embedding: size of the vector of the class that a conditional generator gets beside the noise.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("image_shape", "latent")

    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden: Annotated[tuple[int, ...], Between(1)] = (256, 512, 1024)
    latent: int = 100
    embedding: Annotated[int, Between(1)] = 32

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per hidden layer, then the head."""
        label = {"class": ("class",)} if self.num_classes else {}
        return {**label, **{f"hidden{i}": (f"hidden{i}",) for i in range(1, len(self.hidden) + 1)}, "head": ("head",)}

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Noise [N,latent] → float32 images in [-1, 1]."""
        if label is not None:
            embedded = ClassEmbedding(self.num_classes, self.embedding, name="class")(label)
            x = jnp.concatenate([x, embedded.astype(x.dtype)], -1)
        x = x.astype(self.dtype)
        for i, width in enumerate(self.hidden, 1):
            x = self.keep(f"hidden{i}", nn.relu(Dense(width, dtype=self.dtype, name=f"hidden{i}")(x)))
        x = Dense(math.prod(self.image_shape), dtype=self.dtype, name="head")(x)
        return jnp.tanh(at_least_float32(x)).reshape(-1, *self.image_shape)


class MLPDiscriminator(Discriminator):
    """Images [N,...] in [-1, 1] → logits [N] (positive: real; the sigmoid belongs to the loss).

    Attributes:
        hidden: widths of the hidden layers.
        dropout: share of their activations that training drops.
        spectral_norm: divide all kernels by their largest singular value.
        minibatch: what the last layer sees of the other images: 'none' or 'discrimination'.
    """

    hidden: Annotated[tuple[int, ...], Between(1)] = (512, 256)
    dropout: Annotated[float, Between(0, 1)] = 0.0
    spectral_norm: bool = False
    minibatch: Annotated[str, OneOf(("none", "discrimination"))] = "none"

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per hidden layer, then the head."""
        extra = ("minibatch",) * (self.minibatch == "discrimination") + self.class_modules
        return {**{f"hidden{i}": (f"hidden{i}",) for i in range(1, len(self.hidden) + 1)}, "head": ("head", *extra)}

    def _dense(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        dense = Dense(features, dtype=self.dtype, name=name)
        return SpectralNorm(dense, name=f"spectral_{name}")(x, train=train) if self.spectral_norm else dense(x)

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Images → float32 logits [N]."""
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for i, width in enumerate(self.hidden, 1):
            x = self.keep(f"hidden{i}", nn.leaky_relu(self._dense(x, width, f"hidden{i}", train), 0.2))
            x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        self.keep_scores(self.keep("features", x))
        seen = MinibatchDiscrimination(name="minibatch")(x) if self.minibatch == "discrimination" else x
        logits = at_least_float32(self._dense(seen, 1, "head", train)[:, 0])
        if label is not None:
            logits += ClassProjection(self.num_classes, name="class")(x, label)
        return logits

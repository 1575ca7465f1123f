"""DCGAN generator and discriminator for square images of 8, 16, 32 or 64 pixels.

Source: Radford, Metz & Chintala 2016 (arXiv 1511.06434). Reference implementation: the PyTorch DCGAN example's layers
(ConvTranspose2d and Conv2d of 4×4, no bias, weights from a normal of 0.02) at the widths of the CIFAR-100 experiment.
What later papers add is optional, and named in `adversarial_layers`.
"""

from typing import Annotated, ClassVar

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.adversarial_layers import (
    MINIBATCH,
    ClassEmbedding,
    ClassModulation,
    ClassProjection,
    MinibatchDiscrimination,
    SpectralNorm,
    minibatch_stddev,
)
from vision_jax.models.layers import BatchNorm, Conv, ConvTranspose, Dense, at_least_float32
from vision_jax.models.network import AdversarialNetwork, Discriminator
from vision_jax.utils.options import Between, OneOf

_KERNEL = nn.initializers.normal(0.02)


def _scale_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """BatchNorm scales around one, deviation 0.02, as the DCGAN recipe draws them."""
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


def _upsamplings(image_size: int) -> int:
    """Number of stride-2 layers between 4×4 and the image."""
    sizes = {8: 1, 16: 2, 32: 3, 64: 4}
    if image_size not in sizes:
        raise ValueError(
            f"DCGAN images are 8, 16, 32 or 64 pixels wide, not {image_size}; photos become that by "
            "config.data.image_size"
        )
    return sizes[image_size]


class DCGANGenerator(AdversarialNetwork):
    """Noise [N,latent] → images [N,S,S,channels] in [-1, 1].

    A 4×4 transposed convolution, then one of stride 2 per doubling; BatchNorm and ReLU after all but the last, tanh.

    Attributes:
        width: channels before the last layer; each earlier layer has twice as many.
        embedding: size of the vector of the class that a conditional generator gets beside the noise.
        modulation: the class also scales and shifts what BatchNorm normalized.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("image_size", "channels", "latent")

    image_size: int = 32
    channels: int = 3
    width: Annotated[int, Between(1)] = 32
    latent: int = 100
    embedding: Annotated[int, Between(1)] = 32
    modulation: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per transposed convolution; the last is the head."""
        n = _upsamplings(self.image_size)
        label = {"class": ("class",)} if self.num_classes else {}
        modulated = self.modulation and self.num_classes > 0
        ups = {f"up{i}": (f"convt{i}", f"norm{i}") + (f"modulation{i}",) * modulated for i in range(n)}
        return {**label, **ups, "head": (f"convt{n}",)}

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Noise [N,latent] → float32 images in [-1, 1]."""
        n = _upsamplings(self.image_size)
        if label is not None:
            embedded = ClassEmbedding(self.num_classes, self.embedding, name="class")(label)
            x = jnp.concatenate([x, embedded.astype(x.dtype)], -1)
        x = x.reshape(x.shape[0], 1, 1, -1).astype(self.dtype)
        for i in range(n):
            stride, padding = (1, 0) if i == 0 else (2, 1)
            up = ConvTranspose(
                self.width * 2 ** (n - 1 - i),
                4,
                stride,
                padding,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=_KERNEL,
                name=f"convt{i}",
            )
            x = BatchNorm(dtype=self.dtype, scale_init=_scale_init, name=f"norm{i}")(up(x), train=train)
            if label is not None and self.modulation:
                x = ClassModulation(name=f"modulation{i}")(x, embedded)
            x = self.keep(f"up{i}", nn.relu(x))
        x = ConvTranspose(
            self.channels, 4, 2, 1, use_bias=False, dtype=self.dtype, kernel_init=_KERNEL, name=f"convt{n}"
        )(x)
        return jnp.tanh(at_least_float32(x))


class DCGANDiscriminator(Discriminator):
    """Images [N,S,S,channels] in [-1, 1] → logits [N] (positive: real).

    Convolutions 4×4 of stride 2 down to 4×4 pixels with LeakyReLU 0.2, BatchNorm on all
    but the first, then a valid 4×4 convolution to one value.

    Attributes:
        width: channels of the first layer; each later layer has twice as many.
        norm: 'batch', or 'none' (as gradient penalties ask for, which are of single images).
        spectral_norm: divide all kernels by their largest singular value.
        minibatch: what the last layer sees of the other images: 'none', 'discrimination' or 'stddev'.
        residual: how many of the first layers are each followed by a residual 3×3 convolution (He et al. 2016, arXiv
            1512.03385).
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("image_size", "channels")

    image_size: int = 32
    channels: int = 3
    width: Annotated[int, Between(1)] = 32
    norm: Annotated[str, OneOf(("batch", "none"))] = "batch"
    spectral_norm: bool = False
    minibatch: Annotated[str, OneOf(MINIBATCH)] = "none"
    residual: Annotated[int, Between(0, 4)] = 0

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per strided convolution, then the head."""
        n = _upsamplings(self.image_size)
        downs = {
            f"down{i}": (f"conv{i}",)
            + (f"norm{i}",) * (i > 0 and self.norm == "batch")
            + (f"residual{i}",) * (i < self.residual)
            + (f"residual_norm{i}",) * (i < self.residual and self.norm == "batch")
            for i in range(n)
        }
        extra = ("minibatch", "closeness") * (self.minibatch == "discrimination") + self.class_modules
        return {**downs, "head": (f"conv{n}", *extra)}

    def _conv(
        self, x: jax.Array, features: int, stride: int, padding: int, name: str, train: bool, kernel: int = 4
    ) -> jax.Array:
        conv = Conv(
            features,
            (kernel, kernel),
            (stride, stride),
            padding,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_KERNEL,
            name=name,
        )
        return SpectralNorm(conv, name=f"spectral_{name}")(x, train=train) if self.spectral_norm else conv(x)

    def _norm(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        if self.norm == "none":
            return x
        return BatchNorm(dtype=self.dtype, scale_init=_scale_init, name=name)(x, train=train)

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Images → float32 logits [N]."""
        n = _upsamplings(self.image_size)
        expected = (self.image_size, self.image_size, self.channels)
        if x.shape[1:] != expected:
            raise ValueError(
                f"this DCGAN discriminator takes images {expected}, not {x.shape[1:]}; "
                "set image_size and channels, or resize the images"
            )
        x = x.astype(self.dtype)
        for i in range(n):
            x = self._conv(x, self.width * 2**i, 2, 1, f"conv{i}", train)
            x = nn.leaky_relu(self._norm(x, f"norm{i}", train) if i > 0 else x, 0.2)
            if i < self.residual:
                change = self._conv(x, x.shape[-1], 1, 1, f"residual{i}", train, kernel=3)
                x = nn.leaky_relu(x + self._norm(change, f"residual_norm{i}", train), 0.2)
            x = self.keep(f"down{i}", x)
        self.keep("features", x.reshape(x.shape[0], -1))
        if self.minibatch == "stddev":
            x = minibatch_stddev(x)
        logits = at_least_float32(self._conv(x, 1, 1, 0, f"conv{n}", train).reshape(x.shape[0]))
        pooled = at_least_float32(x).sum((1, 2))
        if self.minibatch == "discrimination":
            seen = MinibatchDiscrimination(name="minibatch")(pooled)[:, pooled.shape[-1] :]
            logits += Dense(1, name="closeness")(seen)[:, 0]
        self.keep_scores(pooled)
        if label is not None:
            logits += ClassProjection(self.num_classes, name="class")(pooled, label)
        return logits

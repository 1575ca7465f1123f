"""Residual generator and discriminator without normalization, for the regularized relativistic loss.

Source: Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline" (arXiv 2501.05441), its
configuration E: stages of inverted bottlenecks with grouped 3×3 convolutions, bilinear resampling between them, the
last convolution of every block starting at zero. The widths are those of its experiments on CIFAR-10.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.adversarial_layers import ClassEmbedding
from vision_jax.models.layers import Conv, Dense, at_least_float32
from vision_jax.models.network import AdversarialNetwork, Discriminator
from vision_jax.utils.options import Between

_SLOPE = 0.2
_GAIN = math.sqrt(2.0 / (1.0 + _SLOPE**2))


def _init(gain: float) -> Callable:
    """Normal of variance gain² / inputs; zeros where the gain is 0."""
    if not gain:
        return nn.initializers.zeros
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


class R3GANBlock(nn.Module):
    """1×1 up to `expansion` times the channels, grouped 3×3, 1×1 back, and the shortcut."""

    expansion: int
    groups: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,H,W,C] → the same shape. `depth` is the number of blocks of the network, which the gains depend on."""
        width, inner = x.shape[-1], x.shape[-1] * self.expansion
        gain = _GAIN * self.depth ** (-1.0 / 4.0)  # Of three layers, as Zhang et al. 2019 (Fixup, arXiv 1901.09321).

        def conv(features: int, size: int, gain: float, groups: int, use_bias: bool, name: str) -> Conv:
            return Conv(
                features,
                (size, size),
                padding=size // 2,
                feature_group_count=groups,
                use_bias=use_bias,
                dtype=self.dtype,
                kernel_init=_init(gain),
                name=name,
            )

        y = nn.leaky_relu(conv(inner, 1, gain, 1, True, "conv1")(x), _SLOPE)
        y = nn.leaky_relu(conv(inner, 3, gain, self.groups, True, "conv2")(y), _SLOPE)
        return x + conv(width, 1, 0.0, 1, False, "conv3")(y)


class R3GANNetwork(AdversarialNetwork):
    """What both networks share.

    Attributes:
        blocks: residual blocks per stage.
        expansion: channels inside a block over those outside.
        group_size: channels per group of the 3×3 convolutions.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("image_size", "channels")

    image_size: int = 32
    channels: int = 3
    widths: Annotated[tuple[int, ...], Between(1)] = (768, 768, 768, 768)
    blocks: Annotated[int, Between(1)] = 2
    expansion: Annotated[int, Between(1)] = 2
    group_size: Annotated[int, Between(1)] = 16
    embedding: Annotated[int, Between(1)] = 64

    def block(self, width: int, name: str) -> R3GANBlock:
        """Returns a block of `width` channels outside."""
        inner = width * self.expansion
        if inner % self.group_size:
            raise ValueError(
                f"group_size={self.group_size} does not divide the {inner} channels inside a block; choose a divisor"
            )
        depth = len(self.widths) * self.blocks
        return R3GANBlock(self.expansion, inner // self.group_size, depth, self.dtype, name=name)

    def check_size(self) -> None:
        """Raises ValueError where as many stages make images of another size."""
        made = 4 * 2 ** (len(self.widths) - 1)
        if self.image_size != made:
            raise ValueError(
                f"{len(self.widths)} stages make images of {made} pixels, not {self.image_size}; change the number of "
                "widths or config.data.image_size"
            )


class R3GANGenerator(R3GANNetwork):
    """Noise [N,latent] → images [N,S,S,channels] in [-1, 1]; S is 4, doubled by each stage after the first.

    The paper's generator ends without a bound; here tanh holds the images to the range that all discriminators see.

    Attributes:
        widths: channels of each stage, 4×4 first.
        embedding: size of the vector of the class that a conditional generator gets beside the noise.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("latent",)

    latent: int = 64

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """The learned 4×4 basis, one stage per resolution, the head."""
        first = ("class",) * (self.num_classes > 0) + ("linear", "basis")
        return {"basis": first, **_stages(self.widths, self.blocks, "up"), "head": ("head",)}

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Noise [N,latent] → float32 images in [-1, 1]."""
        self.check_size()
        if label is not None:
            embedded = ClassEmbedding(self.num_classes, self.embedding, name="class")(label)
            x = jnp.concatenate([x, embedded.astype(x.dtype)], -1)
        linear = Dense(self.widths[0], use_bias=False, dtype=self.dtype, kernel_init=_init(1.0), name="linear")
        basis = self.param("basis", nn.initializers.normal(1.0), (4, 4, self.widths[0]), jnp.float32)
        x = self.keep("basis", linear(x.astype(self.dtype))[:, None, None] * basis.astype(self.dtype))
        for number, width in enumerate(self.widths):
            if number and width != x.shape[-1]:
                x = _pointwise(width, self.dtype, f"up{number}")(x)
            if number:
                x = _resized(x, 2 * x.shape[1])
            for block in range(self.blocks):
                x = self.block(width, f"stage{number}_{block}")(x)
            x = self.keep(f"stage{number}", x)
        return jnp.tanh(at_least_float32(_pointwise(self.channels, self.dtype, "head")(x)))


class R3GANDiscriminator(Discriminator, R3GANNetwork):
    """Images [N,S,S,channels] in [-1, 1] → logits [N] (positive: real).

    Attributes:
        widths: channels of each stage, the images' resolution first.
        embedding: size of the vector that a conditional logit is the inner product of with the class's.
    """

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """The stem, one stage per resolution, the learned 4×4 basis and the head."""
        last = ("basis", "head", *self.class_modules)
        return {"stem": ("stem",), **_stages(self.widths, self.blocks, "down"), "head": last}

    @nn.compact
    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Images → float32 logits [N]."""
        self.check_size()
        expected = (self.image_size, self.image_size, self.channels)
        if x.shape[1:] != expected:
            raise ValueError(f"this discriminator takes images {expected}, not {x.shape[1:]}; resize the images")
        x = self.keep("stem", _pointwise(self.widths[0], self.dtype, "stem")(x.astype(self.dtype)))
        for number, width in enumerate(self.widths):
            if number:
                x = _resized(x, x.shape[1] // 2)
            if number and width != x.shape[-1]:
                x = _pointwise(width, self.dtype, f"down{number}")(x)
            for block in range(self.blocks):
                x = self.block(width, f"stage{number}_{block}")(x)
            x = self.keep(f"stage{number}", x)
        kernel = self.param("basis", nn.initializers.normal(0.25), (4, 4, self.widths[-1]), jnp.float32)
        x = self.keep("features", jnp.einsum("nhwc,hwc->nc", x, kernel.astype(self.dtype)))
        self.keep_scores(x)
        outputs = 1 if label is None else self.embedding
        head = Dense(outputs, use_bias=False, dtype=self.dtype, kernel_init=_init(1.0), name="head")
        x = at_least_float32(head(x))
        if label is None:
            return x[:, 0]
        shape, scale = (self.num_classes, self.embedding), 1.0 / math.sqrt(self.embedding)
        return jnp.sum(x * self.param("class", nn.initializers.normal(scale), shape, jnp.float32)[label], -1)


def _pointwise(features: int, dtype: Any, name: str) -> Conv:
    return Conv(features, (1, 1), use_bias=False, dtype=dtype, kernel_init=_init(1.0), name=name)


def _resized(x: jax.Array, size: int) -> jax.Array:
    """Bilinear to `size` pixels squared; half the size is the mean of 2×2 pixels."""
    n, height, _, channels = x.shape
    if size < height:
        return x.reshape(n, size, height // size, size, height // size, channels).mean((2, 4))
    return jax.image.resize(x, (n, size, size, channels), "bilinear")


def _stages(widths: tuple[int, ...], blocks: int, change: str) -> dict[str, tuple[str, ...]]:
    changes = [(f"{change}{i}",) if i and width != widths[i - 1] else () for i, width in enumerate(widths)]
    return {f"stage{i}": (*changes[i], *(f"stage{i}_{block}" for block in range(blocks))) for i in range(len(widths))}

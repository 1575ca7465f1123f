"""A residual network for 32×32 images that has to do with few parameters, and with little time on a CPU.

Where channels are few, blocks are the two 3×3 convolutions of He et al. 2016 (arXiv 1512.03385): their parameters are
cheap, and maps are so large that passes over memory are what takes time. Where channels are many and maps small, a
depthwise and a pointwise convolution (Howard et al. 2017, MobileNets, 1704.04861) take the place of a 3×3, C² + 9 C
parameters of 9 C². Shortcuts have none: averages of 2×2 pixels, new channels zero.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import (
    BatchNorm,
    Dense,
    Dropout,
    activation,
    at_least_float32,
    avg_pool,
    global_avg_pool,
    square_conv,
)
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between


class TinyResNet(Classifier):
    """[N,H,W,C] → logits [N,num_classes].

    Attributes:
        channels: of each stage; every stage after the first halves the resolution.
        blocks: in each stage.
        separable: of each stage, whether its blocks are a depthwise and a pointwise convolution, or two of 3×3.
        activation: a name that `layers.activation` knows.
        dropout: rate before the head.
    """

    num_classes: int = 100
    channels: Annotated[tuple[int, ...], Between(1)] = (16, 32, 80)
    blocks: Annotated[tuple[int, ...], Between(1)] = (2, 1, 4)
    separable: tuple[bool, ...] = (False, False, True)
    activation: str = "relu"
    dropout: Annotated[float, Between(0, 0.95)] = 0.0

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, stages of blocks, head."""
        stages = {
            f"stage{i}": tuple(f"stage{i}_{j}" for j in range(1, count + 1)) for i, count in enumerate(self.blocks, 1)
        }
        return {"stem": ("stem", "stem_norm"), **stages, "head": ("dropout", "head")}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("head",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits."""
        counts = {len(self.channels), len(self.blocks), len(self.separable)}
        if len(counts) > 1:
            raise ValueError(
                "channels, blocks and separable have a value per stage each; found "
                f"{len(self.channels)}, {len(self.blocks)} and {len(self.separable)} values"
            )
        act = activation(self.activation)
        x = square_conv(self.channels[0], 3, 1, self.dtype, "stem")(x.astype(self.dtype))
        x = self.keep("stem", act(BatchNorm(dtype=self.dtype, name="stem_norm")(x, train=train)))
        stages = zip(self.channels, self.blocks, self.separable, strict=True)
        for i, (features, count, separable) in enumerate(stages, 1):
            for j in range(1, count + 1):
                stride = 2 if i > 1 and j == 1 else 1
                x = Block(features, stride, separable, self.activation, self.dtype, name=f"stage{i}_{j}")(
                    x, train=train
                )
            x = self.keep(f"stage{i}", x)
        x = self.keep("features", global_avg_pool(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="head")(x))


class Block(nn.Module):
    """Two convolutions, the first with the stride, and the shortcut; separable: depthwise, then pointwise."""

    features: int
    stride: int
    separable: bool
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,features]."""
        act, inputs = activation(self.activation), x.shape[-1]
        if x.shape[1] % self.stride or x.shape[2] % self.stride:
            raise ValueError(
                f"tiny_resnet halves its maps, and one of {x.shape[1]}×{x.shape[2]} has no half; with three stages, "
                "images need sides that are multiples of 4"
            )
        hidden, groups, side = (inputs, inputs, 1) if self.separable else (self.features, 1, 3)
        y = square_conv(hidden, 3, self.stride, self.dtype, "conv1", groups)(x)
        y = act(BatchNorm(dtype=self.dtype, name="norm1")(y, train=train))
        y = square_conv(self.features, side, 1, self.dtype, "conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="norm2")(y, train=train)
        if self.stride > 1:
            x = avg_pool(x, self.stride, self.stride)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - inputs)))
        return act(y + x)

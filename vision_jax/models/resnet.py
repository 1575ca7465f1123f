"""Residual networks: torchvision's ResNet, ResNeXt and Wide ResNet, and the narrow ones made for CIFAR.

Sources: He et al. 2016 (arXiv 1512.03385), Xie et al. 2017 (ResNeXt, 1611.05431), Zagoruyko & Komodakis 2016 (Wide
ResNet, 1605.07146). Reference implementations: `torchvision.models.resnet` (bottlenecks carry the stride in the 3×3
convolution) and akamaster/pytorch_resnet_cifar10 for resnet20/32/44/56. Modules carry the references' names.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import BatchNorm, Dense, at_least_float32, global_avg_pool, max_pool, square_conv
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between, OneOf

STEMS = ("imagenet", "cifar")


class ResNet(Classifier):
    """torchvision's ResNet family; [N,H,W,3] → logits [N,num_classes].

    Attributes:
        blocks: residual blocks in each of the four stages.
        width: channels of the stem and of the first stage, 64 in torchvision; each later stage has twice as many.
        bottleneck: 1×1, 3×3, 1×1 blocks with four times the channels at the end, instead of two 3×3.
        groups: groups of the bottleneck's 3×3 convolution (32 in ResNeXt).
        width_per_group: base width of the bottleneck's 3×3 convolution (128 in Wide ResNet-50-2).
        stem: 'imagenet' (7×7 of stride 2 and max-pooling) or 'cifar' (3×3 of stride 1), for small images.
        zero_init_residual: start each block as the identity (its last BatchNorm scale at zero).
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: Annotated[int, Between(1)] = 64
    bottleneck: bool = False
    groups: int = 1
    width_per_group: int = 64
    stem: Annotated[str, OneOf(STEMS)] = "imagenet"
    zero_init_residual: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, four stages of blocks, head."""
        layers = {f"layer{i}": (f"layer{i}",) for i in range(1, len(self.blocks) + 1)}
        return {"stem": ("conv1", "bn1"), **layers, "head": ("fc",)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("fc",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits."""
        if self.stem not in STEMS:
            raise ValueError(f"stem is {self.stem!r}; it can be {', '.join(STEMS)}")
        side, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = square_conv(self.width, side, stride, self.dtype, "conv1")(x.astype(self.dtype))
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train=train))
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, 1)
        x = self.keep("stem", x)
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        for i, blocks in enumerate(self.blocks):
            stage = Stage(
                blocks,
                self.width * 2**i,
                1 if i == 0 else 2,
                self.bottleneck,
                self.groups,
                self.width_per_group,
                last_scale,
                self.dtype,
                name=f"layer{i + 1}",
            )
            x = self.keep(f"layer{i + 1}", stage(x, train=train))
        x = self.keep("features", global_avg_pool(x))
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="fc")(x))


class Stage(nn.Module):
    """Residual blocks at one resolution; the first has the stride."""

    blocks: int
    planes: int
    stride: int
    bottleneck: bool
    groups: int
    width_per_group: int
    last_scale: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,C']."""
        for i in range(self.blocks):
            stride = self.stride if i == 0 else 1
            if self.bottleneck:
                width = self.planes * self.width_per_group // 64 * self.groups
                block: nn.Module = Bottleneck(
                    self.planes, width, stride, self.groups, self.last_scale, self.dtype, name=str(i)
                )
            else:
                block = BasicBlock(self.planes, stride, self.last_scale, self.dtype, name=str(i))
            x = block(x, train=train)
        return x


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut."""

    planes: int
    stride: int
    last_scale: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,planes]."""
        y = square_conv(self.planes, 3, self.stride, self.dtype, "conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = square_conv(self.planes, 3, 1, self.dtype, "conv2")(y)
        y = BatchNorm(dtype=self.dtype, scale_init=self.last_scale, name="bn2")(y, train=train)
        return nn.relu(y + _shortcut(x, self.planes, self.stride, self.dtype, train))


class Bottleneck(nn.Module):
    """1×1 to `width`, 3×3 with stride and groups, 1×1 to 4·planes, and the shortcut."""

    planes: int
    width: int
    stride: int
    groups: int
    last_scale: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,4·planes]."""
        y = square_conv(self.width, 1, 1, self.dtype, "conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = square_conv(self.width, 3, self.stride, self.dtype, "conv2", self.groups)(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn2")(y, train=train))
        y = square_conv(4 * self.planes, 1, 1, self.dtype, "conv3")(y)
        y = BatchNorm(dtype=self.dtype, scale_init=self.last_scale, name="bn3")(y, train=train)
        return nn.relu(y + _shortcut(x, 4 * self.planes, self.stride, self.dtype, train))


def _shortcut(x: jax.Array, features: int, stride: int, dtype: Any, train: bool) -> jax.Array:
    """The input, projected where the shape changes. Called inside a block, whose submodules it makes."""
    if x.shape[-1] == features and stride == 1:
        return x
    x = square_conv(features, 1, stride, dtype, "downsample_0")(x)
    return BatchNorm(dtype=dtype, name="downsample_1")(x, train=train)


class CifarResNet(Classifier):
    """ResNet of 6n + 2 layers for 32×32 images: 16, 32 and 64 channels, parameter-free shortcuts (option A).

    Where the shape changes, the shortcut takes every second pixel and pads the new channels with zeros.

    Attributes:
        blocks_per_stage: residual blocks in each of the three stages, n above.
    """

    num_classes: int = 10
    blocks_per_stage: Annotated[int, Between(1)] = 3

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, three stages of blocks, head."""
        return {"stem": ("conv1", "bn1"), **{s: (s,) for s in ("layer1", "layer2", "layer3")}, "head": ("linear",)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("linear",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits."""
        x = square_conv(16, 3, 1, self.dtype, "conv1")(x.astype(self.dtype))
        x = self.keep("stem", nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train=train)))
        for i in range(3):
            stage = CifarStage(self.blocks_per_stage, 16 * 2**i, 1 if i == 0 else 2, self.dtype, name=f"layer{i + 1}")
            x = self.keep(f"layer{i + 1}", stage(x, train=train))
        x = self.keep("features", global_avg_pool(x))
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="linear")(x))


class CifarStage(nn.Module):
    """Basic blocks with option-A shortcuts; the first has the stride."""

    blocks: int
    planes: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,planes]."""
        for i in range(self.blocks):
            x = CifarBlock(self.planes, self.stride if i == 0 else 1, self.dtype, name=str(i))(x, train=train)
        return x


class CifarBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters."""

    planes: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,planes]."""
        y = square_conv(self.planes, 3, self.stride, self.dtype, "conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = square_conv(self.planes, 3, 1, self.dtype, "conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train=train)
        if self.stride != 1 or x.shape[-1] != self.planes:
            side = self.planes // 4
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (side, side)))
        return nn.relu(y + x)

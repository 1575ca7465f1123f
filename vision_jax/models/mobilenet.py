"""MobileNet-v2: inverted residuals with depthwise convolutions.

Source: Sandler et al. 2018 (arXiv 1801.04381). Reference implementation: `torchvision.models.mobilenetv2`, whose
sequence numbers the modules carry (`features_2/conv_0_1` is torchvision's `features.2.conv.0.1`).
"""

from typing import Annotated, Any

import flax.linen as nn
import jax

from vision_jax.models.layers import BatchNorm, Dense, Dropout, at_least_float32, global_avg_pool, square_conv
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between

# Expansion, channels, blocks, stride of the first: Table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(Classifier):
    """[N,H,W,3] → logits [N,num_classes].

    Attributes:
        width: multiplier of the channel counts, which are rounded to multiples of 8.
        dropout: rate before the head.
    """

    width: float = 1.0
    dropout: Annotated[float, Between(0, 0.95)] = 0.2

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, the paper's seven stages, the last 1×1 convolution, head."""
        stages: dict[str, tuple[str, ...]] = {"stem": ("features_0",)}
        index = 1
        for i, (_, _, blocks, _) in enumerate(_STAGES, 1):
            stages[f"stage{i}"] = tuple(f"features_{j}" for j in range(index, index + blocks))
            index += blocks
        return {**stages, "last": (f"features_{index}",), "head": ("classifier_0", "classifier_1")}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("classifier_1",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits."""
        stem = ConvNorm(_multiple_of_8(32 * self.width), 3, 2, self.dtype, name="features_0")
        x = self.keep("stem", stem(x.astype(self.dtype), train=train))
        index = 1
        for i, (expansion, channels, blocks, stride) in enumerate(_STAGES, 1):
            features = _multiple_of_8(channels * self.width)
            for j in range(blocks):
                block = InvertedResidual(
                    features, expansion, stride if j == 0 else 1, self.dtype, name=f"features_{index}"
                )
                x = block(x, train=train)
                index += 1
            x = self.keep(f"stage{i}", x)
        last = ConvNorm(_multiple_of_8(1280 * max(1.0, self.width)), 1, 1, self.dtype, name=f"features_{index}")
        x = self.keep("last", last(x, train=train))
        x = self.keep("features", global_avg_pool(x))
        x = Dropout(self.dropout, name="classifier_0")(x, train=train)
        head = Dense(self.num_classes, dtype=self.dtype, kernel_init=nn.initializers.normal(0.01), name="classifier_1")
        return at_least_float32(head(x))


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, ReLU6."""

    features: int
    side: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,features]."""
        x = square_conv(self.features, self.side, self.stride, self.dtype, "0")(x)
        return nn.relu6(BatchNorm(dtype=self.dtype, name="1")(x, train=train))


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times the channels, depthwise 3×3, linear 1×1; the input is added where shapes allow."""

    features: int
    expansion: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/stride,W/stride,features]."""
        y, index, hidden = x, 0, x.shape[-1] * self.expansion
        if self.expansion != 1:
            y = square_conv(hidden, 1, 1, self.dtype, "conv_0_0")(y)
            y = nn.relu6(BatchNorm(dtype=self.dtype, name="conv_0_1")(y, train=train))
            index = 1
        y = square_conv(hidden, 3, self.stride, self.dtype, f"conv_{index}_0", groups=hidden)(y)
        y = nn.relu6(BatchNorm(dtype=self.dtype, name=f"conv_{index}_1")(y, train=train))
        y = square_conv(self.features, 1, 1, self.dtype, f"conv_{index + 1}")(y)
        y = BatchNorm(dtype=self.dtype, name=f"conv_{index + 2}")(y, train=train)
        return x + y if x.shape == y.shape else y


def _multiple_of_8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8 and not below nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8

"""A small convolutional network that a config shapes: blocks of convolutions, then a dense head.

Named settings of it (in registry.py) are the CIFAR-100 `small_filters_cnn`, the garbage classifier's 3-layer CNN, the
2-convolution SVHN CNN and the 3-block BatchNorm CIFAR-10 CNN. Reference implementation: the same layers in
`torch.nn.Sequential`. Sources: LeCun et al. 1998; residual connections He et al. 2016; squeeze-excite Hu et al. 2018;
self-attention Zhang et al. 2019.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax

from vision_jax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    SelfAttention,
    SqueezeExcite,
    activation,
    at_least_float32,
    avg_pool,
    global_avg_pool,
    kaiming_fan_in,
    max_pool,
    per_block,
)
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between, OneOf
from vision_jax.utils.text import closest

NORMS = ("none", "batch")
POOLS = ("max", "avg", "stride")
PADDINGS = ("SAME", "VALID")


class CNN(Classifier):
    """Convolution blocks, flatten (or global mean), dense layers; [N,H,W,C] → logits [N,num_classes].

    Attributes:
        channels: output channels of each block.
        convs_per_block: convolutions in a block, each followed by normalization and activation.
        kernel_size: side of every kernel.
        norm: 'none' or 'batch'.
        activation: a name that `layers.activation` knows.
        pool: end of each block: 2×2 'max' or 'avg', or 'stride': the block's last convolution has stride 2.
        padding: 'SAME' or 'VALID'.
        use_bias: whether convolutions have a bias.
        block_dropout: dropout rate after each block, one number or one per block.
        dropout: rate after each hidden dense layer (with none, before the head).
        hidden: widths of the dense layers before the head.
        residual: add each block's input (1×1 projection where the channels change) before pooling.
        squeeze_excite: channel gates at the end of each block.
        attention: self-attention over positions after the last block's pooling.
        global_pool: global mean instead of flattening, so that parameters do not depend on the image size.
    """

    num_classes: int = 10
    channels: Annotated[tuple[int, ...], Between(1)] = (32, 64, 128)
    convs_per_block: Annotated[int, Between(1)] = 1
    kernel_size: Annotated[int, Between(1)] = 3
    norm: Annotated[str, OneOf(NORMS)] = "none"
    activation: str = "relu"
    pool: Annotated[str, OneOf(POOLS)] = "max"
    padding: str = "SAME"
    use_bias: bool = True
    block_dropout: Annotated[float | tuple[float, ...], Between(0, 0.95)] = 0.0
    dropout: Annotated[float, Between(0, 0.95)] = 0.0
    hidden: tuple[int, ...] = ()
    residual: bool = False
    squeeze_excite: bool = False
    attention: bool = False
    global_pool: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per block, then 'attention' and 'hidden' where there are, then the head."""
        stages: dict[str, tuple[str, ...]] = {f"block{i}": (f"block{i}",) for i in range(1, len(self.channels) + 1)}
        if self.attention:
            stages["attention"] = ("attention",)
        if self.hidden:
            ids = range(1, len(self.hidden) + 1)
            stages["hidden"] = tuple(f"hidden{i}" for i in ids) + tuple(f"dropout{i}" for i in ids[:-1])
        return {**stages, "head": ("dropout", "head")}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("head",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits."""
        _check("norm", self.norm, NORMS)
        _check("pool", self.pool, POOLS)
        padding = self.padding.upper()
        _check("padding", padding, PADDINGS)
        if self.residual and padding == "VALID":
            raise ValueError("residual adds a block's input to its output, which 'VALID' makes smaller; use 'SAME'")
        act = activation(self.activation)
        x = x.astype(self.dtype)
        rates = per_block(self.block_dropout, len(self.channels), "block_dropout")
        for i, (features, rate) in enumerate(zip(self.channels, rates, strict=True), 1):
            block = Block(
                features,
                self.convs_per_block,
                self.kernel_size,
                self.norm,
                self.activation,
                self.pool,
                padding,
                self.use_bias,
                self.residual,
                self.squeeze_excite,
                rate,
                self.dtype,
                name=f"block{i}",
            )
            x = self.keep(f"block{i}", block(x, train=train))
        if self.attention:
            x = self.keep("attention", SelfAttention(dtype=self.dtype, name="attention")(x))
        x = global_avg_pool(x) if self.global_pool else x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden, 1):
            x = act(Dense(width, dtype=self.dtype, kernel_init=kaiming_fan_in, name=f"hidden{i}")(x))
            if i < len(self.hidden):
                x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        x = self.keep("features", x)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="head")(x))


class Block(nn.Module):
    """(Convolution, normalization, activation) × convs, with gate, shortcut, pooling and dropout as asked."""

    features: int
    convs: int
    kernel_size: int
    norm: str
    activation: str
    pool: str
    padding: str
    use_bias: bool
    residual: bool
    squeeze_excite: bool
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/2,W/2,features], less the border that 'VALID' convolutions cost."""
        act, k = activation(self.activation), self.kernel_size
        pads = ((0, 0), (0, 0)) if self.padding == "VALID" else (((k - 1) // 2, k // 2),) * 2
        shortcut = x
        for i in range(1, self.convs + 1):
            last = i == self.convs
            stride = 2 if last and self.pool == "stride" else 1
            conv = Conv(
                self.features,
                (k, k),
                (stride, stride),
                pads,
                use_bias=self.use_bias,
                dtype=self.dtype,
                kernel_init=kaiming_fan_in,
                name=f"conv{i}",
            )
            x = conv(x)
            if self.norm == "batch":
                x = BatchNorm(dtype=self.dtype, name=f"norm{i}")(x, train=train)
            if last and self.squeeze_excite:
                x = SqueezeExcite(dtype=self.dtype, name="gate")(x)
            if last and self.residual:
                if shortcut.shape[-1] != self.features or stride == 2:
                    project = Conv(
                        self.features,
                        (1, 1),
                        (stride, stride),
                        0,
                        use_bias=self.use_bias,
                        dtype=self.dtype,
                        kernel_init=kaiming_fan_in,
                        name="project",
                    )
                    shortcut = project(shortcut)
                x = x + shortcut
            x = act(x)
        if self.pool == "max":
            x = max_pool(x, 2, 2)
        elif self.pool == "avg":
            x = avg_pool(x, 2, 2)
        return Dropout(self.dropout, name="dropout")(x, train=train)


def _check(option: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f"{option} is {value!r}{closest(value, valid)}; it can be {', '.join(valid)}")

"""Building blocks shared by all networks: convolutions, BatchNorm with PyTorch's conventions, pooling by number.

Convolutions and pooling go through `vision_jax.ops`, which picks the formulation; networks never call XLA directly.

References: Ioffe & Szegedy 2015 (BatchNorm, arXiv 1502.03167); the running-variance update and the ceil-mode and
adaptive pooling windows are those of PyTorch (`torch.nn.BatchNorm2d`, `MaxPool2d`, `AdaptiveAvgPool2d`), against
which tests/parity checks every network.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from vision_jax import ops
from vision_jax.utils.text import closest

# Kaiming-normal over the outputs, torchvision's choice for convolutions followed by ReLU (He et al. 2015).
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
kaiming_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# torch.nn.Linear's default for the kernel: uniform within ±1/sqrt(inputs). Biases start at zero everywhere here.
linear_uniform = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "swish": nn.silu,
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation function called `name`: relu, relu6, leaky_relu (slope 0.2), swish = silu, gelu (exact), tanh.

    Raises:
        ValueError: no activation has that name.
    """
    if name not in _ACTIVATIONS:
        valid = tuple(_ACTIVATIONS)
        raise ValueError(f"no activation is called {name!r}{closest(name, valid)}; there are {', '.join(valid)}")
    return _ACTIVATIONS[name]


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in float32, or as it is where that is wider."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


class Conv(nn.Conv):
    """`flax.linen.Conv` computed by `vision_jax.ops`: [N,H,W,C] → [N,H',W',features], kernel HWIO in float32.

    `padding` is an int (as in PyTorch), 'SAME', 'VALID' or pairs of ints.
    """

    conv_general_dilated: Any = ops.conv_general_dilated
    kernel_init: Any = kaiming_fan_out


def square_conv(
    features: int,
    side: int,
    stride: int,
    dtype: Any,
    name: str,
    groups: int = 1,
    kernel_init: Any = kaiming_fan_out,
) -> Conv:
    """A `side` × `side` convolution without bias before a normalization, which at stride 1 keeps the size."""
    return Conv(
        features,
        (side, side),
        (stride, stride),
        side // 2,
        use_bias=False,
        feature_group_count=groups,
        dtype=dtype,
        kernel_init=kernel_init,
        name=name,
    )


class ConvTranspose(nn.Module):
    """Transposed convolution [N,H,W,C] → [N,H',W',features], kernel [h,w,C,features] (DCGAN's upsampling layer).

    Same geometry as `torch.nn.ConvTranspose2d`: H' = (H - 1) * stride - 2 * padding + kernel_size + output_padding.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = kaiming_fan_in
    output_padding: int = 0

    @nn.compact
    def __call__(self, x: Float[Array | np.ndarray, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        """Upsample `x`."""
        k = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1], self.features), jnp.float32)
        side = (k - 1 - self.padding, k - 1 - self.padding + self.output_padding)
        strides = (self.stride,) * 2
        y = ops.conv_transpose(jnp.asarray(x, self.dtype), kernel.astype(self.dtype), strides, (side, side))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y


class PReLU(nn.Module):
    """x where it is positive, else x times a learned slope per channel, which starts at 0.25 (He et al. 2015)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """Bend `x`."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:], jnp.float32)
        return jnp.where(x >= 0, x, x * slope.astype(self.dtype))


class Dense(nn.Dense):
    """`flax.linen.Dense` with `torch.nn.Linear`'s uniform kernel initialization and a zero bias."""

    kernel_init: Any = linear_uniform


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, with `torch.nn.BatchNorm2d`'s conventions.

    running = (1 - momentum) * running + momentum * batch: `momentum` is the weight of the *new* value (PyTorch's
    convention; Flax writes 1 - momentum). The batch is normalized with the biased variance, the running variance takes
    the unbiased one (n / (n - 1)). Statistics are float32 and, under `jit` over a mesh, those of the global batch.

    With `train=False` the running statistics normalize and nothing is updated.

    Raises:
        ValueError: training with one value per channel, whose variance says nothing.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    scale_init: Any = nn.initializers.ones
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"], *, train: bool) -> Float[Array, "*n c"]:
        """Normalize `x` per channel."""
        channels = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, channels, jnp.float32) if self.use_scale else 1.0
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        x32 = at_least_float32(x)
        if train and not self.is_initializing():
            mean, var = ops.moments(x32, running_mean.value)
            n = x.size // x.shape[-1]
            if n < 2:
                raise ValueError(
                    f"BatchNorm {'/'.join(self.path)} got one value per channel (input shape {x.shape}) in training, "
                    "which has no variance; use a batch of at least two images, or larger images"
                )
            running_mean.value = (1 - self.momentum) * running_mean.value + self.momentum * mean
            running_var.value = (1 - self.momentum) * running_var.value + self.momentum * (var * (n / (n - 1)))
        else:
            mean, var = running_mean.value, running_var.value
        return ops.normalize(x32, mean, lax.rsqrt(var + self.epsilon) * scale, bias).astype(self.dtype)


class Dropout(nn.Module):
    """Inverted dropout with rng stream 'dropout'; the identity when `train` is False or `rate` is 0."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """Zero each value with probability `rate`, scale the others by 1 / (1 - rate)."""
        if not train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(mask, x / keep, jnp.zeros_like(x))


def max_pool(
    x: Float[Array, "n h w c"], window: int, stride: int, padding: int = 0, ceil_mode: bool = False
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over square windows, output size as `torch.nn.MaxPool2d` (with `ceil_mode`, partial windows count)."""
    pairs = tuple(
        (padding, padding + (_ceil_extra(n, window, stride, padding) if ceil_mode else 0)) for n in x.shape[1:3]
    )
    return ops.max_pool(x, (window, window), (stride, stride), pairs)


def _ceil_extra(n: int, window: int, stride: int, padding: int) -> int:
    """Cells to add at the end so that the last partial window is counted, unless it would start in the padding."""
    outputs = -(-(n + 2 * padding - window) // stride) + 1
    if (outputs - 1) * stride >= n + padding:
        outputs -= 1
    return max((outputs - 1) * stride + window - (n + 2 * padding), 0)


def avg_pool(
    x: Float[Array, "n h w c"], window: int, stride: int, padding: int = 0, count_include_pad: bool = True
) -> Float[Array, "n h2 w2 c"]:
    """Mean over square windows as `torch.nn.AvgPool2d`."""
    pairs = ((padding, padding),) * 2
    return ops.avg_pool(x, (window, window), (stride, stride), pairs, count_include_pad)


def global_avg_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Mean over height and width, summed in float32."""
    return at_least_float32(x).mean((1, 2)).astype(x.dtype)


def adaptive_avg_pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n {size} {size} c"]:
    """Mean over `size` × `size` cells: cell i is the mean of rows floor(iH/size) … ceil((i+1)H/size) as in PyTorch."""
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_adaptive_windows(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("nhwc,ih,jw->nijc", x, rows, columns)


def _adaptive_windows(n: int, size: int) -> np.ndarray:
    """Averaging weights [size, n]."""
    weights = np.zeros((size, n))
    for i in range(size):
        start, stop = i * n // size, -(-(i + 1) * n // size)
        weights[i, start:stop] = 1.0 / (stop - start)
    return weights


class SqueezeExcite(nn.Module):
    """Channel gates from the globally pooled features (Hu et al. 2018, arXiv 1709.01507), reduction 4 unless told."""

    reduction: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Scale each channel by its gate in (0, 1)."""
        channels = x.shape[-1]
        gate = Dense(max(channels // self.reduction, 4), dtype=self.dtype, name="squeeze")(global_avg_pool(x))
        gate = Dense(channels, dtype=self.dtype, name="excite")(nn.relu(gate))
        return x * nn.sigmoid(gate)[:, None, None, :]


class SelfAttention(nn.Module):
    """Self-attention over positions with a residual gate that starts at zero (SAGAN, Zhang et al. 2019, 1805.08318)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Attend over the H*W positions; cost grows with (H*W)²."""
        n, h, w, c = x.shape
        inner = max(c // 8, 4)
        flat = x.reshape(n, h * w, c)
        query, key = (Dense(inner, dtype=self.dtype, name=name)(flat) for name in ("query", "key"))
        scores = jnp.einsum("nqc,nkc->nqk", query, key) / np.sqrt(inner).astype(self.dtype)
        weights = nn.softmax(at_least_float32(scores)).astype(self.dtype)
        mixed = jnp.einsum("nqk,nkc->nqc", weights, Dense(c, dtype=self.dtype, name="value")(flat))
        gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32).astype(self.dtype)
        return x + gamma * mixed.reshape(x.shape)


def per_block(value: float | Sequence[float], blocks: int, option: str) -> tuple[float, ...]:
    """One value per block from a number (the same for all) or a sequence of that length."""
    values = (value,) * blocks if isinstance(value, int | float) else tuple(value)
    if len(values) != blocks:
        raise ValueError(f"{option} has {len(values)} values for {blocks} blocks; give one number or {blocks} values")
    return values

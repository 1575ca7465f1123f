"""Array functions that every model uses: convolution and pooling. Plain lax formulations for now."""

import jax.numpy as jnp
from jax import lax

conv_general_dilated = lax.conv_general_dilated


def conv_transpose(x, kernel, strides, padding):
    """Transposed convolution, NHWC x HWIO -> NHWC, as `lax.conv_transpose`."""
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _window(x, window, strides, padding):
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return (1, *window, 1), (1, *strides, 1), pads


def max_pool(x, window, strides, padding="VALID"):
    """Maximum over windows of `x` [N, H, W, C]; `padding` is 'SAME', 'VALID' or explicit pairs."""
    dims, steps, pads = _window(x, window, strides, padding)
    return lax.reduce_window(x, -jnp.inf, lax.max, dims, steps, pads)


def avg_pool(x, window, strides, padding="VALID", count_include_pad=True):
    """Mean over windows of `x` [N, H, W, C]."""
    dims, steps, pads = _window(x, window, strides, padding)
    total = lax.reduce_window(x, 0.0, lax.add, dims, steps, pads)
    if count_include_pad:
        return total / (window[0] * window[1])
    return total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, dims, steps, pads)

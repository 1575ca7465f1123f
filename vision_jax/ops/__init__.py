"""Convolutions and pooling that every model goes through (plain formulations for now)."""

import numpy as np
from jax import lax
from jax import numpy as jnp

from vision_jax.ops.convolution import conv_general_dilated as conv_general_dilated
from vision_jax.ops.convolution import conv_transpose as conv_transpose



def _pool_padding(x, window, strides, padding):
    if isinstance(padding, str):
        return lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return [tuple(p) for p in padding]


def max_pool(x, window, strides, padding):
    """Maximum over windows of x [N,H,W,C]; `padding` is 'SAME', 'VALID' or explicit pairs."""
    pads = _pool_padding(x, window, strides, padding)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return lax.reduce_window(
        x, np.asarray(lowest, x.dtype), lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


def avg_pool(x, window, strides, padding, count_include_pad):
    """Mean over windows of x [N,H,W,C]; padding cells count in the divisor if `count_include_pad`."""
    pads = ((0, 0), *_pool_padding(x, window, strides, padding), (0, 0))
    sizes = ((1, *window, 1), (1, *strides, 1), pads)
    zero = np.zeros((), x.dtype)
    total = lax.reduce_window(x, zero, lax.add, *sizes)
    if count_include_pad:
        return total / (window[0] * window[1])
    return total / lax.reduce_window(np.ones((1, *x.shape[1:3], 1), x.dtype), zero, lax.add, *sizes)

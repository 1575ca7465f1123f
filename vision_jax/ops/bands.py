"""Few channels: several neighboring outputs per row of the matrix product.

A product with 27 x 8 weights per pixel leaves a CPU's multipliers idle. Here `b` neighboring outputs share one row
of the left matrix, the pixels that any of them sees, and the right matrix holds the kernel `b` times along a
diagonal band. Some products with zero buy wide matrices, patches of (b + k - 1) / (b k) the size, and long runs of
memory to copy.
"""

import operator
from functools import reduce

import jax
from jax import lax
from jax import numpy as jnp

from vision_jax.ops.formulas import matmul, outer, pad_image
from vision_jax.ops.geometry import Geometry


def _outputs_per_row(g: Geometry, outputs: int) -> int:
    """Enough that the product is 64 wide, as long as at most twice the needed products are made."""
    k, s = g.kernel[1], g.strides[1]
    b = 1
    while b * outputs < 64 and 2 * b <= g.out[1] and (2 * b - 1) * s + k <= 2 * k + s:
        b *= 2
    return b


def _blocks(g: Geometry, x: jax.Array, b: int) -> jax.Array:
    """[N,H,W,C] -> [N*H'*blocks, h*span*C], span = (b - 1) * stride + w pixels."""
    (kh, kw), (sh, sw), (oh, ow) = g.kernel, g.strides, g.out
    n, c = x.shape[0], x.shape[3]
    blocks, step = -(-ow // b), b * sw
    span = step - sw + kw
    pieces = -(-span // step)
    # Room for the last block's last piece; what no window reaches is cut off.
    (top, _), (left, _) = g.pads
    width = (blocks + pieces - 1) * step
    height = (oh - 1) * sh + kh
    x = lax.pad(
        x,
        jnp.zeros((), x.dtype),
        ((0, 0, 0), (top, height - top - g.image[0], 0), (left, width - left - g.image[1], 0), (0, 0, 0)),
    )
    parts = []
    for piece in range(pieces):
        part = x[:, :, piece * step : (piece + blocks) * step].reshape(n, height, blocks, step * c)
        parts.append(part[..., : min(step, span - piece * step) * c])
    wide = lax.optimization_barrier(lax.concatenate(parts, 3))
    rows = [wide[:, i : i + (oh - 1) * sh + 1 : sh] for i in range(kh)]
    return lax.concatenate(rows, 3).reshape(n * oh * blocks, kh * span * c)


def _span(g: Geometry, b: int) -> int:
    return (b - 1) * g.strides[1] + g.kernel[1]


def forward_band(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) -> y without dilation or groups."""
    (kh, kw), s, (oh, ow), (n, c, o) = g.kernel, g.strides[1], g.out, (x.shape[0], x.shape[3], w.shape[3])
    b = _outputs_per_row(g, o)
    span = _span(g, b)
    copies = [jnp.pad(w, ((0, 0), (t * s, span - kw - t * s), (0, 0), (0, 0))) for t in range(b)]
    band = jnp.stack(copies, 3).reshape(kh * span * c, b * o)
    y = matmul(_blocks(g, x, b), band, g.precision)
    return y.reshape(n, oh, -1, o)[:, :, :ow]


def weight_band(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) -> dw for the same convolutions."""
    (kh, kw), s, ow, (c, o) = g.kernel, g.strides[1], g.out[1], (x.shape[3], dy.shape[3])
    b = _outputs_per_row(g, o)
    dy = pad_image(dy, ((0, 0), (0, -ow % b)))
    band = outer(_blocks(g, x, b), dy.reshape(-1, b * o), g.precision).reshape(kh, _span(g, b), c, b, o)
    return reduce(operator.add, (band[:, t * s : t * s + kw, :, t] for t in range(b)))

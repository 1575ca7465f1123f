"""Formulations of a convolution and its two gradients that XLA's CPU compiler turns into fast code.

Each function takes a `Geometry` and the two operands and equals the plain convolution to rounding:
`forward_*`: (x [N,H,W,C], w [h,w,C/g,O]) -> y;  `input_*`: (dy, w) -> dx;  `weight_*`: (x, dy) -> dw.
"""

import dataclasses

import jax
from jax import lax
from jax import numpy as jnp

from vision_jax.ops.geometry import Geometry

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def matmul(a: jax.Array, b: jax.Array, precision=None) -> jax.Array:
    """[M,K] @ [K,L]."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), precision=precision)


def outer(a: jax.Array, b: jax.Array, precision=None) -> jax.Array:
    """[M,K], [M,L] -> [K,L]: contraction over the rows, the shape of every weight gradient."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=precision)


def rows(x: jax.Array) -> jax.Array:
    """[N,H,W,C] -> [N*H*W,C]."""
    return x.reshape(-1, x.shape[-1])


def pad_image(x: jax.Array, pads, interior=(0, 0)) -> jax.Array:
    """Zeros around [N,H,W,C], and `interior` zeros between neighboring rows and columns."""
    (top, bottom), (left, right) = pads
    config = ((0, 0, 0), (top, bottom, interior[0]), (left, right, interior[1]), (0, 0, 0))
    if all(c == (0, 0, 0) for c in config):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def tap(x: jax.Array, g: Geometry, i: int, j: int) -> jax.Array:
    """The padded x's pixels [N,H',W',C] that kernel position (i, j) meets."""
    (oh, ow), (sh, sw), (dh, dw) = g.out, g.strides, g.dilation
    n, c = x.shape[0], x.shape[3]
    start = (0, i * dh, j * dw, 0)
    limit = (n, i * dh + (oh - 1) * sh + 1, j * dw + (ow - 1) * sw + 1, c)
    return lax.slice(x, start, limit, (1, sh, sw, 1))


# Plain: what XLA does by itself, and on every platform but the CPU.


def forward_plain(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """`lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        x,
        w,
        g.strides,
        g.pads,
        rhs_dilation=g.dilation,
        dimension_numbers=DIMENSIONS,
        feature_group_count=g.groups,
        precision=g.precision,
    )


def input_plain(g: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """JAX's own transpose of the convolution with respect to the image."""
    if g.transposed() is None:
        # It would have negative padding, which XLA's CPU compiler gets wrong: 3 taps, padding of (3, 1) becomes
        # (-1, 1) and is taken for none (jaxlib 0.10.2). So the gradient of the padded image, cropped.
        (top, bottom), (left, right) = g.pads
        (height, width) = g.image
        padded = dataclasses.replace(g, image=(top + height + bottom, left + width + right), pads=((0, 0), (0, 0)))
        return input_plain(padded, dy, w)[:, top : top + height, left : left + width]
    channels = w.shape[2] * g.groups
    x = jax.ShapeDtypeStruct((dy.shape[0], *g.image, channels), dy.dtype)
    return jax.linear_transpose(lambda x: forward_plain(g, x, w), x)(dy)[0]


def weight_plain(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """JAX's own transpose of the convolution with respect to the kernel."""
    w = jax.ShapeDtypeStruct((*g.kernel, x.shape[3] // g.groups, dy.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: forward_plain(g, x, w), w)(dy)[0]


# The input gradient as a stride-1 convolution of the spread output gradient with the reversed kernel.


def reversed_kernel(w: jax.Array, groups: int = 1) -> jax.Array:
    """[h,w,C/g,O] -> [h,w,O/g,C], turned by half a turn."""
    h, k, c, o = w.shape
    w = lax.rev(w, (0, 1)).reshape(h, k, c, groups, o // groups)
    return w.transpose(0, 1, 4, 3, 2).reshape(h, k, o // groups, groups * c)


def input_by(forward, g: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The input gradient by the formulation `forward`; spreads dy explicitly where the convolution has a stride."""
    t = g.transposed()
    assert t is not None
    dy = pad_image(dy, ((0, 0), (0, 0)), (g.strides[0] - 1, g.strides[1] - 1))
    return forward(t, dy, reversed_kernel(w, g.groups))


# One matrix product per kernel position.


def _meets(g: Geometry, axis: int, i: int) -> tuple[int, int, int]:
    """Outputs [first, last) whose tap i on this axis falls on the image, and the pixel that the first one meets."""
    n, (lo, _), s, d = g.image[axis], g.pads[axis], g.strides[axis], g.dilation[axis]
    offset = i * d - lo
    first = max(-(offset // s), 0)
    last = min((n - 1 - offset) // s + 1, g.out[axis])
    return first, max(last, first), first * s + offset


def inner_taps(g: Geometry):
    """For each kernel position that meets any pixel: its index, output range per axis and input slice."""
    for i, j in g.taps:
        (r0, r1, y0), (c0, c1, x0) = _meets(g, 0, i), _meets(g, 1, j)
        if r1 > r0 and c1 > c0:
            yield (i, j), (r0, r1), (c0, c1), (y0, x0)


def _crop(x: jax.Array, start, size, strides=(1, 1)) -> jax.Array:
    limit = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, strides, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *limit, x.shape[3]), (1, *strides, 1))


def forward_taps(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Sum over kernel positions of (the pixels it meets) @ w[i, j]; products with padding are never formed."""
    total = None
    for (i, j), (r0, r1), (c0, c1), start in inner_taps(g):
        pixels = _crop(x, start, (r1 - r0, c1 - c0), g.strides)
        y = matmul(rows(pixels), w[i, j], g.precision).reshape(*pixels.shape[:3], -1)
        y = pad_image(y, ((r0, g.out[0] - r1), (c0, g.out[1] - c1)))
        total = y if total is None else total + y
    if total is None:
        return jnp.zeros((x.shape[0], *g.out, w.shape[3]), x.dtype)
    return total


def input_taps(g: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Sum over kernel positions of dy @ w[i, j]ᵀ, each laid onto the pixels it came from."""
    (sh, sw), (h, k) = g.strides, g.image
    total = None
    for (i, j), (r0, r1), (c0, c1), (y0, x0) in inner_taps(g):
        part = _crop(dy, (r0, c0), (r1 - r0, c1 - c0))
        d = matmul(rows(part), w[i, j].T, g.precision).reshape(*part.shape[:3], -1)
        below, right = h - y0 - ((r1 - r0 - 1) * sh + 1), k - x0 - ((c1 - c0 - 1) * sw + 1)
        d = pad_image(d, ((y0, below), (x0, right)), (sh - 1, sw - 1))
        total = d if total is None else total + d
    if total is None:
        return jnp.zeros((dy.shape[0], *g.image, w.shape[2]), dy.dtype)
    return total


def weight_taps(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """One product (pixels)ᵀ @ dy per kernel position."""
    parts = {}
    for ij, (r0, r1), (c0, c1), start in inner_taps(g):
        size = (r1 - r0, c1 - c0)
        parts[ij] = outer(rows(_crop(x, start, size, g.strides)), rows(_crop(dy, (r0, c0), size)), g.precision)
    none = jnp.zeros((x.shape[3], dy.shape[3]), x.dtype)
    return jnp.stack([parts.get(ij, none) for ij in g.taps]).reshape(*g.kernel, *none.shape)


# A kernel as large as the image, no padding: one product, nothing to gather.


def forward_dense(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """All pixels @ the kernel."""
    n, o = x.shape[0], w.shape[3]
    return matmul(x.reshape(n, -1), w.reshape(-1, o), g.precision).reshape(n, 1, 1, o)


def input_dense(g: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Dy @ the kernel's transpose."""
    n, o = dy.shape[0], dy.shape[3]
    return matmul(dy.reshape(n, o), w.reshape(-1, o).T, g.precision).reshape(n, *w.shape[:3])


def weight_dense(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(all pixels)ᵀ @ dy."""
    n, o = dy.shape[0], dy.shape[3]
    return outer(x.reshape(n, -1), dy.reshape(n, o), g.precision).reshape(*x.shape[1:], o)


# Row patches: the pixels that a kernel row meets side by side, one product per kernel row.


def row_patches(g: Geometry, x: jax.Array) -> list[jax.Array]:
    """Per kernel row the pixels of its taps side by side: h arrays [N,H',W',w*C]."""
    (oh, ow), (sh, sw), (dh, dw) = g.out, g.strides, g.dilation
    x = pad_image(x, g.pads)
    n, height = x.shape[:2]
    columns = [
        lax.slice(x, (0, 0, j * dw, 0), (n, height, j * dw + (ow - 1) * sw + 1, x.shape[3]), (1, 1, sw, 1))
        for j in range(g.kernel[1])
    ]
    # Materialized once: fused into each row's slice it would be computed h times.
    wide = lax.optimization_barrier(lax.concatenate(columns, 3))
    return [_crop(wide, (i * dh, 0), (oh, ow), (sh, 1)) for i in range(g.kernel[0])]


def forward_rows(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Sum over kernel rows of (row patches) @ w[i]."""
    parts = [matmul(rows(p), w[i].reshape(-1, w.shape[3]), g.precision) for i, p in enumerate(row_patches(g, x))]
    return sum(parts[1:], parts[0]).reshape(x.shape[0], *g.out, w.shape[3])


def weight_rows(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """One product (row patches)ᵀ @ dy per kernel row."""
    d = rows(dy)
    parts = [outer(rows(p), d, g.precision) for p in row_patches(g, x)]
    return jnp.stack(parts).reshape(*g.kernel, x.shape[3], dy.shape[3])


# Depthwise: no sum over channels, so no product; a multiply-add per kernel position.


def forward_depthwise(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Sum over kernel positions of pixels * w[i, j], one channel at a time (groups = channels = outputs)."""
    x = lax.optimization_barrier(pad_image(x, g.pads))
    parts = [tap(x, g, i, j) * w[i, j, 0] for i, j in g.taps]
    return sum(parts[1:], parts[0])


def weight_depthwise(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """Per kernel position the sum over pixels of pixel * dy."""
    x = lax.optimization_barrier(pad_image(x, g.pads))
    parts = [(tap(x, g, i, j) * dy).sum((0, 1, 2)) for i, j in g.taps]
    return jnp.stack(parts).reshape(*g.kernel, 1, x.shape[3])


# The input gradient of a strided convolution, one convolution for all phases of the image's pixels.


def phases(g: Geometry) -> Geometry | None:
    """The stride-1 convolution of dy with ceil(k / s) taps whose channels are the s * s phases of dx, or None."""
    if g.dilation != (1, 1) or g.groups != 1:
        return None
    taps, pads = [], []
    for n, k, s, (lo, _), out in zip(g.image, g.kernel, g.strides, g.pads, g.out, strict=True):
        taps.append(-(-k // s))
        pads.append((taps[-1] - 1, -(-(n + lo) // s) - out))
    if min(min(p) for p in pads) < 0:
        return None
    return Geometry(g.out, (taps[0], taps[1]), (1, 1), (pads[0], pads[1]), precision=g.precision)


def input_phases(forward, g: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The input gradient by `forward` of `phases(g)`: no product with the zeros between spread outputs."""
    p = phases(g)
    assert p is not None
    (sh, sw), (th, tw), (c, o) = g.strides, p.kernel, w.shape[2:]
    w = jnp.pad(w, ((0, th * sh - w.shape[0]), (0, tw * sw - w.shape[1]), (0, 0), (0, 0)))
    w = lax.rev(w.reshape(th, sh, tw, sw, c, o), (0, 2)).transpose(0, 2, 5, 1, 3, 4).reshape(th, tw, o, sh * sw * c)
    z = forward(p, dy, w)
    n, qh, qw, _ = z.shape
    x = z.reshape(n, qh, qw, sh, sw * c).transpose(0, 1, 3, 2, 4).reshape(n, qh * sh, qw * sw, c)
    (top, _), (left, _) = g.pads
    return x[:, top : top + g.image[0], left : left + g.image[1]]


# The weight gradient with the roles of image and output gradient exchanged.


def weight_swapped(weight, g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """The weight gradient by that of the transposed convolution, whose patches are those of dy: smaller if O < C."""
    t = g.transposed()
    assert t is not None
    dy = pad_image(dy, ((0, 0), (0, 0)), (g.strides[0] - 1, g.strides[1] - 1))
    return reversed_kernel(weight(t, dy, x), g.groups)

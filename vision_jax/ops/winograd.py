"""Winograd's F(2x2, 3x3): 3x3 convolutions of stride 1 with 16 instead of 36 products per 2x2 outputs.

Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). The transforms only add
and halve, so the result differs from the direct sum by a few units in the last place, not more than two orders of
summation do. Image and output transforms work on 16 planes [N,T,T',channels] of one value per tile each.
"""

import jax
from jax import lax
from jax import numpy as jnp

from vision_jax.ops.formulas import matmul, outer, rows
from vision_jax.ops.geometry import Geometry


def _image_1d(d: list) -> list:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_1d(m: list) -> list:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_1d_transposed(y: list) -> list:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _kernel_1d(k: list) -> list:
    outer_sum = k[0] + k[2]
    return [k[0], 0.5 * (outer_sum + k[1]), 0.5 * (outer_sum - k[1]), k[2]]


def _kernel_1d_transposed(u: list) -> list:
    plus, minus = 0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2])
    return [u[0] + plus, minus, u[3] + plus]


def _both_axes(transform, grid: list[list]) -> list[list]:
    """Apply a one-dimensional transform to the columns, then to the rows, of a grid of arrays."""
    columns = [transform(list(column)) for column in zip(*grid, strict=True)]
    return [transform(list(row)) for row in zip(*columns, strict=True)]


def _tiles(g: Geometry) -> tuple[int, int]:
    return -(-g.out[0] // 2), -(-g.out[1] // 2)


def _every_second(x: jax.Array, i: int, j: int, tiles: tuple[int, int]) -> jax.Array:
    limit = (x.shape[0], i + 2 * tiles[0] - 1, j + 2 * tiles[1] - 1, x.shape[3])
    return lax.slice(x, (0, i, j, 0), limit, (1, 2, 2, 1))


def _flat(grid: list[list]) -> list[jax.Array]:
    return [rows(x) for row in grid for x in row]


def _image(g: Geometry, x: jax.Array) -> list[jax.Array]:
    tiles = _tiles(g)
    config = [(0, 0, 0)]
    for n, (lo, _), t in zip(g.image, g.pads, tiles, strict=True):
        config.append((lo, 2 * t + 2 - n - lo, 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), (*config, (0, 0, 0)))
    return _flat(_both_axes(_image_1d, [[_every_second(x, i, j, tiles) for j in range(4)] for i in range(4)]))


def _gradient(g: Geometry, dy: jax.Array) -> list[jax.Array]:
    tiles = _tiles(g)
    config = [(0, 0, 0), *((0, 2 * t - n, 0) for n, t in zip(g.out, tiles, strict=True)), (0, 0, 0)]
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), config)
    grid = [[_every_second(dy, i, j, tiles) for j in range(2)] for i in range(2)]
    return _flat(_both_axes(_output_1d_transposed, grid))


def forward_winograd(g: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) -> y for a 3x3 kernel, stride 1, no dilation, one group."""
    kernel = _both_axes(_kernel_1d, [[w[i, j] for j in range(3)] for i in range(3)])
    products = [matmul(v, u, g.precision) for v, u in zip(_image(g, x), _flat_kernel(kernel), strict=True)]
    n, (th, tw), o = x.shape[0], _tiles(g), w.shape[3]
    products = [m.reshape(n, th, tw, o) for m in products]
    grid = _both_axes(_output_1d, [products[4 * i : 4 * i + 4] for i in range(4)])
    y = jnp.stack([jnp.stack(row, 3) for row in grid], 2).reshape(n, 2 * th, 2 * tw, o)
    return y[:, : g.out[0], : g.out[1]]


def _flat_kernel(grid: list[list]) -> list[jax.Array]:
    return [u for row in grid for u in row]


def weight_winograd(g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) -> dw for the same convolutions."""
    planes = zip(lax.optimization_barrier(_image(g, x)), lax.optimization_barrier(_gradient(g, dy)), strict=True)
    products = [outer(v, d, g.precision) for v, d in planes]
    grid = _both_axes(_kernel_1d_transposed, [products[4 * i : 4 * i + 4] for i in range(4)])
    return jnp.stack([jnp.stack(row) for row in grid])

"""A few images at a time, so that a formulation's planes or patches stay in the processor's cache and in bounds."""

from collections.abc import Callable

import jax
from jax import lax
from jax import numpy as jnp

from vision_jax.ops.geometry import Geometry

Formulation = Callable[[Geometry, jax.Array, jax.Array], jax.Array]


def divisor(n: int, most: int) -> int:
    """The largest divisor of n that is at most `most`, and at least 1."""
    return max(d for d in range(1, max(min(n, most), 1) + 1) if n % d == 0)


def _split(x: jax.Array, images: int) -> jax.Array:
    """[N,...] -> [N/images, images, ...]; a chunk takes every (N/images)-th image, so that shards of N stay shards."""
    return x.reshape(images, x.shape[0] // images, *x.shape[1:]).swapaxes(0, 1)


def images_at_a_time(formulation: Formulation, images: int, g: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    """The forward or input-gradient formulation on `images` images of `a` at a time."""
    y = lax.map(lambda chunk: formulation(g, chunk, b), _split(a, images))
    return y.swapaxes(0, 1).reshape(a.shape[0], *y.shape[2:])


def sum_over_images(formulation: Formulation, images: int, g: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """The weight-gradient formulation on `images` images at a time, summed."""
    chunks = (_split(x, images), _split(dy, images))
    dw = jax.eval_shape(lambda x, dy: formulation(g, x, dy), x, dy)
    # The body holds the only copy of the formulation: a first chunk outside the loop would be compiled a second time.
    total, _ = lax.scan(
        lambda total, chunk: (total + formulation(g, *chunk), None), jnp.zeros(dw.shape, dw.dtype), chunks
    )
    return total

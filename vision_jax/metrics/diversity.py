"""How much generated images differ from each other: little where a generator has collapsed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALL = 1e-8  # Under the root, so that it has a gradient where all examples are equal.


def mean_pairwise_distance(features: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Returns the mean Euclidean distance over all pairs of examples, in the unit of `features`; 0 where all are equal.

    Needs memory for N² numbers.

    Raises:
        ValueError: fewer than two examples.
    """
    n = features.shape[0]
    if n < 2:
        raise ValueError(f"A distance needs two examples or more; found {n}.")
    flat = features.reshape(n, -1).astype(jnp.float32)
    flat = flat - flat.mean(0)  # Distances stay, and what cancels below becomes small.
    squares = jnp.sum(flat * flat, -1)
    products = jnp.matmul(flat, flat.T, precision="highest")
    distances = jnp.sqrt(jnp.maximum(squares[:, None] + squares[None] - 2.0 * products, 0.0))
    return jnp.sum(jnp.where(jnp.eye(n, dtype=bool), 0.0, distances)) / (n * (n - 1))


def minibatch_standard_deviation(features: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Returns the standard deviation over the examples, averaged over all features and positions.

    The statistic that Karras et al. 2018 ("Progressive Growing of GANs", arXiv 1710.10196) show to the discriminator:
    the root of (variance, divided by N, plus 1e-8), here over the whole batch.
    """
    centered = features.astype(jnp.float32) - jnp.mean(features.astype(jnp.float32), 0)
    return jnp.mean(jnp.sqrt(jax.lax.square(centered).mean(0) + _SMALL))

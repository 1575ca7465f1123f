"""How much generated images differ from each other: little where a generator has collapsed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALL = 1e-8  # Under the root, so that it has a gradient where all examples are equal.


def minibatch_standard_deviation(features: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Returns the standard deviation over the examples, averaged over all features and positions.

    The statistic that Karras et al. 2018 ("Progressive Growing of GANs", arXiv 1710.10196) show to the discriminator:
    the root of (variance, divided by N, plus 1e-8), here over the whole batch.
    """
    centered = features.astype(jnp.float32) - jnp.mean(features.astype(jnp.float32), 0)
    return jnp.mean(jnp.sqrt(jax.lax.square(centered).mean(0) + _SMALL))

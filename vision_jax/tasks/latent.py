"""The noise that generators make images of: drawn, truncated, and the way from one to another."""

import jax
import jax.numpy as jnp

_BOUND = 2.0  # Deviations beyond which truncated noise is drawn again.


def noise(key: jax.Array, count: int, size: int, truncation: float = 1.0) -> jax.Array:
    """Draws noise, row `i` of which depends on `key` and `i` alone, and not on `count`.

    Args:
        key: a typed key.
        count: of rows.
        size: of a row.
        truncation: 1 draws from the standard normal, as training does. Below 1, it is `truncation` times a normal
            truncated to [-2, 2], so that |z| ≤ 2 · truncation: the truncation trick as BigGAN's authors published it
            (Brock, Donahue & Simonyan 2019, arXiv 1809.11096), which trades variety for quality.

    Returns:
        float32 [count, size].

    Raises:
        ValueError: `truncation` is not in (0, 1].
    """
    if not 0.0 < truncation <= 1.0:
        raise ValueError(f"The truncation is {truncation}, expected a number above 0 up to 1, which truncates nothing.")

    def row(i: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, i)
        if truncation == 1.0:
            return jax.random.normal(own, (size,))
        return truncation * jax.random.truncated_normal(own, -_BOUND, _BOUND, (size,))

    return jax.vmap(row)(jnp.arange(count))


def interpolate(first: jax.Array, second: jax.Array, steps: int, *, spherical: bool = True) -> jax.Array:
    """Returns the way from each row of `first` to its row of `second`, both ends included.

    Args:
        first: [N, D].
        second: [N, D].
        steps: points on the way, at least 2.
        spherical: along the great circle (White 2016, "Sampling Generative Networks", arXiv 1609.04468), where points
            are as long as noise is, which those halfway along the straight line are not.

    Returns:
        [N * steps, D], one way after the other.
    """
    part = jnp.linspace(0.0, 1.0, steps)[None, :, None]
    before, after = 1.0 - part, part
    if spherical:
        lengths = jnp.linalg.norm(first, axis=-1) * jnp.linalg.norm(second, axis=-1)
        cosine = jnp.sum(first * second, -1) / jnp.maximum(lengths, jnp.finfo(first.dtype).tiny)
        angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))[:, None, None]
        defined = jnp.sin(angle) > 1e-4  # Not between (anti)parallel rows: those go straight.
        sine = jnp.where(defined, jnp.sin(angle), 1.0)
        before = jnp.where(defined, jnp.sin(before * angle) / sine, before)
        after = jnp.where(defined, jnp.sin(after * angle) / sine, after)
    ways = before * first[:, None] + after * second[:, None]
    return ways.reshape(-1, first.shape[-1])

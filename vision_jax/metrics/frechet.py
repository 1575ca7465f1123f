"""The Fréchet distance between two Gaussians, and sums from which they are fitted in one pass.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson & Landau 1982), the form in which Heusel et al. 2017 use it
for FID on Inception features. Here the features are the pixels of pooled images: a cheap course of training, not FID.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float64


def pooled_pixels(images: Float[Array, "n h w c"], side: int) -> Float[Array, "n {side}*{side}*c"]:
    """Averages images to `side` pixels squared and flattens them."""
    n, height, width, channels = images.shape
    if height % side or width % side:
        images = jax.image.resize(images, (n, side, side, channels), "linear", antialias=True)
    else:
        images = images.reshape(n, side, height // side, side, width // side, channels).mean((2, 4))
    return images.reshape(n, -1)


def moments(features: Float[Array, "n d"], mask: Float[Array, " n"]) -> dict[str, Float[Array, "..."]]:
    """Returns the sums [D] of `features` and [D, D] of their outer products over the rows where `mask` is 1."""
    kept = features * mask[:, None]
    return {"first": kept.sum(0), "second": jnp.matmul(kept.T, kept, precision="highest")}


def gaussian(
    first: Float[ArrayLike, " d"], second: Float[ArrayLike, "d d"], count: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d d"]]:
    """Returns mean and covariance (divided by count - 1) from the sums of `moments`, in float64.

    Raises:
        ValueError: fewer than two examples.
    """
    if count < 2:
        raise ValueError(f"A covariance needs two examples or more; found {count}.")
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean = first / count
    return mean, (second - count * np.outer(mean, mean)) / (count - 1)


def distance(
    mean1: Float[np.ndarray, " d"],
    covariance1: Float[np.ndarray, "d d"],
    mean2: Float[np.ndarray, " d"],
    covariance2: Float[np.ndarray, "d d"],
) -> float:
    """Returns the squared Fréchet distance between two Gaussians; covariances may be singular.

    tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance2 @ root), 0.0)).sum()
    difference = mean1 - mean2
    return float(difference @ difference + np.trace(covariance1) + np.trace(covariance2) - 2.0 * cross)

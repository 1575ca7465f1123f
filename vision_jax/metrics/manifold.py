"""How faithful generated images are, and how much of the real ones they cover: precision, recall, density, coverage.

The manifold of a set of features is the union of balls around them, each as large as the distance to the k-th nearest
other feature of the set.
"""

import numpy as np
from jaxtyping import Float, Float64


def precision_recall(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], *, neighbors: int = 3, mebibytes: int = 256
) -> tuple[float, float]:
    """Returns the shares of generated features in the manifold of the real ones and of real ones in theirs, in [0, 1].

    Kynkäänniemi et al. 2019 (arXiv 1904.06991), as in torch-fidelity; distances in float64.

    Args:
        real: features of real images.
        fake: features of generated images.
        neighbors: k.
        mebibytes: of distances held at a time.

    Raises:
        ValueError: a set has not more than `neighbors` rows.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    real_radii, fake_radii = radii(real, neighbors, mebibytes), radii(fake, neighbors, mebibytes)
    precise = _by_blocks(fake, real, lambda distances, rows: (distances <= real_radii).any(1), mebibytes)
    recalled = _by_blocks(real, fake, lambda distances, rows: (distances <= fake_radii).any(1), mebibytes)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], *, neighbors: int = 5, mebibytes: int = 256
) -> tuple[float, float]:
    """Returns density and coverage.

    Density is the number of real balls that a generated feature lies in, over k, averaged: 1 for equal distributions,
    and it may be larger. Coverage is the share of real balls with a generated feature inside, in [0, 1]. Naeem et al.
    2020 (arXiv 2002.09797), whose implementation `prdc` leaves the balls' surface out; arguments and errors as in
    `precision_recall`.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    real_radii = radii(real, neighbors, mebibytes)
    inside = _by_blocks(
        real, fake, lambda distances, rows: (distances < real_radii[rows, None]).sum(1), mebibytes
    )  # generated features in each real ball
    return float(inside.sum() / (neighbors * len(fake))), float((inside > 0).mean())


def radii(features: Float[np.ndarray, "n d"], neighbors: int, mebibytes: int = 256) -> Float64[np.ndarray, " n"]:
    """Returns the distance of each feature to its `neighbors`-th nearest other one.

    Raises:
        ValueError: there are not so many others.
    """
    if not 1 <= neighbors < len(features):
        raise ValueError(f"The {neighbors}th neighbor of {len(features)} features does not exist; give more images.")
    features = np.asarray(features, np.float64)
    # A feature is its own nearest neighbor, at distance 0.
    return _by_blocks(
        features, features, lambda distances, rows: np.partition(distances, neighbors, 1)[:, neighbors], mebibytes
    )


def _by_blocks(first, second, reduce, mebibytes) -> np.ndarray:
    """Joins what `reduce(distances [b, m], slice of the b rows)` makes of the distances of blocks of `first`."""
    from sklearn.metrics import pairwise_distances_chunked

    # The same array twice: scikit-learn then makes the distance of a row to itself exactly 0.
    blocks = pairwise_distances_chunked(
        first,
        None if second is first else second,
        reduce_func=lambda distances, start: reduce(distances, slice(start, start + len(distances))),
        working_memory=mebibytes,
    )
    return np.concatenate(list(blocks))

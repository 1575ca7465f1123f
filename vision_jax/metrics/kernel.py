"""The kernel distance between two sets of features: KID on Inception features."""

import numpy as np
from jaxtyping import Float


def distance(
    first: Float[np.ndarray, "n d"],
    second: Float[np.ndarray, "m d"],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> tuple[float, float]:
    """Returns mean and standard deviation of the squared maximum mean discrepancy over random subsets.

    Bińkowski et al. 2018 (arXiv 1801.01401): the unbiased estimator with the kernel (x·y / D + 1)^3; it does not depend
    on the number of images, and may be slightly negative. The subsets are those of torch-fidelity (`size` rows of each
    set without replacement, by `RandomState(seed)`), its arithmetic in float64.

    Raises:
        ValueError: fewer rows than `size`, or `size` below 2.
    """
    if not 2 <= size <= min(len(first), len(second)):
        raise ValueError(
            f"Subsets of {size} cannot be drawn from {len(first)} and {len(second)} features; give size from 2 to the "
            "smaller number."
        )
    generator = np.random.RandomState(seed)
    found = [
        squared_discrepancy(
            first[generator.choice(len(first), size, replace=False)],
            second[generator.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found))


def squared_discrepancy(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """Returns the unbiased estimate of the squared maximum mean discrepancy; two rows of each at least."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    within = sum(_mean_off_diagonal(_kernel(rows, rows)) for rows in (first, second))
    return float(within - 2.0 * _kernel(first, second).mean())


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    values = first @ second.T / first.shape[1] + 1.0
    return values * values * values  # Several times faster than a power.


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))

"""Whether a generator repeats its training set: the nearest training images of its samples."""

import numpy as np

_BLOCK = 64 * 2**20  # Bytes of the training set, in float64, that are compared at a time.


def nearest(samples: np.ndarray, training: np.ndarray, neighbors: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest training images of each sample by Euclidean distance, in bounded memory.

    Args:
        samples: [K, …], uint8 images or features of them.
        training: [N, …], the same of the training set; may be memory-mapped, is read once per 1,000 samples.
        neighbors: how many to find, at most N.

    Returns:
        Their indices in `training`, int64 [K, neighbors], the nearest first and of equals the first; and the
        distances, float64 [K, neighbors]: for images in gray levels, the root of the sum over pixels and channels.

    Raises:
        ValueError: samples and training images differ in shape, or there are too few of the latter.
    """
    if samples.shape[1:] != training.shape[1:]:
        raise ValueError(
            f"The samples are {list(samples.shape[1:])}, the training images {list(training.shape[1:])}; only what "
            "has one shape can be compared."
        )
    if not 1 <= neighbors <= len(training):
        raise ValueError(f"{neighbors} neighbors were asked for; there are {len(training)} training images.")
    parts = [_nearest(samples[i : i + 1000], training, neighbors) for i in range(0, len(samples), 1000)]
    empty = np.zeros((0, neighbors))
    indices = np.concatenate([empty.astype(np.int64), *(found for found, _ in parts)])
    return indices, np.concatenate([empty, *(distances for _, distances in parts)])


def _nearest(samples: np.ndarray, training: np.ndarray, neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.metrics.pairwise import euclidean_distances

    size = int(np.prod(samples.shape[1:]))
    rows = max(_BLOCK // (8 * max(size, 1)), 1)
    flat = samples.reshape(len(samples), size).astype(np.float64)
    indices, distances = np.zeros((len(samples), 0), np.int64), np.zeros((len(samples), 0))
    for start in range(0, len(training), rows):
        block = np.asarray(training[start : start + rows]).reshape(-1, size).astype(np.float64)
        found = np.broadcast_to(np.arange(start, start + len(block)), (len(samples), len(block)))
        indices = np.concatenate([indices, found], axis=1)
        distances = np.concatenate([distances, euclidean_distances(flat, block)], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :neighbors]
        indices = np.take_along_axis(indices, order, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
    return indices, distances

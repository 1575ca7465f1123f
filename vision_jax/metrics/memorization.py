"""Whether a generator repeats its training set: the nearest training images of its samples."""

import itertools
from collections.abc import Iterable

import numpy as np

_BLOCK = 64 * 2**20  # Bytes of the training set, in float64, that are compared at a time.


def nearest(
    samples: np.ndarray, training: Iterable[np.ndarray], neighbors: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the nearest training images of each sample by Euclidean distance, in bounded memory.

    Args:
        samples: [K, …], uint8 images or features of them.
        training: the same of the training set, one after the other; read once.
        neighbors: how many to find, at most as many as there are in `training`.

    Returns:
        Their numbers in `training`, int64 [K, neighbors], the nearest first and of equals the first; the distances,
        float64 [K, neighbors]: for images in gray levels, the root of the sum over pixels and channels; and themselves,
        [K, neighbors, …].

    Raises:
        ValueError: samples and training images differ in shape, or there are too few of the latter.
    """
    shape, count, iterator = samples.shape[1:], 0, iter(training)
    rows = max(_BLOCK // (8 * max(int(np.prod(shape)), 1)), 1)
    indices, distances = np.zeros((len(samples), 0), np.int64), np.zeros((len(samples), 0))
    images = np.zeros((len(samples), 0, *shape), samples.dtype)
    while taken := list(itertools.islice(iterator, rows)):
        block = np.stack(taken)
        if block.shape[1:] != shape:
            raise ValueError(
                f"The samples are {list(shape)}, the training images {list(block.shape[1:])}; only what has one shape "
                "can be compared."
            )
        order, apart = _nearest(samples, block, neighbors)
        indices = np.concatenate([indices, count + order], axis=1)
        distances = np.concatenate([distances, apart], axis=1)
        images = np.concatenate([images, block[order]], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :neighbors]
        indices, distances = np.take_along_axis(indices, best, axis=1), np.take_along_axis(distances, best, axis=1)
        images = images[np.arange(len(samples))[:, None], best]
        count += len(block)
    if not 1 <= neighbors <= count:
        raise ValueError(f"{neighbors} neighbors were asked for; there are {count} training images.")
    return indices, distances, images


def _nearest(samples: np.ndarray, block: np.ndarray, neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places in a block and the distances, a thousand samples at a time."""
    from sklearn.metrics.pairwise import euclidean_distances

    flat = block.reshape(len(block), -1).astype(np.float64)
    order = np.zeros((len(samples), min(neighbors, len(block))), np.int64)
    apart = np.zeros(order.shape)
    for start in range(0, len(samples), 1000):
        part = slice(start, start + 1000)
        found = euclidean_distances(samples[part].reshape(-1, flat.shape[1]).astype(np.float64), flat)
        order[part] = np.argsort(found, axis=1, kind="stable")[:, :neighbors]
        apart[part] = np.take_along_axis(found, order[part], axis=1)
    return order, apart

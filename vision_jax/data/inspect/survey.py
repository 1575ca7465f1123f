"""What can be said of a data set before anything is trained on it: counts, sizes, pixel statistics, duplicates."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vision_jax.data import decode
from vision_jax.data.folder import undecoded
from vision_jax.data.sources import ArraySource, Source

Place = tuple[str, int]  # split, index in it


def counts(splits: Mapping[str, Source], num_classes: int) -> dict[str, np.ndarray]:
    """Examples per class, int64 [num_classes], of each split."""
    return {split: np.bincount(source.labels, minlength=num_classes) for split, source in splits.items()}


def channel_statistics(source: Source, limit: int = 2000) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation of the pixels per channel, in [0, 1]; every image weighs the same.

    Args:
      source: images of any size.
      limit: of images that must be decoded, take this many, evenly spread. Arrays are read whole.

    Returns:
      mean [C], std [C], and the number of images taken.
    """
    parts: Sequence[np.ndarray] | np.ndarray
    if isinstance(source, ArraySource):
        taken, parts = len(source), np.array_split(np.arange(len(source)), max(len(source) // 500, 1))
    else:
        taken = min(limit, len(source))
        parts = np.linspace(0, len(source) - 1, taken).astype(np.int64)[:, None]
    total, squares = 0.0, 0.0
    for part in progress(parts, "pixel statistics"):
        images = source.images[part] if isinstance(source, ArraySource) else source[int(part[0])]["image"]
        pixels = images.reshape(-1, images.shape[-1]).astype(np.float64) / 255
        total, squares = total + len(part) * pixels.mean(0), squares + len(part) * (pixels**2).mean(0)
    mean = np.asarray(total) / taken
    return mean, np.sqrt(np.maximum(np.asarray(squares) / taken - mean**2, 0)), taken


def sizes(source: Source) -> np.ndarray:
    """Height and width of each image, int64 [N, 2]; of photos in files, from their headers."""
    if isinstance(source, ArraySource):
        return np.tile(np.array(source.images.shape[1:3], np.int64), (len(source), 1))
    files, found = undecoded(source), []
    for i in progress(np.arange(len(source)), "sizes"):
        image = files[int(i)]["image"]
        if isinstance(image, bytes):
            found.append(decode.upright_size(decode.open_image(image)))
        else:
            found.append(image.shape[:2])
    return np.array(found, np.int64).reshape(-1, 2)


def duplicates(splits: Mapping[str, Source]) -> list[list[Place]]:
    """Groups of examples with the same content: the same pixels, or for photos in files the same file.

    A photo that was saved again, or cropped, is another content and is not found.

    Returns:
      The groups of two and more places, each in the order of `splits`, ordered by their first place.
    """
    places: dict[bytes, list[Place]] = {}
    for split, source in splits.items():
        files = undecoded(source)
        for i in progress(np.arange(len(source)), f"duplicates in {split}"):
            image = files[int(i)]["image"]
            content = image if isinstance(image, bytes) else repr(image.shape).encode() + image.tobytes()
            places.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append((split, int(i)))
    return [group for group in places.values() if len(group) > 1]


def across_splits(groups: list[list[Place]]) -> list[list[Place]]:
    """The groups that have members in different splits: what a model is tested on and has seen in training."""
    return [group for group in groups if len({split for split, _ in group}) > 1]


def spread(labels: np.ndarray, label: int, number: int) -> np.ndarray:
    """Indices of at most `number` examples of a class, evenly spread over the split."""
    indices = np.flatnonzero(labels == label)
    return indices[np.unique(np.linspace(0, len(indices) - 1, min(number, len(indices))).astype(np.int64))]


def progress(items: Sequence[Any] | np.ndarray, what: str) -> tqdm:
    """Returns the items behind a bar, on a terminal, that says what is done with them."""
    return tqdm(items, desc=what, disable=None, leave=False, mininterval=0.5)

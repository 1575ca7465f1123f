"""Pictures that show the same without being the same file: saved again, resized, a little brighter.

Candidates are pairs whose perceptual hashes (`imagehash.phash`: signs of the lowest frequencies) differ in few bits.
Those whose small pictures then agree closely in every color are near-duplicates. With the bounds below, 98.8 to 100 %
of 400 CIFAR pictures are found again that were saved as JPEG of quality 50, halved, enlarged or made 10 % brighter, and
among 4,000 of CIFAR-10's (8 million pairs) nothing else. Of drawings of few strokes, as MNIST's, it also finds
look-alikes. What was cropped, turned or mirrored is not found.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from vision_jax.data.inspect.survey import Place, progress
from vision_jax.data.sources import Source

_BITS = 6  # Of 64; hashes of unrelated pictures differ in 32 on average.
_SIDE = 12  # Of the small pictures, in pixels.
_CORRELATION = 0.98  # Of the values of two small pictures, all colors together.
_DIFFERENCE = 4.0  # Largest root mean square of two pictures of one color, which have no correlation, in levels of 255.
_BLOCK = 1 << 24  # Pairs at a time: 128 MB.


def near_duplicates(splits: Mapping[str, Source]) -> list[list[Place]]:
    """Groups of examples that show the same picture, equal ones included.

    Two members of a group need not be near each other if a third is near both. The search takes time in proportion to
    the square of the number of pictures: seconds for 60,000.

    Returns:
      The groups of two and more places, each in the order of `splits`, ordered by their first place.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = [(split, int(i)) for split, source in splits.items() for i in range(len(source))]
    hashes, small = _described(splits, len(places))
    first, second = _candidates(hashes)
    near = _agree(small, first, second)
    pairs = coo_array((np.ones(near.sum(), bool), (first[near], second[near])), (len(places),) * 2)
    _, label = connected_components(pairs, directed=False)
    members: dict[int, list[Place]] = {}
    for place, group in zip(places, label.tolist(), strict=True):
        members.setdefault(group, []).append(place)
    return [group for group in members.values() if len(group) > 1]


def _described(splits: Mapping[str, Source], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hash of each picture, uint64 [N], and small pictures uint8 [N, side, side, 3]."""
    import imagehash

    hashes, small = np.empty(number, np.uint64), np.empty((number, _SIDE, _SIDE, 3), np.uint8)
    at = 0
    for split, source in splits.items():
        for i in progress(np.arange(len(source)), f"perceptual hashes of {split}"):
            image = source[int(i)]["image"]
            picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
            hashes[at] = int(str(imagehash.phash(picture)), 16)
            small[at] = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
            at += 1
    return hashes, small


def _candidates(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs (i, j), i < j, whose hashes differ in few bits."""
    rows = max(_BLOCK // max(len(hashes), 1), 1)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in progress(np.arange(0, len(hashes), rows), "near-duplicates"):
        later = hashes[start + 1 :]
        block = np.bitwise_count(hashes[start : start + rows, None] ^ later[None]) <= _BITS
        i, j = np.nonzero(block)
        later_ones = j >= i  # Of a pair within the block, once.
        found.append((start + i[later_ones], start + 1 + j[later_ones]))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def _agree(small: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns of each pair whether their small pictures agree, bool."""
    agree = np.zeros(len(first), bool)
    for start in range(0, len(first), 4096):
        part = slice(start, start + 4096)
        a, b = (small[of[part]].reshape(-1, 3 * _SIDE**2).astype(np.float32) for of in (first, second))
        difference = np.sqrt(np.mean((a - b) ** 2, axis=1))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        product, size = np.sum(a * b, axis=1), np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2, axis=1))
        agree[part] = np.where(size > 0, product >= _CORRELATION * size, difference <= _DIFFERENCE)
    return agree

"""Pictures of any sizes for super-resolution: aligned patches to train on, whole pictures to evaluate.

The pictures are kept in memory, in low and in high resolution. Patches are drawn uniformly from all places of all
pictures, so that a large one is seen more often. As everywhere, a batch is a function of the seed and its number alone.
"""

import concurrent.futures
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from vision_jax.data import sources
from vision_jax.data.pipeline import Batch, HostTransform, Rows
from vision_jax.utils.options import ConfigError

IN_MEMORY = 8 << 30  # Bytes of pictures, at most.
# A picture, uint8 [H, W, C] -> what to train on: pairs of low [h, w, C'] and high uint8 [h * scale, w * scale, C'].
MakePairs = Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]


class _Flat:
    """Pictures [H, W, C] one after the other in one array [pixels, C], so that patches of many are one look-up."""

    def __init__(self, pictures: Sequence[np.ndarray]):
        self.pixels = np.concatenate([picture.reshape(-1, picture.shape[-1]) for picture in pictures])
        areas = [picture.shape[0] * picture.shape[1] for picture in pictures]
        self.starts = np.cumsum([0, *areas[:-1]])
        self.widths = np.array([picture.shape[1] for picture in pictures])

    def patches(self, numbers: np.ndarray, rows: np.ndarray, columns: np.ndarray, side: int) -> np.ndarray:
        """The squares [N, side, side, C] of pictures `numbers` whose upper left corners are given."""
        corners = self.starts[numbers] + rows * self.widths[numbers] + columns
        steps = np.arange(side)
        inside = steps[:, None] * self.widths[numbers][:, None, None] + steps
        return self.pixels[corners[:, None, None] + inside]


class _Patches:
    """Batch number -> this process's rows of it."""

    def __init__(self, pairs: "PatchLoader", rows: Rows, seed: int, start: int):
        self.pairs, self.rows, self.seed, self.start = pairs, rows, seed, start

    def __len__(self) -> int:
        return sys.maxsize - self.start

    def __getitem__(self, number: int) -> Batch:
        rows, batch = self.rows, self.start + number
        generator = np.random.Generator(np.random.Philox(key=[self.seed, batch]))
        places = generator.integers(self.pairs.places[-1], size=rows.batch_size)  # Of all processes.
        return self.pairs.at(places[rows.process * rows.local :][: rows.local])


class PatchLoader:
    """Training batches {'low', 'high', 'index'} of aligned patches; the same methods as `pipeline.Loader`.

    'index' is the number of each patch's picture in the split.

    Attributes:
        source: the pictures.
        data: nothing lives on the device.
        places: number of patches in the pictures up to each, int64.
    """

    data: Batch = {}  # noqa: RUF012

    def __init__(
        self, source: sources.Source, make_pairs: MakePairs, *, patch: int, scale: int, transform: HostTransform | None
    ):
        """Decodes and reduces all pictures.

        Args:
            source: training pictures.
            make_pairs: see `MakePairs`; the low resolution is the high one's over `scale`.
            patch: side of a high-resolution patch, a multiple of `scale`.
            scale: between low and high resolution.
            transform: what evaluation does to a picture first.

        Raises:
            ConfigError: the pictures do not fit into memory, or all are smaller than a patch.
        """
        self.source, self.scale, self.side = source, scale, patch // scale
        used, pairs, pictures = 0, [], []

        def pairs_of(index: int) -> list[tuple[np.ndarray, np.ndarray]]:
            example = source[index]
            if transform is not None:
                example = transform(example, np.random.default_rng(0))
            return make_pairs(example["image"])

        with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            for first in range(0, len(source), 64):
                chunk = pool.map(pairs_of, range(first, min(first + 64, len(source))))
                numbered = ((index, *pair) for index, of_picture in enumerate(chunk, first) for pair in of_picture)
                for index, low, high in numbered:
                    used += low.nbytes + high.nbytes
                    if used > IN_MEMORY:
                        raise ConfigError(
                            f"The first {first} of {len(source)} training pictures take {IN_MEMORY >> 30} GiB, and all "
                            "are kept in memory; set config.data.image_size or config.data.limit."
                        )
                    if min(low.shape[:2]) >= self.side:
                        pairs.append((low, high))
                        pictures.append(index)
        if not pairs:
            raise ConfigError(
                f"None of the {len(source)} training pictures has the {patch} pixels of "
                "config.super_resolution.patch_size in both directions; make it smaller."
            )
        lows, highs = zip(*pairs, strict=True)
        self.low, self.high = _Flat(lows), _Flat(highs)
        self._pictures = np.array(pictures, np.int32)
        self._across = np.array([low.shape[1] - self.side + 1 for low in lows])
        self.places = np.cumsum([(low.shape[0] - self.side + 1) * n for low, n in zip(lows, self._across, strict=True)])

    def at(self, places: np.ndarray) -> Batch:
        """The patches at places in [0, places[-1]), int64 [N]."""
        numbers = np.searchsorted(self.places, places, side="right")
        rows, columns = np.divmod(
            places - (self.places - np.diff(self.places, prepend=0))[numbers], self._across[numbers]
        )
        return {
            "low": self.low.patches(numbers, rows, columns, self.side),
            "high": self.high.patches(numbers, rows * self.scale, columns * self.scale, self.side * self.scale),
            "index": self._pictures[numbers],
        }

    def train(self, batch_size: int, seed: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yields this process's rows of batch `start`, `start + 1`, … without end, as host arrays."""
        rows = Rows(batch_size, jax.process_index(), jax.process_count())
        dataset = grain.MapDataset.source(_Patches(self, rows, seed, start))
        stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        iterator = iter(stream)
        try:
            yield from iterator
        finally:
            iterator.close()


class WholePictures:
    """Evaluation batches of pictures of different sizes, one at a time; the same method as `pipeline.Loader`'s.

    Each size is compiled once.
    """

    def __init__(self, source: sources.Source, mesh: Mesh):
        self.source, self.mesh = source, mesh

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """Yields {'image', 'label', 'mask'}, a picture on the first device and padding on the others."""
        del batch_size
        rows = Rows(self.mesh.size, jax.process_index(), jax.process_count())
        mask = (rows.positions(0) < 1).astype(np.float32)
        for index in range(len(self.source)):
            example: dict[str, Any] = self.source[index]
            yield {name: np.stack([example[name]] * rows.local) for name in ("image", "label")} | {"mask": mask}


def common_window(images: Sequence[np.ndarray], multiple: int) -> np.ndarray:
    """The middles of images [H, W, C] of different sizes, stacked: the largest windows that all of them have.

    Sides are rounded down to `multiple`.
    """
    height, width = (min(image.shape[axis] for image in images) // multiple * multiple for axis in (0, 1))
    corners = [((image.shape[0] - height) // 2, (image.shape[1] - width) // 2) for image in images]
    windows = [image[y : y + height, x : x + width] for image, (y, x) in zip(images, corners, strict=True)]
    return np.stack(windows)

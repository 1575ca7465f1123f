"""Decoded photos in one memory-mapped file: the first epoch decodes, all later ones only read."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from vision_jax.data import transforms
from vision_jax.data.folder import undecoded
from vision_jax.data.sources import Example, Source, fingerprint
from vision_jax.utils import files

_CHUNK = 256  # photos decoded ahead of the writer


class CachedSource:
    """The examples of `source`, photos shrunk to a short side of `size`, from a memory map.

    Where the map does not lie under `path` yet, or is damaged, it is made: in threads, under a temporary name,
    moved into place when complete. Photos keep their aspect ratio, and smaller ones their size. The reduction is
    `transforms.resize_short_side`, so that with `size` equal to an evaluation's `resize` its pixels are the same
    as without this cache; training should allow for crops of less than the whole photo (say 1.15 x the crop).

    The index of photos and labels is kept in memory; the pixels are read through the operating system's page
    cache, and worker processes share them.

    Attributes:
      labels: int32 [N].
      fingerprint: a digest of the source's examples and of what is done to them.
    """

    def __init__(self, source: Source, path: str | os.PathLike, size: int, interpolation: str = "bilinear"):
        """Opens or makes the map.

        Args:
          source: photos; needs a `fingerprint`.
          path: folder for the maps of this and other sources; each has a folder of its own there.
          size: short side in pixels.
          interpolation: a key of `transforms.FILTERS`.

        Raises:
          ValueError: the source has no fingerprint.
          OSError: the map cannot be written.
        """
        key = f"{fingerprint(source)}/{size}/{interpolation}/1"  # the last number counts changes of this format
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()
        self._folder = pathlib.Path(path) / f"{self.fingerprint[:16]}-{size}"
        if not _complete(self._folder):
            _make(self._folder, source, size, interpolation)
        index = np.load(self._folder / "index.npy")
        self._starts, self._shapes = index[:, 0], index[:, 1:3]
        self.labels = index[:, 3].astype(np.int32)
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        if self._pixels is None:
            self._pixels = np.memmap(self._folder / "pixels.bin", np.uint8, "r")
        start, (height, width) = int(self._starts[index]), self._shapes[index]
        pixels = self._pixels[start : start + height * width * 3]
        return {"image": np.asarray(pixels).reshape(height, width, 3), "label": self.labels[index]}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a worker process opens the map itself


def _make(folder: pathlib.Path, source: Source, size: int, interpolation: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    photos = undecoded(source)

    def reduced(i: int) -> tuple[np.ndarray, int]:
        example = photos[i]
        image = transforms.pillow(example["image"])
        if min(image.size) > size:
            image = transforms.resize_short_side(image, size, interpolation)
        return np.asarray(image), int(example["label"])

    try:
        with files.atomic_folder(folder) as temporary:
            index, start = np.zeros((len(photos), 4), np.int64), 0
            with open(temporary / "pixels.bin", "wb") as f, concurrent.futures.ThreadPoolExecutor() as pool:
                for first in range(0, len(photos), _CHUNK):
                    chunk = range(first, min(first + _CHUNK, len(photos)))
                    for i, (pixels, label) in zip(chunk, pool.map(reduced, chunk), strict=True):
                        f.write(pixels.data)
                        index[i] = (start, *pixels.shape[:2], label)
                        start += pixels.size
                f.flush()
                os.fsync(f.fileno())
            np.save(temporary / "index.npy", index)
            marker = {"pixels": start, "index": _digest(temporary / "index.npy")}
            (temporary / "complete.json").write_text(json.dumps(marker))
            if folder.exists() and not _complete(folder):
                shutil.rmtree(folder)
    except FileExistsError:
        if not _complete(folder):  # else another process was faster, and its map is as good
            raise


def _complete(folder: pathlib.Path) -> bool:
    try:
        marker = json.loads((folder / "complete.json").read_text())
        size = (folder / "pixels.bin").stat().st_size
        return marker == {"pixels": size, "index": _digest(folder / "index.npy")}
    except (OSError, ValueError):
        return False


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

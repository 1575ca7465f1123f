"""Every photo of a folder decoded once: its size, its digest, or why it cannot be used."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
import threading
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from vision_jax.data import decode
from vision_jax.utils import files

_PIXELS_AT_ONCE = 64 * 2**20  # decoded together, at up to eight bytes each


@dataclasses.dataclass(frozen=True)
class Photo:
    """What is known of a usable file: SHA-256 of its content, and the upright image's height and width."""

    digest: str
    height: int
    width: int


def check_photos(root: pathlib.Path, paths: Sequence[str]) -> tuple[dict[str, Photo], dict[str, str]]:
    """Reads and decodes each file, in threads (Pillow lets go of the interpreter while it decodes).

    However many there are, no more than 64 Mi pixels are decoded at once, or one larger photo.

    Usable files are remembered in the cache folder by path, size and time of change, so that a second call
    opens only what changed.

    Args:
      root: a folder.
      paths: relative to it.

    Returns:
      The usable files, and the others with the reason.
    """
    record = files.cache_dir("data") / "checked" / f"{_digest(os.fsencode(root.resolve()))[:16]}.json"
    known = _read(record)
    photos, broken, fresh = {}, {}, {}
    room = _Room(_PIXELS_AT_ONCE)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: _check(root / path, known.get(path), room), paths)
        bar = tqdm(results, "checking photos", len(paths), unit="file", delay=1, disable=None, leave=False)
        for path, (stamp, outcome) in zip(paths, bar, strict=True):
            if isinstance(outcome, Photo):
                photos[path] = outcome
                fresh[path] = [*stamp, outcome.digest, outcome.height, outcome.width]
            else:
                broken[path] = outcome
    if fresh != known:
        _write(record, fresh)
    return photos, broken


class _Room:
    """Room for so many pixels, which threads share; who needs more than there is waits until it is alone."""

    def __init__(self, pixels: int):
        self._all = self._free = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def for_pixels(self, wanted: int) -> Iterator[None]:
        taken = min(wanted, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


def _check(path: pathlib.Path, known: list | None, room: _Room) -> tuple[tuple[int, int], Photo | str]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return (0, 0), "no file but a pipe, a device or a socket, which is not opened"
        stamp = (status.st_size, status.st_mtime_ns)
        if known is not None and tuple(known[:2]) == stamp:
            return stamp, Photo(*known[2:])
        data = path.read_bytes()
        image = decode.open_image(data)
        height, width = decode.upright_size(image)
        with room.for_pixels(height * width):
            # An eighth of the size suffices to read a JPEG to its end.
            decode.to_rgb(image, min_size=1)
        return stamp, Photo(_digest(data), height, width)
    except (decode.ImageError, OSError) as e:
        return (0, 0), str(e)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(record: pathlib.Path) -> dict[str, list]:
    try:
        return json.loads(record.read_text())
    except (OSError, ValueError):
        return {}  # a cache: what is missing or damaged is made anew


def _write(record: pathlib.Path, content: dict[str, list]) -> None:
    with contextlib.suppress(OSError):  # a full or read-only disk costs time at the next call, nothing else
        record.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(record, durable=False) as file:
            file.write(json.dumps(content).encode())

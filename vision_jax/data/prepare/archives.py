"""Reading archives from the internet as what they are: input that may be hostile.

Nothing is ever extracted to disk. The members that are wanted are read into memory, under bounds, and every member
on the way (wanted or not) is inspected: one that would leave its folder, a link, a device, a sparse file or a
decompression bomb means that this is not the publisher's file, and the archive as a whole is refused.
"""

import contextlib
import gzip
import io
import math
import os
import pathlib
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from vision_jax.utils.pickle_machine import Builder, Machine, PickleError, Stateful

# Deflate reaches 1032:1 at best. Data sets stay below 20:1; what goes far beyond is made to fill memory.
MAX_RATIO = 200
# Below this size a bomb cannot hurt, and tiny honest files (all zero) reach any ratio.
_RATIO_FREE_BYTES = 1 << 20
_MAX_MEMBERS = 100_000
_CHUNK = 1 << 20

# What the readers of the standard library raise on damaged input.
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, MemoryError, RecursionError)


class ArchiveError(ValueError):
    """An archive that is damaged, hostile, or not what its name says; the message says which and why."""


class _Bounded:
    """A readable stream that refuses to give out more than its bounds allow."""

    def __init__(self, stream: Any, compressed: BinaryIO, path: pathlib.Path, max_bytes: int):
        self._stream, self._compressed, self._path, self._max_bytes = stream, compressed, path, max_bytes
        self._count = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._max_bytes - self._count + 1))
        self._count += len(data)
        if self._count > self._max_bytes:
            raise ArchiveError(
                f"{self._path} unpacks to more than {self._max_bytes:,} bytes, the bound for this file. "
                "That is a decompression bomb or another file; nothing of it was kept."
            )
        if self._count > _RATIO_FREE_BYTES and self._count > MAX_RATIO * max(self._compressed.tell(), 1):
            raise ArchiveError(
                f"{self._path} unpacks to more than {MAX_RATIO} times its size, as decompression bombs do and "
                "data sets do not; nothing of it was kept."
            )
        return data


@contextlib.contextmanager
def _open(path: pathlib.Path, max_bytes: int) -> Iterator[Any]:
    """Opens a gzip file, or a plain one whatever its name says, as a bounded stream of its content."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        size = os.path.getsize(path)
        bar = tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None, leave=False)
        # Any: what `gzip` and `tarfile` need of a file is `read`, what their type asks for is more
        shown: Any = _Shown(raw, stack.enter_context(bar))
        stream = stack.enter_context(gzip.GzipFile(fileobj=shown)) if zipped else shown
        yield _Bounded(stream, raw, path, max_bytes)


class _Shown:
    """Reads from `file` and moves the progress bar `bar` along."""

    def __init__(self, file: BinaryIO, bar: tqdm):
        self._file, self._bar = file, bar

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._bar.update(len(data))
        return data


def read_gz(path: pathlib.Path, *, max_bytes: int) -> bytes:
    """The content of a gzip file (or of a plain file: what was already unpacked by hand is read as it is).

    Args:
      path: the file.
      max_bytes: bound on the content, in bytes.

    Raises:
      ArchiveError: the file is damaged, or beyond its bounds.
    """
    content = io.BytesIO()
    try:
        with _open(path, max_bytes) as stream:
            while chunk := stream.read(_CHUNK):
                content.write(chunk)
    except _DAMAGE as e:
        raise _refusal(path, e) from e
    return content.getvalue()


def read_tar(path: pathlib.Path, wanted: Callable[[str], bool], *, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of the members of a tar file (plain or gzip) for which `wanted(name)` holds.

    One pass, in the archive's order, one member in memory at a time.

    Args:
      path: the file.
      wanted: decides by the member's name (with '/', without a leading './').
      max_bytes: bound on the unpacked archive as a whole, headers included.

    Raises:
      ArchiveError: a member has an absolute path or one with '..', is a link, device, sparse or repeated, or
        the archive is damaged or beyond its bounds.
    """
    seen: set[str] = set()
    try:
        # mode 'r|': strictly forward, so that no header can send the reader elsewhere in the file
        with _open(path, max_bytes) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= _MAX_MEMBERS:
                    raise ArchiveError(f"{path} has more than {_MAX_MEMBERS:,} members; no data set here has.")
                name = _checked_name(member, path, max_bytes)
                if not member.isreg() or not wanted(name):
                    continue
                if name in seen:
                    raise ArchiveError(f"{path} holds {name!r} twice; which of the two is meant cannot be known.")
                seen.add(name)
                file = tar.extractfile(member)
                content = file.read() if file else b""
                if len(content) != member.size:
                    raise ArchiveError(f"{path} is cut off within {name!r}.")
                yield name, content
                tar.members = []  # type: ignore[attr-defined]  # headers read so far: there may be very many
    except _DAMAGE as e:
        raise _refusal(path, e) from e


def _refusal(path: pathlib.Path, error: BaseException) -> BaseException:
    """Says that the file is damaged, unless the error speaks for itself (ours, or the file system's)."""
    if isinstance(error, ArchiveError) or (isinstance(error, OSError) and error.errno is not None):
        return error
    return ArchiveError(f"{path} is damaged or cut off: {error or type(error).__name__}")


def _checked_name(member: tarfile.TarInfo, path: pathlib.Path, max_bytes: int) -> str:
    name = member.name
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or re.match(r"[A-Za-z]:", name) or not name.isprintable():
        raise ArchiveError(f"{path} holds the path {name!r}, which leads out of its folder; the archive is refused.")
    if not (member.isreg() or member.isdir()) or member.issparse():
        kind = "link" if member.islnk() or member.issym() else "sparse file" if member.issparse() else "device or pipe"
        raise ArchiveError(f"{path} holds {name!r}, a {kind}; only files and folders are expected: refused.")
    if not 0 <= member.size <= max_bytes:
        raise ArchiveError(
            f"{path} announces {member.size:,} bytes for {name!r}; the whole is bound to {max_bytes:,}: refused."
        )
    return "/".join(part for part in parts if part not in ("", "."))


class _ArrayType(Stateful):
    """Stands in for `numpy.dtype` while unpickling: only unsigned bytes have a meaning in these files."""

    def __init__(self, arguments: tuple):
        if not arguments or arguments[0] not in ("u1", b"u1", "uint8", b"uint8"):
            raise PickleError("an array has another type than unsigned bytes")

    def set_state(self, state: Any) -> None:
        pass  # byte order and alignment, which single bytes do not have


class _Array(Stateful):
    """Stands in for `numpy.ndarray`: takes the pickled state apart, and checks it, itself."""

    def __init__(self, _: tuple):
        self.value = np.zeros(0, np.uint8)

    def set_state(self, state: Any) -> None:
        parts = state[1:] if type(state) is tuple else ()
        if [type(part) for part in parts] != [tuple, _ArrayType, bool, bytes] or parts[2]:
            raise PickleError("an array has a form that CIFAR's files do not have")
        shape, _, _, raw = parts
        if not all(type(length) is int and length > 0 for length in shape) or math.prod(shape) != len(raw):
            raise PickleError(f"the {len(raw):,} bytes of an array cannot be reshaped to what it announces")
        self.value = np.frombuffer(raw, np.uint8).reshape(shape)


_MARKER = object()  # `numpy.ndarray`, which is an argument and nothing else
_GLOBALS: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): Builder(_Array) for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    ("numpy", "ndarray"): _MARKER,
    ("numpy", "dtype"): Builder(_ArrayType),
}


def read_pickled_dict(content: bytes, origin: str) -> dict[bytes, Any]:
    """Reads a dict of lists, numbers, byte strings and uint8 arrays out of a pickle, and runs nothing from it.

    This is the form of the files in CIFAR's 'python' archives (pickle protocol 2, written by Python 2). No name in
    the pickle is ever looked up: the three names behind a NumPy array get checked stand-ins of our own, any other
    is refused (`utils.pickle_machine`).

    Args:
      content: the pickle.
      origin: what to call it in errors.

    Returns:
      The dict, keys as bytes, arrays as `np.ndarray` (read-only).

    Raises:
      ArchiveError: the pickle is damaged, asks for code, or is no such dict.
    """
    try:
        data, _ = Machine(content, 0, _GLOBALS, byte_strings=True).run()
    except PickleError as e:
        raise ArchiveError(f"{origin} is not one of CIFAR's pickled batches: {e}. Refused.") from e
    if not isinstance(data, dict):
        raise ArchiveError(f"{origin} holds a {type(data).__name__}, where CIFAR's batches hold a dict. Refused.")
    return {
        key if isinstance(key, bytes) else str(key).encode(): value.value if isinstance(value, _Array) else value
        for key, value in data.items()
    }

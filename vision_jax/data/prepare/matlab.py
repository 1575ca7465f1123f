"""Reading numeric arrays from MATLAB 5 files, as far as data sets need it, when the file may be hostile.

SciPy's reader is compiled code that trusts the file: among files with a few bytes changed at random are some that make
it crash the process. This one reads real arrays of unsigned bytes and of doubles, and refuses everything else.

The format is described in MathWorks, "MAT-File Format": a header of 128 bytes, then elements, each a tag (kind, size)
and data, padded to 8 bytes; a matrix is an element made of four others (flags, dimensions, name, data).
"""

import math
import pathlib
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from vision_jax.data.prepare.archives import ArchiveError

_MATRIX, _COMPRESSED = 14, 15
_CLASSES = {
    1: "cell",
    2: "struct",
    3: "object",
    4: "char",
    5: "sparse",
    6: "double",
    7: "single",
    8: "int8",
    9: "uint8",
}
# How the values may be stored; MATLAB stores small whole doubles as bytes.
_STORED: dict[int, np.dtype[Any]] = {2: np.dtype("u1"), 9: np.dtype("<f8")}


def read_mat(path: pathlib.Path, names: Collection[str], *, max_bytes: int) -> dict[str, np.ndarray]:
    """Reads the arrays `names` from a MATLAB 5 file (little-endian, compressed or not).

    Args:
      path: the file.
      names: the variables to read; others are passed over.
      max_bytes: bound on what the file unpacks to, in all.

    Returns:
      Those of `names` that the file has: uint8 or float64 arrays (in MATLAB's order of axes, read-only).

    Raises:
      ArchiveError: the file is no MATLAB 5 file, damaged or beyond its bound, or one of `names` is something else
        than a real array of class uint8 or double.
    """
    arrays: dict[str, np.ndarray] = {}
    for content in _matrices(path, max_bytes):
        try:
            name, array = _read_matrix(content, names)
        except (struct.error, ValueError, IndexError) as e:
            raise ArchiveError(f"{path} is damaged, or no file of plain arrays: {e}") from e
        if name in arrays:
            raise ArchiveError(f"{path} holds {name!r} twice.")
        if array is not None:
            arrays[name] = array
    return arrays


def _matrices(path: pathlib.Path, max_bytes: int) -> Iterator[memoryview]:
    """Yields the content of each matrix in the file."""
    left = max_bytes
    with open(path, "rb") as f:
        if f.read(128)[124:] != b"\x00\x01IM":
            raise ArchiveError(f"{path} is no MATLAB 5 file (little-endian), the format of SVHN's 32x32 files.")
        while tag := f.read(8):
            kind, size = struct.unpack("<II", tag) if len(tag) == 8 else (0, 0)
            data = f.read(min(size, max_bytes + 1))
            if kind not in (_MATRIX, _COMPRESSED) or len(data) != size:
                raise ArchiveError(f"{path} is damaged or cut off: an element of kind {kind} with {size:,} bytes.")
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                try:
                    data = unpacker.decompress(data, left + 1)
                except zlib.error as e:
                    raise ArchiveError(f"{path} is damaged: {e}") from e
                left -= len(data)
                if left >= 0 and not unpacker.eof:
                    raise ArchiveError(f"{path} is damaged or cut off within a compressed array.")
                kind, size = struct.unpack("<II", data[:8]) if len(data) >= 8 else (0, 0)
                if left >= 0 and (kind != _MATRIX or size != len(data) - 8):
                    raise ArchiveError(
                        f"{path} is damaged: a compressed element holds kind {kind} with {size:,} bytes."
                    )
                content = memoryview(data)[8:]
            else:
                left -= size
                content = memoryview(data)
            if left < 0:
                raise ArchiveError(
                    f"{path} unpacks to more than {max_bytes:,} bytes, the bound for this file: a decompression bomb "
                    "or another file. Refused."
                )
            yield content


def _read_matrix(content: memoryview, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    """Reads name and values of a matrix; values are None where the name is not wanted."""
    (_, flags), offset = _element(content, 0)
    (_, dimensions), offset = _element(content, offset)
    (_, raw_name), offset = _element(content, offset)
    name = bytes(raw_name).decode("latin-1")
    if name not in names:
        return name, None
    (flag_bits,) = struct.unpack_from("<I", flags)
    kind = _CLASSES.get(flag_bits & 0xFF, f"class {flag_bits & 0xFF}")
    if kind not in ("double", "uint8") or flag_bits & 0x800:
        raise ValueError(
            f"{name} is {'complex ' if flag_bits & 0x800 else ''}{kind}, expected an array of uint8 or double"
        )
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    (stored, values), _ = _element(content, offset)
    if stored not in _STORED:
        raise ValueError(f"{name} is stored in a form (kind {stored}) that arrays of {kind} do not have here")
    found = len(values) / _STORED[stored].itemsize
    if not 2 <= len(shape) <= 8 or min(shape) < 0 or math.prod(shape) != found:
        raise ValueError(f"{name} announces the shape {shape} and holds {found:g} values")
    array = np.frombuffer(values, _STORED[stored]).reshape(shape, order="F")
    return name, array if kind == "uint8" and stored == 2 else array.astype(np.float64)


def _element(content: memoryview, offset: int) -> tuple[tuple[int, memoryview], int]:
    """Reads the element at `offset`: (kind, data), and where the next one begins."""
    (first,) = struct.unpack_from("<I", content, offset)
    if first >> 16:  # the short form: kind, size and up to four bytes of data in eight bytes
        kind, size, start, end = first & 0xFFFF, first >> 16, offset + 4, offset + 8
        if size > 4:
            raise ValueError(f"a short element with {size} bytes")
    else:
        kind, (size,), start = first, struct.unpack_from("<I", content, offset + 4), offset + 8
        end = start + -(-size // 8) * 8
    if start + size > len(content):
        raise ValueError(f"an element announces {size:,} bytes where {max(len(content) - start, 0):,} are left")
    return (kind, content[start : start + size]), end

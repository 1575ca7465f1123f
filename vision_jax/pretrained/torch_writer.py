"""Writes state dicts that PyTorch loads, without PyTorch: the zip format of ``torch.save``, and .safetensors.

The file that ``write_pth`` makes holds an ``OrderedDict`` of tensors, one storage each, and is read by
``torch.load(..., weights_only=True)`` of PyTorch 1.6 and later. Both formats are written to a temporary name
first, and the same arrays give the same bytes.
"""

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from vision_jax.pretrained.array_files import SAFETENSORS_DTYPES
from vision_jax.pretrained.torch_file import STORAGES
from vision_jax.utils import files

_ALIGNMENT = 64  # of every storage in the file, as PyTorch does it, so that it can be mapped
_LOCAL_HEADER_BYTES = 30
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_pth(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict in the zip format of ``torch.save``.

    Args:
      path: The file to write.
      state_dict: Arrays under PyTorch's names and in PyTorch's layout (OIHW kernels).

    Raises:
      ValueError: when an array has a type that PyTorch's storages do not have.
    """
    arrays = {name: _little_endian(array) for name, array in state_dict.items()}
    program = _program(arrays)

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "archive/data.pkl", program)
        _add(archive, "archive/byteorder", b"little")
        for index, array in enumerate(arrays.values()):
            _add(archive, f"archive/data/{index}", array.tobytes())
        _add(archive, "archive/version", b"3\n")


def write_safetensors(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays as a .safetensors file.

    Args:
      path: The file to write.
      arrays: Any arrays of numbers by name.
      metadata: Free text for the file's header.

    Raises:
      ValueError: when an array has a type that the format does not have.
    """
    dense = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    for name, array in dense.items():
        if array.dtype.newbyteorder("<") not in SAFETENSORS_DTYPES.values():
            raise ValueError(f"{name}: a .safetensors file cannot hold {array.dtype}; only {list(SAFETENSORS_DTYPES)}")
    content = safetensors.numpy.save(dense, dict(metadata) if metadata else None)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        file.write(content)


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array


def _program(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle (protocol 2) of an OrderedDict of tensors whose storages are named 0, 1, 2 and so on."""
    kinds = {np.dtype(kind): name for name, kind in STORAGES.items() if name != "UntypedStorage"}
    parts = [b"\x80\x02", _name("collections", "OrderedDict"), b")R("]
    for index, (name, array) in enumerate(arrays.items()):
        if array.dtype not in kinds:
            raise ValueError(f"{name}: PyTorch has no storage for {array.dtype}; it has {sorted(kinds.values())}")
        strides = _contiguous_strides(array.shape)
        parts += [
            _text(name),
            _name("torch._utils", "_rebuild_tensor_v2"),
            b"((",
            _text("storage"),
            _name("torch", kinds[array.dtype]),
            _text(str(index)),
            _text("cpu"),
            _int(array.size),
            b"tQ",
            _int(0),
            b"(" + b"".join(map(_int, array.shape)) + b"t",
            b"(" + b"".join(map(_int, strides)) + b"t",
            b"\x89",  # requires_grad=False
            _name("collections", "OrderedDict") + b")R",  # no hooks
            b"tR",
        ]
    return b"".join([*parts, b"u."])


def _contiguous_strides(shape: tuple[int, ...]) -> list[int]:
    strides = []
    step = 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return strides[::-1]


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _int(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    # The local header ends with an extra field of any length: what is needed to align the content.
    assert archive.fp is not None  # it is open
    start = archive.fp.tell() + _LOCAL_HEADER_BYTES + len(name) + 4
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, content)

"""Reads .safetensors and .npz files without trusting what they say about themselves.

The format of safetensors: https://github.com/huggingface/safetensors; of .npy and .npz: NEP 1 and
``numpy.lib.format``. All arrays are read-only.
"""

import io
import math
import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import ml_dtypes
import numpy as np
import safetensors

SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
        "C64": np.complex64,
    }.items()
}
_MAX_DIMENSIONS = 32


class TorchFileError(ValueError):
    """A weight file that is damaged, hostile, or of a kind that is not read here."""


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Returns the tensors in the bytes of a .safetensors file; the library checks that header and bytes agree."""
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise TorchFileError(f"the .safetensors file is damaged: {str(error)[:200]}") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in SAFETENSORS_DTYPES or len(entry["shape"]) > _MAX_DIMENSIONS:
            raise TorchFileError(f"tensor {name!r} has the type {entry['dtype']} and {len(entry['shape'])} dimensions")
        raw = np.frombuffer(entry["data"], np.uint8)
        tensors[name] = _array(raw, SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"])
    return tensors


def check_empty(shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuses an array without elements whose other dimensions are beyond what NumPy can count."""
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize >= 2**48:
        raise TorchFileError(f"an empty array has the shape {tuple(shape)}")


def _array(raw: np.ndarray, dtype: np.dtype, shape: Sequence[int], order: Literal["C", "F"] = "C") -> np.ndarray:
    if dtype == np.bool_:
        raw = (raw != 0).view(np.uint8)  # bytes other than 0 and 1 are no valid booleans
    if not raw.size:
        check_empty(shape, dtype)
    array = raw.view(dtype).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _are_sizes(values: Any) -> bool:
    return type(values) is list and all(type(value) is int and 0 <= value < 2**48 for value in values)


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Returns the bytes of a zip file as an archive whose member names are unique."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # zipfile lets out whatever its parsing runs into
        raise TorchFileError(f"the zip archive is damaged or cut off: {error}") from None
    if len(set(archive.namelist())) != len(archive.namelist()):
        raise TorchFileError("the zip archive has two members of the same name")
    return archive


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Returns the bytes of one member, of the size that was declared for it, with its checksum verified."""
    try:
        with archive.open(info) as member:
            content = member.read(info.file_size + 1)
    except Exception as error:  # as above, and zlib's and the checksum's errors
        raise TorchFileError(f"member {info.filename!r} of the zip archive is damaged: {error}") from None
    if len(content) != info.file_size:
        raise TorchFileError(f"member {info.filename!r} is not as long as the zip archive says")
    return content


def read_npz(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, np.ndarray]:
    """Returns the arrays of an opened .npz of ``file_bytes`` bytes; only numbers are read."""
    members = archive.infolist()
    if sum(info.file_size for info in members) > 32 * file_bytes + 64 * 2**20:
        raise TorchFileError("the .npz claims to be far larger than the file when unpacked")
    arrays = {}
    for info in members:
        if not info.filename.endswith(".npy"):
            raise TorchFileError(f"the .npz has a member {info.filename!r} that is no array")
        arrays[info.filename.removesuffix(".npy")] = _read_npy(info.filename, read_member(archive, info))
    return arrays


def _read_npy(name: str, content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = read_header[version](stream)
    except Exception as error:  # a header is parsed as a Python literal, which can fail in many ways
        raise TorchFileError(f"array {name!r} has a damaged header: {str(error)[:200]}") from None
    if dtype.kind not in "biufc" or dtype.byteorder == ">":
        raise TorchFileError(f"array {name!r} has the type {dtype}; only little-endian numbers are read")
    if len(shape) > _MAX_DIMENSIONS or not _are_sizes(list(shape)):
        raise TorchFileError(f"array {name!r} has a shape that makes no sense")
    body = content[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise TorchFileError(f"array {name!r} of shape {shape} and type {dtype} does not fit its {len(body):,} bytes")
    return _array(np.frombuffer(body, np.uint8), dtype, shape, "F" if fortran else "C")

"""Reads .safetensors and .npz files without trusting what they say about themselves.

The format of safetensors: https://github.com/huggingface/safetensors; of .npy and .npz: NEP 1 and
``numpy.lib.format``. All arrays are read-only.
"""

import io
import json
import math
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from vision_jax.pretrained.pickle_machine import TorchFileError

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
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_DIMENSIONS = 32


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Returns the tensors in the bytes of a .safetensors file, in the order of its header.

    Raises:
      TorchFileError: when header and bytes do not fit together to the last byte.
    """
    header, body = _safetensors_header(data)
    tensors = {}
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = _safetensors_entry(name, entry)
        if not start <= end <= len(body) or end - start != math.prod(shape) * dtype.itemsize:
            raise TorchFileError(
                f"tensor {name!r} of shape {shape} and type {dtype} does not fit bytes {start}-{end}"
            )
        spans.append((start, end))
        # A copy: the header's length puts the bytes at odd addresses.
        raw = np.frombuffer(body[start:end], np.uint8).copy()
        if dtype == np.bool_:
            raw = (raw != 0).view(np.uint8)
        tensors[name] = _frozen(raw.view(dtype).reshape(shape))
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != edges[:-1] or edges[-1] != len(body):
        raise TorchFileError("the tensors overlap or leave holes in the file")
    return tensors


def safetensors_metadata(data: bytes) -> dict[str, str]:
    """Returns the free-text metadata of a .safetensors file."""
    metadata = _safetensors_header(data)[0].get("__metadata__", {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise TorchFileError("the metadata of the .safetensors file is not a table of texts")
    return metadata


def _safetensors_header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise TorchFileError(f"the .safetensors header claims {length:,} bytes of a file of {len(data):,}")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        if isinstance(error, TorchFileError):
            raise
        raise TorchFileError(f"the .safetensors header is not JSON: {str(error)[:200]}") from None
    if type(header) is not dict:
        raise TorchFileError("the .safetensors header is not a table")
    return header, memoryview(data)[8 + length :]


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise TorchFileError("the .safetensors header names a tensor twice")
    return table


def _safetensors_entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], list[int]]:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TorchFileError(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in SAFETENSORS_DTYPES:
        raise TorchFileError(f"tensor {name!r} has the type {str(dtype)[:40]!r}, which is not read here")
    if not _are_sizes(shape) or not _are_sizes(span) or len(span) != 2 or len(shape) > _MAX_DIMENSIONS:
        raise TorchFileError(f"tensor {name!r} has a shape or an offset that makes no sense")
    return SAFETENSORS_DTYPES[dtype], tuple(shape), span


def _are_sizes(values: Any) -> bool:
    return type(values) is list and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


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
        raise TorchFileError(
            f"array {name!r} of shape {shape} and type {dtype} does not fit its {len(body):,} bytes"
        )
    raw = np.frombuffer(body, np.uint8)
    if dtype == np.bool_:
        raw = (raw != 0).view(np.uint8)
    return _frozen(raw.view(dtype).reshape(shape, order="F" if fortran else "C"))

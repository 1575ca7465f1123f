"""Reads PyTorch weight files safely, without PyTorch: zip and legacy format, .safetensors and .npz.

A ``.pth`` from the internet is input, not code: the pickle inside goes through ``pickle_machine``, which can
build tensors and plain containers and nothing else, and every size, offset and stride in the file is checked
against the bytes that are there before an array is made. Tensors that share a storage in the file share
memory here; all arrays are read-only. The formats are those of ``torch.save`` (``torch/serialization.py``)
and of https://github.com/huggingface/safetensors.
"""

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vision_jax.pretrained import array_files
from vision_jax.pretrained.array_files import TorchFileError
from vision_jax.utils.pickle_machine import Builder, Machine, PickleError, check_key, check_plain

__all__ = ["TorchFileError", "read", "state_dict"]

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_DIMENSIONS = 32
_ADVICE = "; save a state dict (torch.save(model.state_dict(), ...)) instead of whole objects"
_NESTING = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep the weights
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes of DataParallel and torch.compile

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexDoubleStorage": np.complex128,
    "ComplexFloatStorage": np.complex64,
    "UntypedStorage": np.uint8,
}
_DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


@dataclass(frozen=True)
class _StorageType:
    dtype: np.dtype


@dataclass(frozen=True)
class _Storage:
    """Raw bytes that tensors look into; ``data`` is None while only the layout of a legacy file is read."""

    dtype: np.dtype
    data: np.ndarray | None


def read(path: str | os.PathLike) -> Any:
    """Returns what the file holds: nested dictionaries, lists and tuples with NumPy arrays as leaves.

    Half precision stays half precision (bfloat16 and float8 through ``ml_dtypes``); a ``torch.Size`` is
    a tuple; a parameter is its array. The file is told by its content, not by its name.

    Args:
      path: A ``.pth``/``.pt``/``.th`` written by ``torch.save`` in either format, a ``.safetensors`` or
        a ``.npz``.

    Raises:
      TorchFileError: for files that are damaged, hostile, big-endian, or of another kind; it names file
        and reason.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        return _read(data)
    except (TorchFileError, PickleError) as error:
        raise TorchFileError(f"{path}: {error}") from None


def state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the weights in a file as a flat dictionary from PyTorch's names to arrays.

    Looks inside ``{'state_dict': …}`` and the like, and removes the ``module.`` of DataParallel and the
    ``_orig_mod.`` of ``torch.compile`` when every name carries it.

    Raises:
      TorchFileError: as ``read``, and when the file holds no state dict.
    """
    found = read(path)
    for _ in range(3):
        inner = [found[key] for key in _NESTING if isinstance(found, dict) and isinstance(found.get(key), dict)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, dict) or not any(isinstance(value, np.ndarray) for value in found.values()):
        raise TorchFileError(f"{path}: the file holds a {type(found).__name__} without tensors, not a state dict")
    odd = [key for key, value in found.items() if not isinstance(key, str) or not isinstance(value, np.ndarray)]
    if odd:
        raise TorchFileError(f"{path}: expected a tensor under every name of the state dict; not so: {odd[:5]}")
    weights = dict(found)
    for prefix in _WRAPPERS * 2:  # either may be outside
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _read(data: bytes) -> Any:
    if data[:4] == b"PK\x03\x04" or data[:4] == b"PK\x05\x06":
        return _read_zip(data)
    if data[:1] == b"\x80":
        return _read_legacy(data)
    if data[8:9] == b"{":
        return array_files.read_safetensors(data)
    if data[257:262] == b"ustar":
        raise TorchFileError(
            "this is the tar format of PyTorch 0.1; load it with an old PyTorch and torch.save it again"
        )
    raise TorchFileError(
        f"expected a PyTorch file (zip or legacy), .safetensors or .npz; found {len(data)} bytes "
        f"starting with {data[:16]!r}"
    )


# The zip format: a pickle, and one stored member per storage.


def _read_zip(data: bytes) -> Any:
    archive = array_files.open_zip(data)
    names = {info.filename: info for info in archive.infolist()}
    if any(name.endswith(".npy") for name in names):
        return array_files.read_npz(archive, len(data))
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise TorchFileError("the zip archive is neither a PyTorch file (no data.pkl) nor an .npz (no .npy)")
    root = pickles[0].removesuffix("data.pkl")
    if root + "constants.pkl" in names:
        raise TorchFileError("this is a TorchScript program; only the state dict of torch.save is read")
    if sum(info.file_size for info in names.values()) > len(data):
        raise TorchFileError("the archive's members are larger than the file: they overlap or are compressed")

    def member(name: str) -> bytes:
        info = names.get(root + name)
        if info is None:
            raise TorchFileError(f"the archive has no member {root + name!r}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise TorchFileError(f"member {root + name!r} is compressed; PyTorch stores its members as they are")
        return array_files.read_member(archive, info)

    if root + "byteorder" in names and member("byteorder") != b"little":
        raise TorchFileError("the file was written on a big-endian machine; re-save it on a little-endian one")
    storages: dict[str, np.ndarray] = {}

    def persistent_load(identifier: tuple) -> _Storage:
        dtype, key, elements, view = _storage_id(identifier)
        if view is not None:
            raise TorchFileError("the zip format has no storage views, and this file has one")
        if key not in storages:
            storages[key] = np.frombuffer(member(f"data/{key}"), np.uint8)
        return _Storage(dtype, _slice(storages[key], dtype, 0, elements))

    program = member("data.pkl")
    if len(program) > _MAX_PICKLE_BYTES:
        raise TorchFileError(f"data.pkl has {len(program):,} bytes; at most {_MAX_PICKLE_BYTES:,} are read")
    value, _ = Machine(program, 0, _globals(_budget(data)), persistent_load, advice=_ADVICE).run()
    check_plain(value, len(program))
    return value


# The legacy format: pickles of magic number, version, system and value, then the storages one after the
# other.


def _read_legacy(data: bytes) -> Any:
    position = 0
    header = []
    for _ in range(3):
        value, position = Machine(data, position, {}).run()
        header.append(value)
    magic, version, system = header
    if magic != _MAGIC or version != _LEGACY_PROTOCOL:
        raise TorchFileError("this is a pickle, but not one that torch.save has written (wrong magic number)")
    if type(system) is not dict or system.get("little_endian", system.get(b"little_endian")) is not True:
        raise TorchFileError("the file was written on a big-endian machine; re-save it on a little-endian one")

    # The bytes come after the value that refers to them, so a first run finds out which storages there are.
    layout: dict[str, tuple[np.dtype, int]] = {}

    def survey(identifier: tuple) -> _Storage:
        dtype, key, elements, _ = _storage_id(identifier)
        layout.setdefault(key, (dtype, elements))
        return _Storage(dtype, None)

    _, end = Machine(data, position, _globals(_budget(data)), survey, advice=_ADVICE).run()
    if end - position > _MAX_PICKLE_BYTES:
        raise TorchFileError(f"the pickle has {end - position:,} bytes; at most {_MAX_PICKLE_BYTES:,} are read")
    keys, start = Machine(data, end, {}).run()
    storages = _legacy_storages(data, start, keys, layout)

    def persistent_load(identifier: tuple) -> _Storage:
        dtype, key, elements, view = _storage_id(identifier)
        whole = _slice(storages[key], dtype, 0, elements)
        return _Storage(dtype, whole if view is None else _slice(whole, dtype, *view))

    value, _ = Machine(data, position, _globals(_budget(data)), persistent_load).run()
    check_plain(value, end - position)
    return value


def _legacy_storages(
    data: bytes, position: int, keys: Any, layout: Mapping[str, tuple[np.dtype, int]]
) -> dict[str, np.ndarray]:
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(layout):
        raise TorchFileError("the list of storages does not match the tensors of the file")
    storages = {}
    for key in keys:
        dtype, expected = layout[key]
        if len(data) - position < 8:
            raise TorchFileError("the file is cut off: a storage is missing")
        (elements,) = struct.unpack_from("<q", data, position)
        if elements != expected:
            raise TorchFileError(f"storage {key!r} has {elements} elements where its tensors expect {expected}")
        position += 8
        size = elements * dtype.itemsize
        if size > len(data) - position:
            raise TorchFileError(f"the file is cut off: storage {key!r} needs {size:,} bytes")
        # A copy, because what follows a pickle stands at odd addresses.
        storages[key] = np.frombuffer(data, np.uint8, size, position).copy()
        position += size
    return storages


# What the pickles of both formats may name.


def _storage_id(identifier: tuple) -> tuple[np.dtype, str, int, tuple[int, int] | None]:
    """Returns dtype, key, number of elements and view (offset, elements) of a checked persistent id."""
    if len(identifier) not in (5, 6) or type(identifier[0]) is not str or identifier[0] != "storage":
        raise TorchFileError("the pickle refers to something that is not a storage")
    kind, key, _, elements = identifier[1:5]
    if type(kind) is not _StorageType or type(key) is not str or type(elements) is not int or elements < 0:
        raise TorchFileError("the pickle describes a storage in a way that makes no sense")
    view = identifier[5] if len(identifier) == 6 else None
    if view is not None:
        if type(view) is not tuple or len(view) != 3 or not _are_sizes(view[1:]):
            raise TorchFileError("the pickle describes a view of a storage in a way that makes no sense")
        view = view[1], view[2]
    return kind.dtype, key, elements, view


def _slice(raw: np.ndarray, dtype: np.dtype, offset: int, elements: int) -> np.ndarray:
    start, end = offset * dtype.itemsize, (offset + elements) * dtype.itemsize
    if end > raw.size:
        raise TorchFileError(f"a storage of {raw.size:,} bytes is used as if it had {end:,}")
    return raw[start:end]


def _are_sizes(values: Any) -> bool:
    return type(values) is tuple and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _budget(data: bytes) -> Callable[[int], None]:
    """Returns a function that counts bytes and refuses when they are far more than the file has.

    Strides of zero and tied storages let a small file describe any number of large tensors, which whoever
    copies them would have to pay for; and the builders that copy can be applied to one value many times.
    """
    left = 4 * len(data) + 64 * 2**20

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise TorchFileError("the values are far larger than the file: strides, ties or copies repeat its data")

    return spend


def _globals(spend: Callable[[int], None]) -> dict[tuple[str, str], Any]:
    """Returns the table of everything that a weight file may name."""

    def tensor(dtype: np.dtype, storage: _Storage, offset: Any, size: Any, stride: Any) -> np.ndarray:
        if not (_are_sizes((offset,)) and _are_sizes(size) and _are_sizes(stride)):
            raise TorchFileError("a tensor's offset, size or stride is not a tuple of reasonable positive integers")
        if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
            raise TorchFileError(f"a tensor has {len(size)} sizes and {len(stride)} strides")
        if storage.data is None:
            return np.empty(0, dtype)
        count, extent = 1, offset + 1
        for length, step in zip(size, stride, strict=True):
            count *= length
            extent += (length - 1) * step
        if count == 0:
            array_files.check_empty(size, dtype)
            return np.empty(size, dtype)
        spend(count * dtype.itemsize)
        boolean = dtype == np.bool_
        available = storage.data.size // dtype.itemsize
        if extent > available:
            raise TorchFileError(f"a tensor reaches element {extent} of a storage with {available}")
        steps = [step * dtype.itemsize for step in stride]
        raw_type = np.uint8 if boolean else dtype
        view = np.ndarray(size, raw_type, storage.data.data, offset * dtype.itemsize, steps)
        if boolean:
            view = np.asarray(view != 0)  # bytes other than 0 and 1 are no valid booleans
        view.flags.writeable = False
        return view

    def rebuild_tensor(arguments: tuple) -> np.ndarray:
        # (storage, offset, size, stride[, requires_grad, backward_hooks]); a seventh marks lazy conjugates
        if not 4 <= len(arguments) <= 6 or type(arguments[0]) is not _Storage:
            raise TorchFileError("a tensor is described in a way that is not known here")
        return tensor(arguments[0].dtype, *arguments[:4])

    def rebuild_tensor_v3(arguments: tuple) -> np.ndarray:
        # (untyped storage, offset, size, stride, requires_grad, backward_hooks, dtype)
        if len(arguments) != 7 or type(arguments[0]) is not _Storage or not isinstance(arguments[6], np.dtype):
            raise TorchFileError("a tensor is described in a way that is not known here")
        return tensor(arguments[6], *arguments[:4])

    def parameter(arguments: tuple) -> np.ndarray:
        if not arguments or not isinstance(arguments[0], np.ndarray):
            raise TorchFileError("a parameter without a tensor")
        return arguments[0]

    def size(arguments: tuple) -> tuple:
        if len(arguments) != 1 or not _are_sizes(arguments[0]):
            raise TorchFileError("a torch.Size is not a tuple of sizes")
        return arguments[0]

    def ordered_dict(arguments: tuple) -> OrderedDict:
        pairs = arguments[0] if arguments else []  # Python 2 gave the items as a list of pairs
        if (
            len(arguments) > 1
            or type(pairs) is not list
            or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs)
        ):
            raise TorchFileError("an OrderedDict is built from something that is not a list of pairs")
        spend(100 * len(pairs))
        return OrderedDict((check_key(key), value) for key, value in pairs)

    def set_of(arguments: tuple) -> set:
        if len(arguments) != 1 or type(arguments[0]) is not list:
            raise TorchFileError("a set is built from something that is not a list")
        spend(100 * len(arguments[0]))
        return set(map(check_key, arguments[0]))

    def no_bytes(arguments: tuple) -> bytes:
        if arguments:
            raise TorchFileError("bytes are spelled in a way that is not known here")
        return b""

    def encoded(arguments: tuple) -> bytes:
        if [type(argument) for argument in arguments] != [str, str] or arguments[1] != "latin1":
            raise TorchFileError("bytes are spelled in a way that is not known here")
        spend(len(arguments[0]))
        try:
            return arguments[0].encode("latin1")
        except UnicodeEncodeError:
            raise TorchFileError("bytes are spelled with characters that are no bytes") from None

    table: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor"): Builder(rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Builder(rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Builder(rebuild_tensor_v3),
        ("torch._utils", "_rebuild_parameter"): Builder(parameter),
        ("torch.nn.parameter", "Parameter"): Builder(parameter),  # before PyTorch 0.4
        ("torch", "Size"): Builder(size),
        ("collections", "OrderedDict"): Builder(ordered_dict),
        ("_codecs", "encode"): Builder(encoded),  # how protocol 2 spells bytes,
        ("__builtin__", "bytes"): Builder(no_bytes),  # and how when there are none
    }
    for module in ("builtins", "__builtin__"):
        table[module, "set"] = Builder(set_of)
    for module in ("torch", "torch.cuda", "torch.storage"):
        table |= {(module, name): _StorageType(np.dtype(kind)) for name, kind in STORAGES.items()}
    table |= {("torch", name): np.dtype(kind) for name, kind in _DTYPES.items()}
    return table

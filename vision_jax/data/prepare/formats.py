"""Parsers of the files in which publishers give out their data sets.

Each returns `images`, uint8 [N, H, W, C], and `labels`, int32 [N], in the file's order, and takes nothing in the
file on trust: sizes that a header announces are compared with what is there before memory is reserved for them.
"""

import dataclasses
import io
import math
import pathlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vision_jax.data.decode import ImageError, decode_image
from vision_jax.data.prepare.archives import ArchiveError, read_gz, read_pickled_dict
from vision_jax.data.prepare.matlab import read_mat

Split = tuple[np.ndarray, np.ndarray]


def read_idx(path: pathlib.Path, *, max_bytes: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes (MNIST's format: magic 0x00 0x00 0x08 n, n big-endian sizes, data).

    Args:
      path: the file, gzip or plain.
      max_bytes: bound on the unpacked file.

    Returns:
      uint8 array of the announced shape, read-only.

    Raises:
      ArchiveError: the file is damaged, beyond the bound, or announces another size than it has.
    """
    content = read_gz(path, max_bytes=max_bytes)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3] or not content[3]:
        raise ArchiveError(f"{path} is no idx file of unsigned bytes: it begins with {content[:4]!r}.")
    ndim = content[3]
    shape = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
    found = len(content) - 4 - 4 * ndim
    # Where one size is 0, the others are still multiplied by NumPy.
    if math.prod(shape) != found or math.prod(max(size, 1) for size in shape) >= 2**48:
        raise ArchiveError(f"{path} announces {shape}, {math.prod(shape):,} bytes, and holds {found:,}: refused.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def read_mnist(images_path: pathlib.Path, labels_path: pathlib.Path, *, max_bytes: int) -> Split:
    """Reads a pair of MNIST-format files (MNIST, Fashion-MNIST): images [N, 28, 28, 1], labels 0 to 9."""
    images = read_idx(images_path, max_bytes=max_bytes)
    labels = read_idx(labels_path, max_bytes=max_bytes)
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ArchiveError(
            f"{images_path} and {labels_path} hold arrays of {images.shape} and {labels.shape}; expected are "
            "(N, 28, 28) and (N,)."
        )
    return images[..., None], _checked_labels(labels, 10, labels_path)


@dataclasses.dataclass(frozen=True)
class CifarLayout:
    """What stands where in one of CIFAR's archives.

    Attributes:
      folder: the folder inside the archive.
      splits: split to its files, in order.
      names: the file of class names.
      label: in the binary layout, the number of label bytes per record, of which the last counts; in the
        python layout, the key of the labels.
      names_key: in the python layout, the key of the class names.
    """

    folder: str
    splits: Mapping[str, Sequence[str]]
    names: str
    label: int | bytes
    names_key: bytes = b""

    @property
    def files(self) -> list[str]:
        """All files that are read."""
        return [self.names, *(file for files in self.splits.values() for file in files)]


_TEN = [f"data_batch_{i}" for i in range(1, 6)]
CIFAR_LAYOUTS: dict[str, CifarLayout] = {
    "cifar-10-python.tar.gz": CifarLayout(
        "cifar-10-batches-py", {"train": _TEN, "test": ["test_batch"]}, "batches.meta", b"labels", b"label_names"
    ),
    "cifar-10-binary.tar.gz": CifarLayout(
        "cifar-10-batches-bin",
        {"train": [f"{name}.bin" for name in _TEN], "test": ["test_batch.bin"]},
        "batches.meta.txt",
        1,
    ),
    "cifar-100-python.tar.gz": CifarLayout(
        "cifar-100-python", {"train": ["train"], "test": ["test"]}, "meta", b"fine_labels", b"fine_label_names"
    ),
    "cifar-100-binary.tar.gz": CifarLayout(
        "cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, "fine_label_names.txt", 2
    ),
}


def read_cifar(layout: CifarLayout, contents: Mapping[str, bytes], class_names: Sequence[str]) -> dict[str, Split]:
    """Reads CIFAR-10 or CIFAR-100 (fine labels) from its binary or its python layout: the same arrays from both.

    Args:
      layout: which files mean what.
      contents: the content of each of `layout.files`.
      class_names: what the file of names must say.

    Returns:
      Split to images [N, 32, 32, 3] and labels.

    Raises:
      ArchiveError: a file is no batch of this layout, or the class names are others.
    """
    if isinstance(layout.label, int):
        found = contents[layout.names].decode("utf-8", "replace").split()
    else:
        listed = read_pickled_dict(contents[layout.names], layout.names).get(layout.names_key, [])
        names = listed if isinstance(listed, list) else []
        found = [name.decode("utf-8", "replace") for name in names if isinstance(name, bytes)]
    if found != list(class_names):
        raise ArchiveError(f"{layout.names} names the classes {found!r:.500}; expected are {list(class_names)}.")

    splits = {}
    for split, files in layout.splits.items():
        batches = [_cifar_batch(contents[file], layout.label, f"{layout.folder}/{file}") for file in files]
        rows = np.concatenate([rows for rows, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        images = np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        splits[split] = images, _checked_labels(labels, len(class_names), f"{layout.folder} ({split})")
    return splits


def _cifar_batch(content: bytes, label: int | bytes, origin: str) -> Split:
    if isinstance(label, int):
        record = label + 3072
        if not content or len(content) % record:
            raise ArchiveError(f"{origin} has {len(content):,} bytes, not a multiple of the record's {record:,}.")
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return records[:, label:], records[:, label - 1]
    batch = read_pickled_dict(content, origin)
    rows, labels = batch.get(b"data"), batch.get(label)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3072:
        raise ArchiveError(f"{origin} has no array of N x 3072 bytes under 'data'.")
    if not isinstance(labels, list) or len(labels) != len(rows) or not all(isinstance(i, int) for i in labels):
        raise ArchiveError(f"{origin} has no list of {len(rows)} labels under {label.decode()!r}.")
    if labels and not 0 <= min(labels) <= max(labels) < 256:
        raise ArchiveError(f"{origin} has labels from {min(labels)} to {max(labels)}.")
    return rows, np.array(labels, np.uint8)


def read_svhn(path: pathlib.Path, *, max_bytes: int) -> Split:
    """Reads a file of SVHN's format 2 (MATLAB 5: `X` uint8 [32, 32, 3, N], `y` [N, 1], where 10 means digit 0).

    Args:
      path: `train_32x32.mat` or `test_32x32.mat`.
      max_bytes: bound on the unpacked file.

    Returns:
      images [N, 32, 32, 3], labels 0 to 9: the digits that they show.

    Raises:
      ArchiveError: the file is damaged, beyond the bound, or holds something else.
    """
    arrays = read_mat(path, ("X", "y"), max_bytes=max_bytes)
    pixels, labels = (arrays.get(name, np.zeros((0, 0))) for name in ("X", "y"))
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise ArchiveError(f"{path} holds X as {pixels.dtype} {pixels.shape}; expected is uint8 (32, 32, 3, N).")
    if labels.shape != (pixels.shape[3], 1):
        raise ArchiveError(
            f"{path} holds y as {labels.dtype} {labels.shape}; expected is uint8 ({pixels.shape[3]}, 1)."
        )
    labels = labels[:, 0]
    if not np.isin(labels, np.arange(1, 11)).all():
        raise ArchiveError(f"{path} has labels from {labels.min()} to {labels.max()}; expected are 1 to 10.")
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels.astype(np.int32) % 10


def read_pets_list(content: bytes, class_names: Sequence[str], origin: str) -> list[tuple[str, int]]:
    """Reads `trainval.txt` or `test.txt` of Oxford-IIIT Pet: lines 'name class species breed', classes from 1.

    Returns:
      Picture names (without '.jpg') and labels from 0, in the list's order.

    Raises:
      ArchiveError: a line says something else, or repeats a picture.
    """
    examples = []
    for line in content.decode("utf-8", "replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(([A-Za-z_]+)_\d+) (\d+) \d+ \d+", line.strip())
        if not match or not 1 <= int(match[3]) <= len(class_names):
            raise ArchiveError(f"{origin} has the line {line[:80]!r}; expected is 'Breed_12 class species breed'.")
        if match[2].lower() != class_names[int(match[3]) - 1].lower():
            raise ArchiveError(f"{origin} gives {match[1]!r} the class of {class_names[int(match[3]) - 1]!r}.")
        examples.append((match[1], int(match[3]) - 1))
    if len({name for name, _ in examples}) != len(examples):
        raise ArchiveError(f"{origin} lists a picture twice.")
    return examples


# The pictures that TFDS's `oxford_iiit_pet` (4.0.0) writes anew, as their files are damaged or no JPEGs.
_REPAIRED_PETS = {
    *("beagle_116", "chihuahua_121", "Abyssinian_5", "Abyssinian_34"),
    *(f"Egyptian_Mau_{i}" for i in (14, 139, 145, 156, 167, 177, 186, 191)),
}


def repair_pet(name: str, content: bytes) -> bytes:
    """Gives the twelve known bad pictures of Oxford-IIIT Pet the form that TFDS gives them, and others back as is.

    They become JPEGs of quality 95 without alpha. For those that were PNGs the bytes are TFDS's own; for
    damaged JPEGs pixels can differ from TFDS's by the rounding of two decoders.
    """
    if name not in _REPAIRED_PETS:
        return content
    repaired = io.BytesIO()
    try:
        Image.fromarray(decode_image(content)).save(repaired, "JPEG", quality=95, subsampling="4:2:0", dpi=(300, 300))
    except ImageError as e:
        raise ArchiveError(f"{name}.jpg: {e}") from e
    return repaired.getvalue()


def _checked_labels(labels: np.ndarray, num_classes: int, origin: Any) -> np.ndarray:
    if labels.size and labels.max() >= num_classes:
        raise ArchiveError(f"{origin} has a label {labels.max()}; labels here go from 0 to {num_classes - 1}.")
    return labels.astype(np.int32)

"""A prepared data set on disk: plain NumPy files that are memory-mapped, and `info.json`.

    info.json            name, class names, splits and their sizes, provenance, fingerprint
    SPLIT_labels.npy     int32 [N]
    SPLIT_images.npy     uint8 [N, H, W, C], where all pictures have one size; otherwise
    SPLIT_files.bin      the encoded pictures (JPEG, ...), one after the other, as they came, and
    SPLIT_ends.npy       int64 [N], where each of them ends

`info.json` is written last: a folder that has one is complete.
"""

import copy
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.decode import ImageError, decode_image
from vision_jax.data.sources import ArraySource, Dataset, Example, Source
from vision_jax.utils import files

_INFO = "info.json"
_VERSION = 1


class EncodedSource:
    """Examples whose pictures are kept as files (JPEG, ...) in one file; `[i]` decodes to uint8 [H, W, 3].

    Opens its files where it is used, so that a copy sent to a worker process carries paths only.

    Attributes:
      labels: int32 [N].
      fingerprint: a digest of pictures and labels, in order.
    """

    def __init__(self, folder: pathlib.Path, split: str, fingerprint: str):
        self._folder, self._split, self.fingerprint = folder, split, fingerprint
        self.labels = np.load(folder / f"{split}_labels.npy")
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        self._decoded = True

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        if not self._decoded:
            return {"image": self.encoded(index), "label": self.labels[index]}
        try:
            return {"image": decode_image(self.encoded(index)), "label": self.labels[index]}
        except ImageError as e:
            raise ImageError(f"Picture {index} of {self._folder} ({self._split}): {e}") from e

    def encoded(self, index: int) -> bytes:
        """The bytes of picture `index` as it was published."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a split with {len(self)} examples")
        if self._maps is None:
            self._maps = (
                np.memmap(self._folder / f"{self._split}_files.bin", np.uint8, "r"),
                np.load(self._folder / f"{self._split}_ends.npy"),
            )
        data, ends = self._maps
        return data[ends[index - 1] if index else 0 : ends[index]].tobytes()

    def undecoded(self) -> "EncodedSource":
        """The same pictures, but 'image' is the file's bytes: what `transforms` decodes, only as far as needed."""
        other = copy.copy(self)
        other._decoded = False
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}


def write_arrays(folder: pathlib.Path, split: str, images: np.ndarray, labels: np.ndarray) -> str:
    """Writes a split of equally sized pictures; returns its fingerprint (sha256 of pixels, then labels)."""
    np.save(folder / f"{split}_images.npy", images)
    np.save(folder / f"{split}_labels.npy", labels.astype(np.int32))
    digest = hashlib.sha256()
    for start in range(0, len(images), 1024):  # by pieces: `images` may be a view of something on disk
        digest.update(images[start : start + 1024].tobytes())
    digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()


def write_encoded(folder: pathlib.Path, split: str, files: Iterable[bytes], labels: np.ndarray) -> str:
    """Writes a split of encoded pictures; returns its fingerprint (sha256 of lengths and files, then labels)."""
    digest, ends = hashlib.sha256(), []
    with open(folder / f"{split}_files.bin", "wb") as out:
        for content in files:
            out.write(content)
            ends.append(out.tell())
            digest.update(len(content).to_bytes(8, "little") + content)
    if len(ends) != len(labels):
        raise ValueError(f"{len(ends)} pictures and {len(labels)} labels in the split {split!r}")
    np.save(folder / f"{split}_ends.npy", np.array(ends, np.int64))
    np.save(folder / f"{split}_labels.npy", labels.astype(np.int32))
    digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()


def finish(
    folder: pathlib.Path,
    *,
    name: str,
    class_names: Sequence[str],
    fingerprints: Mapping[str, str],
    provenance: Mapping[str, str],
) -> None:
    """Writes `info.json`, by which a folder counts as complete.

    Args:
      folder: where the splits stand.
      name: of the data set.
      class_names: one per label.
      fingerprints: split to what its writer returned.
      provenance: what `Dataset.provenance` shall say.
    """
    labels = {split: np.load(folder / f"{split}_labels.npy", mmap_mode="r") for split in fingerprints}
    info = {
        "version": _VERSION,
        "name": name,
        "class_names": list(class_names),
        "splits": {
            split: {"examples": len(labels[split]), "fingerprint": digest} for split, digest in fingerprints.items()
        },
        "provenance": dict(provenance),
    }
    files.write_json(folder / _INFO, info)


def is_complete(folder: pathlib.Path) -> bool:
    """Whether `folder` holds a prepared data set."""
    return (folder / _INFO).is_file()


def read_info(folder: pathlib.Path) -> dict[str, Any]:
    """Returns `info.json`.

    Raises:
      ValueError: it was written by another version of this format.
    """
    info = json.loads((folder / _INFO).read_text())
    if info["version"] != _VERSION:
        raise ValueError(
            f"{folder} was prepared in version {info['version']} of the format, this program reads version "
            f"{_VERSION}. Delete the folder and prepare the data set again."
        )
    return info


def open_folder(folder: pathlib.Path) -> Dataset:
    """Opens a prepared data set; arrays are memory-mapped.

    Raises:
      FileNotFoundError: a file of it is missing.
      ValueError: it was written by another version of this format, or was tampered with.
    """
    info = read_info(folder)
    splits: dict[str, Source] = {}
    for split, facts in info["splits"].items():
        if (folder / f"{split}_files.bin").exists():
            source: Source = EncodedSource(folder, split, facts["fingerprint"])
        else:
            source = ArraySource(
                np.load(folder / f"{split}_images.npy", mmap_mode="r"), np.load(folder / f"{split}_labels.npy")
            )
        if len(source) != facts["examples"]:
            raise ValueError(
                f"{folder} has {len(source)} examples in {split!r}, its {_INFO} says {facts['examples']}. "
                "Delete the folder and prepare the data set again."
            )
        splits[split] = source
    fingerprint = ", ".join(f"{split} {facts['fingerprint']}" for split, facts in info["splits"].items())
    provenance = {**info["provenance"], "fingerprint": fingerprint}
    return Dataset(info["name"], splits, tuple(info["class_names"]), provenance)

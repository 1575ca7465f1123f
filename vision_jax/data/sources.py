"""Data sets as random-access sources: one shape for arrays, folders and prepared downloads."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """Random access to examples `{'image': uint8 [H, W, C], 'label': int32 scalar}`."""

    @property
    def labels(self) -> np.ndarray:
        """All labels, int32 [N], without decoding an image."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ArraySource:
    """Examples in two arrays (in memory or memory-mapped): `images` uint8 [N, H, W, C], `labels` int32 [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(
                "ArraySource takes uint8 images [N, H, W, C] and labels [N]; found "
                f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}."
            )
        self.images = images
        self.labels = labels.astype(np.int32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of shapes, pixels and labels, in order; read once."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        for start in range(0, len(self.images), 1024):  # by pieces: they may lie on disk
            digest.update(self.images[start : start + 1024].tobytes())
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        return {"image": self.images[index], "label": self.labels[index]}


class Subset:
    """The examples of `source` at `indices`, in that order."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        self.source, self.indices = source, np.asarray(indices, np.int64)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the chosen examples, int32 [N]."""
        return self.source.labels[self.indices]

    @property
    def fingerprint(self) -> str:
        """A digest of the source's examples and of which of them are here, in order."""
        return hashlib.sha256(fingerprint(self.source).encode() + self.indices.astype("<i8").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[int(self.indices[index])]


class Relabeled:
    """The examples of `source` with other labels: `places[k]` instead of `k`."""

    def __init__(self, source: Source, places: np.ndarray):
        self.source, self.places = source, np.asarray(places, np.int32)

    @property
    def labels(self) -> np.ndarray:
        """The new labels, int32 [N]."""
        return self.places[self.source.labels]

    @property
    def fingerprint(self) -> str:
        """A digest of the source's examples and of the new labels, in order."""
        return hashlib.sha256(fingerprint(self.source).encode() + self.places.astype("<i4").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return {**example, "label": self.places[example["label"]]}


def fingerprint(source: Source) -> str:
    """Returns the SHA-256 digest, hexadecimal, of the examples of a split: its attribute `fingerprint`.

    Sources that hold the same examples in different ways (`Subset`, files) have different ones.

    Raises:
        ValueError: the source has none.
    """
    digest = getattr(source, "fingerprint", None)
    if digest is None:
        raise ValueError(
            f"{type(source).__name__} has no `fingerprint`, so its examples cannot be told from others; give it that "
            "attribute, a SHA-256 digest of them."
        )
    return digest


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Named splits with what is known about them.

    Attributes:
        name: as in `config.data.name`.
        splits: 'train', 'val', 'test' (those that exist) to sources.
        class_names: one per label, empty where examples have no class.
        provenance: origin, license, citation, fingerprint: what a report states.
        superclasses: the coarser class that each class belongs to, one per label; empty where there are none.
    """

    name: str
    splits: Mapping[str, Source]
    class_names: tuple[str, ...]
    provenance: Mapping[str, str]
    superclasses: tuple[str, ...] = ()

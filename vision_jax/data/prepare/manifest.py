"""What is known about the data sets that can be prepared by name: `third_party/datasets.json`."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from vision_jax.utils import files

Checksum = Mapping[str, str]  # {"sha256" or "md5": digest, "origin": who says so}


@dataclasses.dataclass(frozen=True)
class File:
    """One of a publisher's files.

    Attributes:
      name: as the publisher calls it.
      url: where it can be had.
      unpacked_bytes: bound on what it may unpack to.
      bytes: its size, where known.
      checksums: of the file; any of them identifies it (publishers re-pack).
      content: member (or '' for the unpacked file itself) to checksum, for copies that were packed differently.
    """

    name: str
    url: str
    unpacked_bytes: int
    bytes: int | None = None
    checksums: tuple[Checksum, ...] = ()
    content: Mapping[str, Checksum] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One data set; see `third_party/README.md` for the meaning of the fields."""

    name: str
    title: str
    homepage: str
    license: str
    citation: str
    tfds: str
    prepared_bytes: int
    examples: Mapping[str, int]
    class_names: tuple[str, ...]
    files: Mapping[str, File]
    tfds_download_bytes: int | None = None
    any_file_suffices: bool = False
    superclasses: tuple[str, ...] = ()

    @property
    def provenance(self) -> dict[str, str]:
        """What a report says about the data's origin."""
        return {key: getattr(self, key) for key in ("title", "homepage", "license", "citation")}


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All data sets of the manifest by name."""
    return {name: _entry(name, raw) for name, raw in json.loads(files.third_party("datasets.json").read_text()).items()}


def _entry(name: str, raw: dict[str, Any]) -> Entry:
    files = {
        file: File(file, **{**facts, "checksums": tuple(facts["checksums"])}) for file, facts in raw["files"].items()
    }
    named = {key: tuple(raw.get(key, ())) for key in ("class_names", "superclasses")}
    return Entry(name, **{**raw, **named, "files": files})


def digests(source: pathlib.Path | bytes) -> dict[str, str]:
    """Returns sha256 and md5 of a file or of bytes, in one pass."""
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    if isinstance(source, bytes):
        for digest in sums.values():
            digest.update(source)
    else:
        with open(source, "rb") as f:
            while chunk := f.read(1 << 20):
                for digest in sums.values():
                    digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in sums.items()}


def agree(checksum: Checksum, found: Mapping[str, str]) -> bool:
    """Whether `checksum` is that of the content whose `digests` were found."""
    return all(found[kind] == digest for kind, digest in checksum.items() if kind in found)


def in_words(checksum: Checksum) -> str:
    """A checksum for a message: 'sha256 0123... (according to X)'."""
    kind = next(kind for kind in checksum if kind != "origin")
    return f"{kind} {checksum[kind]} (according to {checksum['origin']})"

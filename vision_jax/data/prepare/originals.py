"""Preparing a data set from a folder with the publisher's original files."""

import functools
import pathlib
import tempfile
from collections.abc import Callable, Mapping

import numpy as np

from vision_jax.data.prepare import formats, manifest, store
from vision_jax.data.prepare.archives import ArchiveError, read_gz, read_tar


class VerificationError(ValueError):
    """A file is not the one that its publisher gives out."""


class _Folder:
    """The folder with the originals of one data set, and what was found out about each of them."""

    def __init__(self, folder: pathlib.Path, entry: manifest.Entry, allow_unverified: bool):
        self.folder, self.entry, self._allow = folder, entry, allow_unverified
        self.notes: dict[str, str] = {}

    def find(self, name: str) -> pathlib.Path | None:
        """The path of an original, also where a '.gz' was already unpacked by hand."""
        for candidate in (name, name.removesuffix(".gz")):
            if (self.folder / candidate).is_file():
                return self.folder / candidate
        return None

    def verify(self, path: pathlib.Path, name: str, content: Callable[[], Mapping[str, bytes]]) -> None:
        """Compares a file with its published checksums; where they differ, its content with those known of it.

        Args:
          path: the file.
          name: its name in the manifest.
          content: reads the members (or '' for the unpacked file) of which content checksums may be known.

        Raises:
          VerificationError: both differ, and unverified files are not allowed.
        """
        file = self.entry.files[name]
        found = manifest.digests(path)
        for checksum in file.checksums:
            if manifest.agree(checksum, found):
                self.notes[path.name] = f"verified by {manifest.in_words(checksum)}"
                return
        if file.content and self._content_agrees(file, content()):
            self.notes[path.name] = "packed differently from the original, content verified"
            return
        expected = " or ".join(manifest.in_words(checksum) for checksum in file.checksums)
        self._refuse_or_note(path, f"has sha256 {found['sha256']}, md5 {found['md5']}; expected is {expected}")

    def verify_members(self, folder: pathlib.Path, name: str, contents: Mapping[str, bytes]) -> None:
        """As `verify`, for a folder into which archive `name` was unpacked by hand."""
        file = self.entry.files[name]
        if not file.content:
            self.notes[folder.name] = "not verified: no checksums of the unpacked files are known"
        elif self._content_agrees(file, contents):
            self.notes[folder.name] = "content verified"
        else:
            wrong = [m for m, c in file.content.items() if not manifest.agree(c, manifest.digests(contents[m]))]
            found = manifest.digests(contents[wrong[0]])["md5"]
            expected = manifest.in_words(file.content[wrong[0]])
            self._refuse_or_note(folder, f"differs: {wrong[0]} has md5 {found}; expected is {expected}")

    def check_size(self, split: str, size: int) -> None:
        """Compares the number of examples with the publisher's."""
        expected = self.entry.examples[split]
        if size != expected:
            self._refuse_or_note(self.folder, f"gives {size:,} examples in {split!r}; published are {expected:,}")

    def _content_agrees(self, file: manifest.File, contents: Mapping[str, bytes]) -> bool:
        return all(manifest.agree(c, manifest.digests(contents[member])) for member, c in file.content.items())

    def _refuse_or_note(self, path: pathlib.Path, difference: str) -> None:
        if not self._allow:
            raise VerificationError(
                f"{path} {difference}. It is damaged or another file: fetch it again; or, to use it as it is, "
                "add --allow_unverified."
            )
        before = f"{self.notes[path.name]}; " if path.name in self.notes else ""
        self.notes[path.name] = f"{before}NOT verified: {difference}"


def prepare(
    entry: manifest.Entry, archives: pathlib.Path, work: pathlib.Path, *, allow_unverified: bool
) -> dict[str, str]:
    """Reads the originals of `entry` in `archives` and writes a prepared data set into the folder `work`.

    Returns:
      For each file that was read, how it was verified.

    Raises:
      FileNotFoundError: files are missing; the message lists them with their URLs.
      VerificationError: a file differs from the published one, and `allow_unverified` is not set.
      ArchiveError: a file is damaged or hostile.
    """
    folder = _Folder(archives, entry, allow_unverified)
    fingerprints = _READERS[entry.name](folder, work)
    for split in fingerprints:
        folder.check_size(split, len(np.load(work / f"{split}_labels.npy", mmap_mode="r")))
    origin = "; ".join(f"{name}: {note}" for name, note in folder.notes.items())
    provenance = {**entry.provenance, "prepared_from": f"the publisher's files ({origin})"}
    store.finish(work, name=entry.name, class_names=entry.class_names, fingerprints=fingerprints, provenance=provenance)
    return folder.notes


def to_fetch(entry: manifest.Entry) -> list[manifest.File]:
    """Returns the files to fetch: where any of them suffices, the first whose SHA-256 is known, else all."""
    known = [file for file in entry.files.values() if any("sha256" in checksum for checksum in file.checksums)]
    return known[:1] if entry.any_file_suffices else known


def what_to_fetch(entry: manifest.Entry) -> str:
    """The files of `entry` with sizes and URLs, one line each."""
    lines = [
        f"  {file.name}{f' ({file.bytes:,} bytes)' if file.bytes else ''}  {file.url}" for file in entry.files.values()
    ]
    return ("one of\n" if entry.any_file_suffices else "all of\n") + "\n".join(lines)


def _missing(folder: _Folder, names: list[str]) -> FileNotFoundError:
    there = sorted(path.name for path in folder.folder.iterdir())
    return FileNotFoundError(
        f"{folder.folder} lacks {', '.join(names)}. To prepare {folder.entry.name} from the publisher's files, put "
        f"into that folder {what_to_fetch(folder.entry)}\nFound there: {', '.join(there[:20]) or 'nothing'}"
        f"{', ...' if len(there) > 20 else ''}."
    )


def _locate(folder: _Folder, names: list[str]) -> dict[str, pathlib.Path]:
    paths = {name: folder.find(name) for name in names}
    if missing := [name for name, path in paths.items() if path is None]:
        raise _missing(folder, missing)
    return {name: path for name, path in paths.items() if path is not None}


def _read_mnist(folder: _Folder, work: pathlib.Path) -> dict[str, str]:
    paths = _locate(folder, list(folder.entry.files))
    for name, path in paths.items():
        bound = folder.entry.files[name].unpacked_bytes
        folder.verify(path, name, functools.partial(_unpacked, path, bound))
    fingerprints = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        bound = folder.entry.files[images].unpacked_bytes
        fingerprints[split] = store.write_arrays(
            work, split, *formats.read_mnist(paths[images], paths[labels], max_bytes=bound)
        )
    return fingerprints


def _unpacked(path: pathlib.Path, bound: int) -> dict[str, bytes]:
    return {"": read_gz(path, max_bytes=bound)}


def _read_cifar(folder: _Folder, work: pathlib.Path) -> dict[str, str]:
    layout, contents = _cifar_contents(folder)
    splits = formats.read_cifar(layout, contents, folder.entry.class_names)
    return {split: store.write_arrays(work, split, *arrays) for split, arrays in splits.items()}


def _cifar_contents(folder: _Folder) -> tuple[formats.CifarLayout, Mapping[str, bytes]]:
    layouts = {name: formats.CIFAR_LAYOUTS[name] for name in folder.entry.files}
    for name, layout in layouts.items():
        if path := folder.find(name):
            bound = folder.entry.files[name].unpacked_bytes
            read = functools.cache(functools.partial(_cifar_members, path, layout, bound))
            folder.verify(path, name, read)
            return layout, read()
    for name, layout in layouts.items():
        for place in (folder.folder / layout.folder, folder.folder):
            if all((place / file).is_file() for file in layout.files):
                bound = folder.entry.files[name].unpacked_bytes
                if sum((place / file).stat().st_size for file in layout.files) > bound:
                    raise ArchiveError(f"The files in {place} exceed {bound:,} bytes, their bound.")
                contents = {file: (place / file).read_bytes() for file in layout.files}
                folder.verify_members(place, name, contents)
                return layout, contents
    raise _missing(folder, [" and ".join(layouts)])


def _cifar_members(path: pathlib.Path, layout: formats.CifarLayout, bound: int) -> dict[str, bytes]:
    wanted = {f"{layout.folder}/{file}": file for file in layout.files}
    contents = {wanted[name]: content for name, content in read_tar(path, wanted.__contains__, max_bytes=bound)}
    if missing := [file for file in layout.files if file not in contents]:
        raise ArchiveError(f"{path} lacks {', '.join(missing)} in its folder {layout.folder}.")
    return contents


def _read_svhn(folder: _Folder, work: pathlib.Path) -> dict[str, str]:
    paths = _locate(folder, list(folder.entry.files))
    fingerprints = {}
    for split in ("train", "test"):
        name = f"{split}_32x32.mat"
        folder.verify(paths[name], name, dict)
        bound = folder.entry.files[name].unpacked_bytes
        fingerprints[split] = store.write_arrays(work, split, *formats.read_svhn(paths[name], max_bytes=bound))
    return fingerprints


def _read_pets(folder: _Folder, work: pathlib.Path) -> dict[str, str]:
    entry, paths = folder.entry, _locate(folder, list(folder.entry.files))
    for name, path in paths.items():
        folder.verify(path, name, dict)

    lists = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    path, bound = paths["annotations.tar.gz"], entry.files["annotations.tar.gz"].unpacked_bytes
    texts = dict(read_tar(path, lambda name: name in lists.values(), max_bytes=bound))
    if missing := set(lists.values()) - texts.keys():
        raise ArchiveError(f"{path} lacks {', '.join(sorted(missing))}.")
    examples = {
        split: formats.read_pets_list(texts[name], entry.class_names, f"{path}: {name}")
        for split, name in lists.items()
    }

    # The archive has the pictures in its own order: they pass through a file, not through memory.
    wanted = {f"images/{name}.jpg": name for split in examples.values() for name, _ in split}
    spans: dict[str, tuple[int, int]] = {}
    path, bound = paths["images.tar.gz"], entry.files["images.tar.gz"].unpacked_bytes
    with tempfile.TemporaryFile(dir=work) as spool:
        for member, content in read_tar(path, wanted.__contains__, max_bytes=bound):
            content = formats.repair_pet(wanted[member], content)
            spans[wanted[member]] = spool.tell(), len(content)
            spool.write(content)
        if absent := sorted(wanted.values() - spans.keys()):
            raise ArchiveError(f"{path} lacks {len(absent)} of the listed pictures, among them {absent[0]}.jpg.")

        def picture(name: str) -> bytes:
            start, length = spans[name]
            spool.seek(start)
            return spool.read(length)

        return {
            split: store.write_encoded(
                work, split, (picture(name) for name, _ in listed), np.array([label for _, label in listed], np.int32)
            )
            for split, listed in examples.items()
        }


_READERS: dict[str, Callable[[_Folder, pathlib.Path], dict[str, str]]] = {
    "mnist": _read_mnist,
    "fashion_mnist": _read_mnist,
    "cifar10": _read_cifar,
    "cifar100": _read_cifar,
    "svhn_cropped": _read_svhn,
    "oxford_iiit_pet": _read_pets,
}

"""A folder of photos as a data set: one subfolder per class, or no classes and photos in any folders."""

import copy
import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from vision_jax.data import checks, decode, splits
from vision_jax.data.sources import Dataset, Example, Relabeled, Source, Subset
from vision_jax.utils.text import closest, printable

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_LAYOUTS = (
    "Expected ROOT/train/CLASS/photo.jpg, with val and test beside train if you have them, or ROOT/CLASS/photo.jpg; "
    "photos without classes lie in ROOT/train or ROOT itself."
)
_ENDINGS = ", ".join(decode.EXTENSIONS)
_UNREAD = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".raw")  # images too, worth a word


class FolderSource:
    """Photos on disk; random access reads and decodes one file.

    Attributes:
      root: the folder that `paths` are relative to.
      paths: one per example.
      labels: int32 [N].
      digests: SHA-256 of each file's content.
      sizes: int32 [N, 2], height and width of each photo, upright.
    """

    def __init__(self, root: str, paths: Sequence[str], labels: np.ndarray, files: Sequence[checks.Photo]):
        self.root, self.paths = root, tuple(paths)
        self.labels = np.asarray(labels, np.int32)
        self.digests = tuple(f.digest for f in files)
        self.sizes = np.array([(f.height, f.width) for f in files], np.int32).reshape(-1, 2)
        self._decoded = True

    @property
    def fingerprint(self) -> str:
        """A digest of content and labels, in order."""
        text = "\n".join(f"{label} {digest}" for label, digest in zip(self.labels, self.digests, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        path = os.path.join(self.root, self.paths[index])
        image = decode.decode_image(path) if self._decoded else decode.FileContent.read(path)
        return {"image": image, "label": self.labels[index]}

    def subset(self, indices: np.ndarray) -> "FolderSource":
        """The photos at `indices`, in that order."""
        other = copy.copy(self)
        other.paths = tuple(self.paths[i] for i in indices)
        other.digests = tuple(self.digests[i] for i in indices)
        other.labels, other.sizes = self.labels[indices], self.sizes[indices]
        return other

    def undecoded(self) -> "FolderSource":
        """The same photos, but 'image' is the file's bytes: what `transforms` decodes, only as far as needed."""
        other = copy.copy(self)
        other._decoded = False
        return other


def sizes(source: Source) -> np.ndarray | None:
    """Returns height and width of each photo, int32 [N, 2]; None of what are no photos in files."""
    if isinstance(source, FolderSource):
        return source.sizes
    if isinstance(source, Subset):
        found = sizes(source.source)
        return None if found is None else found[source.indices]
    return sizes(source.source) if isinstance(source, Relabeled) else None


def undecoded(source: Source) -> Source:
    """Photos that are kept as files as their bytes, see `FolderSource.undecoded`; any other source as it is."""
    if isinstance(source, Subset):
        return Subset(undecoded(source.source), source.indices)
    if isinstance(source, Relabeled):
        return Relabeled(undecoded(source.source), source.places)
    method = getattr(source, "undecoded", None)
    return source if method is None else method()


def load(
    root: str | os.PathLike,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    on_broken: str = "error",
    classes: bool = True,
) -> Dataset:
    """Reads a folder of photos: ROOT/train|val|test/CLASS/... or ROOT/CLASS/...; CLASS may have subfolders.

    Where no class folders are, ROOT/train|val|test or ROOT itself holds the photos; all labels are then 0, and the data
    set has no classes.

    Every file is read and decoded once, in threads, and known again by path, size and time. Labels count the
    classes by sorted name; what a terminal would obey, or UTF-8 cannot say, is spelled out in it (`printable`). Names
    that begin with a dot are ignored.

    ROOT/CLASS is split by class and content alone (`splits.stratified`), so renaming or copying the folder
    changes no split: first `test_fraction` of all photos, then `val_fraction` of the others. ROOT/train alone is split
    in the same way; with val or test beside it, these stand, and only 'val' is held out of 'train' where its folder is
    missing.

    Args:
      root: the folder.
      val_fraction: part of the training photos held out for validation where there is no val folder.
      test_fraction: part of all photos held out for testing, for ROOT/CLASS and for ROOT/train alone.
      seed: of those splits.
      on_broken: 'error' lists every file that is no usable image; 'skip' goes on without them and warns.
      classes: whether folders are classes; else all photos in them are taken, however deep.

    Warns:
      UserWarning: broken files skipped, classes missing from val or test, files of the same content in several
        splits or classes, images outside any class, images of a kind that is not read.

    Raises:
      ValueError: no such folder or layout, broken files, fewer than two classes, or a class without a photo to
        train on.
    """
    if on_broken not in ("error", "skip"):
        raise ValueError(f"config.data.on_broken is {on_broken!r}; expected 'error' or 'skip'.")
    root = pathlib.Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(f"config.data.root: there is no folder {os.fspath(root)!r}. {_LAYOUTS}")

    folders = _split_folders(root)
    if classes:
        flat = not any(map(_subfolders, folders.values())) and any(map(_photos, folders.values()))
        found = {name: {"": _photos(folder)} if flat else _classes(folder) for name, folder in folders.items()}
    else:
        flat, found = True, {name: {"": _all_photos(folder, [folder])[folder.name]} for name, folder in folders.items()}
        if not any(of[""] for of in found.values()):
            raise ValueError(f"{root} has no image ({_ENDINGS}), neither itself nor in its folders.")
    folder_names = ("",) if flat else _class_names(root, found)
    files = {
        split: [
            (os.path.relpath(p, root), label) for label, name in enumerate(folder_names) for p in classes.get(name, ())
        ]
        for split, classes in found.items()
    }
    class_names = tuple(map(printable, folder_names))
    photos, broken = checks.check_photos(root, [path for listed in files.values() for path, _ in listed])
    _report_broken(root, broken, len(photos) + len(broken), on_broken)
    own = {}
    for split, listed in files.items():
        kept = [(path, label) for path, label in listed if path in photos]
        labels = np.array([label for _, label in kept], np.int32)
        own[split] = FolderSource(os.fspath(root), [p for p, _ in kept], labels, [photos[p] for p, _ in kept])

    sources = _hold_out(own, val_fraction, test_fraction, seed)
    if "train" not in sources:
        raise ValueError(f"{root} has no usable photo to train on; {len(broken)} of its files are broken. {_LAYOUTS}")
    _report_missing(sources, class_names)
    _report_duplicates(sources, class_names)
    how = "its own folders" if "train" in own else f"by class and content, seed {seed}"
    how += f", test {test_fraction}" if len(own) == 1 else ""
    held = "" if "val" in own else f", val {val_fraction} of train"
    together = "".join(f"{name} {source.fingerprint}\n" for name, source in sorted(own.items()))
    return Dataset(
        name="folder",
        splits=sources,
        class_names=() if flat else class_names,
        provenance={
            "root": printable(os.fspath(root.resolve())),
            "fingerprint": hashlib.sha256(together.encode()).hexdigest(),
            "splits": how + held,
            "broken_files": str(len(broken)),
        },
    )


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """Files of the same content: (split, class name, path in printable characters) of each."""

    files: tuple[tuple[str, str, str], ...]


def duplicates(sources: Mapping[str, FolderSource], class_names: Sequence[str]) -> list[Duplicate]:
    """Groups of files with the same content that stand in more than one split or class."""
    groups = defaultdict(list)
    for split, source in sources.items():
        for path, label, digest in zip(source.paths, source.labels, source.digests, strict=True):
            groups[digest].append((split, class_names[label], printable(path)))
    return [Duplicate(tuple(g)) for g in groups.values() if len({(s, c) for s, c, _ in g}) > 1]


def _hold_out(
    own: Mapping[str, FolderSource], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, FolderSource]:
    train = own["train"] if "train" in own else own[""]
    val, test = own.get("val"), own.get("test")
    if len(own) == 1:  # The test split first and alone, so that it does not depend on the validation split's size.
        parts = splits.stratified(train.labels, {"test": test_fraction}, seed, train.digests)
        train, test = train.subset(parts["train"]), train.subset(parts["test"])
    if val is None:
        parts = splits.stratified(train.labels, {"val": val_fraction}, seed, train.digests)
        train, val = train.subset(parts["train"]), train.subset(parts["val"])
    named = {"train": train, "val": val, "test": test}
    return {name: source for name, source in named.items() if source is not None and len(source)}


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Split name to folder, or {"": root} for ROOT/CLASS."""
    folders = _subfolders(root)
    named = defaultdict(list)
    for folder in folders:
        named[_SPLITS.get(folder.name.lower(), "")].append(folder)
    others = [f.name for f in named.pop("", [])]
    # A class may be called "train": then it holds photos, and stands beside other classes.
    if ("train" in named and any(_subfolders(f) for f in named["train"])) or (named and not others):
        twice = [" and ".join(f.name for f in fs) for fs in named.values() if len(fs) > 1]
        if twice:
            raise ValueError(f"{root} has both {'; both '.join(twice)}, which mean the same split; keep one.")
        if "train" not in named:
            raise ValueError(f"{root} has {', '.join(f.name for f in folders)}, but no train. {_LAYOUTS}")
        if others:
            warnings.warn(f"{root}: ignored {', '.join(others)}, which is no split beside train.", stacklevel=3)
        return {name: fs[0] for name, fs in named.items()}
    return {"": root}


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _classes(folder: pathlib.Path) -> dict[str, list[str]]:
    """Class name to its image files, in sorted order."""
    outside = _photos(folder)
    if outside:
        warnings.warn(
            f"{folder}: {len(outside)} image{'s' * (len(outside) > 1)} outside any class folder ignored, "
            f"for example {os.path.basename(outside[0])}.",
            stacklevel=4,
        )
    return _all_photos(folder, _subfolders(folder))


def _all_photos(root: pathlib.Path, within: Sequence[pathlib.Path]) -> dict[str, list[str]]:
    """Name of each folder, one or several in `root`, to the image files below it, in sorted order."""
    found, other = {}, Counter[str]()
    for folder in within:
        files, seen = [], set()
        for parent, folders, names in os.walk(folder, followlinks=True):
            # Links are followed, but no loop of them.
            real = os.path.realpath(parent)
            folders[:] = [] if real in seen else [f for f in folders if not _hidden(f)]
            if real not in seen:
                visible = [n for n in names if not _hidden(n)]
                files += [os.path.join(parent, n) for n in visible if _is_image(n)]
                other.update(os.path.splitext(n)[1].lower() for n in visible if not _is_image(n))
            seen.add(real)
        found[folder.name] = sorted(files)
    unread = {e: n for e, n in other.items() if e in _UNREAD}
    if unread:
        kinds = ", ".join(f"{n} {e}" for e, n in sorted(unread.items()))
        warnings.warn(f"{root}: ignored {kinds}; convert them to one of {_ENDINGS} to use them.", stacklevel=5)
    return found


def _photos(folder: pathlib.Path) -> list[str]:
    """The image files directly in a folder, in sorted order."""
    return sorted(os.fspath(p) for p in folder.iterdir() if p.is_file() and _is_image(p.name))


def _is_image(name: str) -> bool:
    return not _hidden(name) and name.lower().endswith(decode.EXTENSIONS)


def _class_names(root: pathlib.Path, found: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[str, ...]:
    names = sorted({name for classes in found.values() for name in classes})
    empty = [n for n in names if not any(classes.get(n) for classes in found.values())]
    if len(names) - len(empty) < 2:
        have = f"only the class {names[0]!r}" if len(names) == 1 else f"{len(names) - len(empty)} classes with images"
        raise ValueError(f"{root} has {have if names else 'no class folder'}; a classifier needs two. {_LAYOUTS}")
    if empty:
        raise ValueError(
            f"{root}: no image ({_ENDINGS}) in the class{'es' * (len(empty) > 1)} {', '.join(empty)}; put some there "
            "or delete the folder."
        )
    trained = found.get("train", found.get("", {}))
    untrained = [n for n in names if not trained.get(n)]
    if untrained:
        hints = ", ".join(n + closest(n, [x for x in names if trained.get(x)]) for n in untrained)
        raise ValueError(f"{root}: in val or test, but without an image in train: {hints}.")
    return tuple(names)


def _report_broken(root: pathlib.Path, broken: Mapping[str, str], total: int, on_broken: str) -> None:
    if not broken:
        return
    listing = "".join(f"\n  {path}: {reason}" for path, reason in sorted(broken.items()))
    if on_broken == "error":
        raise ValueError(
            f"{len(broken)} of {total} files in {root} are no usable images:{listing}\n"
            "Repair or delete them, or set config.data.on_broken='skip' to go on without them."
        )
    warnings.warn(f"{root}: going on without {len(broken)} of {total} files:{listing}", stacklevel=3)


def _report_missing(sources: Mapping[str, FolderSource], class_names: Sequence[str]) -> None:
    for split, source in sources.items():
        missing = [n for label, n in enumerate(class_names) if not np.any(source.labels == label)]
        if missing and split == "train":
            raise ValueError(f"no photo is left to train on for {', '.join(missing)}; add some or delete the folder.")
        if missing:
            warnings.warn(
                f"the {split} split has no photo of {', '.join(missing)}: nothing is measured there.", stacklevel=3
            )


def _report_duplicates(sources: Mapping[str, FolderSource], class_names: Sequence[str]) -> None:
    groups = duplicates(sources, class_names)
    if groups:
        lines = "".join("\n  " + " = ".join(f"{p} ({s}, {c})" for s, c, p in g.files) for g in groups[:100])
        more = f"\n  and {len(groups) - 100} more" if len(groups) > 100 else ""
        warnings.warn(
            f"{len(groups)} photo{'s stand' if len(groups) > 1 else ' stands'} in more than one split or class; the "
            f"measured accuracy is not to be trusted on them:{lines}{more}",
            stacklevel=3,
        )

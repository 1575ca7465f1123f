"""Preparing data sets once, and opening what was prepared.

The sets of the manifest (`third_party/datasets.json`) end in one form, whichever way they came: a folder
`DATA_DIR/NAME` as `store` describes it, examples in the publisher's order. They come from the publisher's files,
which are fetched or lie in a folder (`archives`), or through TensorFlow Datasets. Any other image-classification set of
TFDS is named 'tfds:NAME' and stays in TFDS's own ArrayRecord files under `DATA_DIR/tfds`.

What is being prepared stands in `DATA_DIR/.NAME.partial` and is moved into place when complete. A process that died
leaves that folder behind; the next one deletes it and starts afresh (finished downloads are kept).
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from vision_jax.data.prepare import manifest, originals, store, tfds
from vision_jax.data.sources import Dataset
from vision_jax.utils import download, files
from vision_jax.utils.text import closest

TFDS_PREFIX = "tfds:"
_WAYS = ("publisher", "tfds")
# Data sets that are there without preparation, and why.
_NEED_NOTHING = {
    "digits": "comes with scikit-learn",
    "folder": "is read from config.data.root as it stands",
}


class NotPreparedError(FileNotFoundError):
    """A data set that is to be opened was not prepared; the message is the command that does it."""


def names() -> tuple[str, ...]:
    """The data sets that can be prepared by name (besides 'tfds:NAME')."""
    return tuple(manifest.entries())


def is_prepared(name: str, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether the data set lies in `data_dir` (default `$VISION_JAX_HOME/data`), ready to be opened."""
    folder = _folder(name, data_dir)
    return tfds.is_complete(folder) if name.startswith(TFDS_PREFIX) else store.is_complete(folder)


def open_prepared(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Opens a prepared data set with the publisher's own splits. Needs no network and no TensorFlow.

    Args:
      name: one of `names()`, or 'tfds:NAME'.
      data_dir: where prepared data sets lie; default `$VISION_JAX_HOME/data`.

    Returns:
      The data set, with splits 'train' and 'test' ('tfds:' sets: those that exist; a 'validation' split is
      'val', or 'test' where there is no other test split). Images are uint8 [H, W, C]; arrays are memory-mapped.

    Raises:
      NotPreparedError: it has not been prepared there.
      ValueError: there is no such data set, or its folder is of another version.
    """
    folder = _folder(name, data_dir)
    is_tfds = name.startswith(TFDS_PREFIX)
    if not (tfds.is_complete(folder) if is_tfds else store.is_complete(folder)):
        root = _path(data_dir)
        elsewhere = "" if root in (None, files.cache_dir("data")) else f" --data_dir {root}"
        raise NotPreparedError(
            f"The data set {name!r} is not prepared (looked in {folder}). Prepare it once with\n"
            f"  vision-jax prepare {name}{elsewhere}\n"
            "or add --prepare to the command that trains; both fetch it. Without network add --archives DIR to the "
            "former, with the folder of the publisher's files."
        )
    if is_tfds:
        return tfds.open_record(folder)
    return dataclasses.replace(store.open_folder(folder), superclasses=manifest.entries()[name].superclasses)


def prepare(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    archives: str | os.PathLike | None = None,
    allow_unverified: bool = False,
    through: str = "publisher",
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Prepares a data set, unless that has been done.

    Args:
      name: one of `names()`, or 'tfds:NAME' for any other image-classification set of TFDS.
      data_dir: where prepared data sets lie; default `$VISION_JAX_HOME/data`.
      archives: a folder with the publisher's original files, to do without network. For a 'tfds:' set, the
        folder with the files that TFDS asks to fetch by hand.
      allow_unverified: use files of `archives` that differ from the published ones.
      through: 'publisher' fetches the publisher's files, 'tfds' lets TensorFlow Datasets do it, which needs TensorFlow;
        both end in the same examples, labels and order. 'tfds:' sets come through TFDS.
      say: receives one line per step.

    Returns:
      The folder (or, for 'tfds:' sets, the record) of the prepared data set.

    Raises:
      ValueError: no such data set; or files that are damaged, hostile, or not the published ones.
      FileNotFoundError: originals are missing in `archives`.
      DownloadError: an OSError: a file cannot be fetched; within seconds, with what to fetch and where to put it.
      ConnectionError: TFDS's servers cannot be reached; within seconds.
      OSError: too little space on the disk, or another process is preparing the same set.
    """
    target = _folder(name, data_dir)
    is_tfds = name.startswith(TFDS_PREFIX)
    root = target.parent.parent if is_tfds else target.parent
    if archives is not None and not pathlib.Path(archives).is_dir():
        raise FileNotFoundError(f"--archives {archives}: there is no such folder.")
    label = name.replace("/", "_").replace(":", "_")

    def is_there() -> bool:
        there = tfds.is_complete(target) if is_tfds else store.is_complete(target)
        if there:
            say(f"{name} is prepared already: {target}")
        return there

    if is_there():  # Without the lock, which cannot be had in a folder that can only be read.
        return target
    with _lock(root, label):
        if is_there():  # By another process in the meantime.
            return target
        if target.exists():
            raise OSError(f"{target} exists and is no prepared data set. Move it away and run this again.")
        work = root / f".{label}.partial"  # nobody else's: this process holds the lock
        if is_tfds:
            tfds.prepare_any(name.removeprefix(TFDS_PREFIX), target, manual_dir=_path(archives), work=work, say=say)
        else:
            with files.atomic_folder(target, temporary=work):
                _prepare_named(manifest.entries()[name], root, work, _path(archives), allow_unverified, through, say)
        say(f"{name} is prepared: {target}")
        return target


def _prepare_named(
    entry: manifest.Entry,
    root: pathlib.Path,
    work: pathlib.Path,
    archives: pathlib.Path | None,
    allow_unverified: bool,
    through: str,
    say: Callable[[str], None],
) -> None:
    if through not in _WAYS:
        raise ValueError(f"through={through!r}: a data set comes through one of {', '.join(_WAYS)}.")
    downloads = root / "downloads" / entry.name
    if archives is None and through == "publisher":
        wanted = originals.to_fetch(entry)
        missing = sum(file.bytes or 0 for file in wanted if not (downloads / file.name).exists())
        _check_space(root, missing + entry.prepared_bytes)
        for file in wanted:
            checksum = next(checksum["sha256"] for checksum in file.checksums if "sha256" in checksum)
            download.fetch(file.url, downloads / file.name, sha256=checksum, size=file.bytes)
        archives = downloads
    if archives is not None:
        _check_space(root, entry.prepared_bytes)
        say(f"Reading {entry.title} from the files in {archives}")
        for name, note in originals.prepare(entry, archives, work, allow_unverified=allow_unverified).items():
            say(f"  {name}: {note}")
        if archives == downloads:
            say(f"The fetched files stay in {downloads}; they may be deleted.")
        return
    urls = [file.url for file in entry.files.values()]
    if silent := tfds.unreachable(urls):
        raise ConnectionError(
            f"{', '.join(silent)} cannot be reached from here. With a network, run this again. Without one, fetch on "
            "another machine, and put into one folder DIR, "
            f"{originals.what_to_fetch(entry)}\nand run\n"
            f"  python -m vision_jax.tools.prepare_data {entry.name} --archives DIR"
        )
    fetched = entry.tfds_download_bytes or sum(file.bytes or 0 for file in entry.files.values())
    _check_space(root, 2 * fetched + 2 * entry.prepared_bytes)  # archives, unpacked archives, TFDS's files, ours
    tfds.prepare_named(entry, downloads, work, say=say)


def _path(path: str | os.PathLike | None) -> pathlib.Path | None:
    return None if path is None else pathlib.Path(path).expanduser().absolute()


def _folder(name: str, data_dir: str | os.PathLike | None) -> pathlib.Path:
    root = _path(data_dir) or files.cache_dir("data")
    if name in _NEED_NOTHING:
        raise ValueError(f"The data set {name!r} {_NEED_NOTHING[name]}: there is nothing to prepare.")
    if name.startswith(TFDS_PREFIX):
        return tfds.record_path(root, name.removeprefix(TFDS_PREFIX))
    if name not in manifest.entries():
        raise ValueError(
            f"There is no data set {name!r}{closest(name, names()) or '.'} Valid are {', '.join(names())}, and "
            "tfds:NAME for any other image-classification set of TensorFlow Datasets."
        )
    return root / name


def _check_space(root: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise OSError(
            f"The disk of {root} has {free / 1e9:.1f} GB free; about {needed / 1e9:.1f} GB are needed. "
            "Make room, or choose another disk with --data_dir."
        )


@contextlib.contextmanager
def _lock(root: pathlib.Path, label: str) -> Iterator[None]:
    """Keeps other processes from preparing the same data set; the system frees it when this process dies."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{label}.lock", "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"Another process is preparing {label} in {root}. Wait for it, and run this again."
            ) from None
        yield

"""Preparing data sets with TensorFlow Datasets, and reading its ArrayRecord files.

Preparing needs TensorFlow; reading does not load it, nor does a training run.
"""

import contextlib
import hashlib
import importlib.util
import json
import pathlib
import queue
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vision_jax.data.prepare import manifest, store
from vision_jax.data.sources import Dataset, Example, Source
from vision_jax.utils import files

_PROBE_SECONDS = 4.0


def unreachable(urls: Sequence[str], seconds: float = _PROBE_SECONDS) -> list[str]:
    """Asks the servers of `urls` for a sign of life (through the proxy, where one is configured).

    Returns:
      Those that gave none, as 'https://host'; after at most `seconds` in all. A refusal (404, 403, ...) is a sign.
    """
    servers: dict[str, str] = {}
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        servers.setdefault(f"{parts.scheme}://{parts.netloc}", url)
    alive: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def ask(server: str, url: str) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            alive.put((server, True))
        except urllib.error.HTTPError:
            alive.put((server, True))
        except Exception:
            alive.put((server, False))

    # Threads, because looking up a name has no time limit of its own and can hang for long without network.
    for server, url in servers.items():
        threading.Thread(target=ask, args=(server, url), daemon=True).start()
    silent = set(servers)
    deadline = threading.Event()
    timer = threading.Timer(seconds, deadline.set)
    timer.daemon = True
    timer.start()
    answered = 0
    while answered < len(servers) and not deadline.is_set():
        with contextlib.suppress(queue.Empty):
            server, lives = alive.get(timeout=0.1)
            answered += 1
            silent -= {server} if lives else set()
    timer.cancel()
    return sorted(silent)


def prepare_named(
    entry: manifest.Entry, downloads: pathlib.Path, work: pathlib.Path, *, say: Callable[[str], None]
) -> None:
    """Lets TFDS fetch and write `entry` to ArrayRecord, and rewrites that as a prepared data set in `work`.

    TFDS shuffles what it writes; that is switched off, so that the examples stand in the publisher's order.

    Args:
      entry: which data set.
      downloads: folder for the fetched archives, kept, so that an interrupted download is not repeated.
      work: the folder to fill.
      say: receives one line per step.
    """
    _require_tensorflow()
    say(f"Preparing {entry.title} with TensorFlow Datasets")
    builder = _builder(entry.tfds, work / "tfds")
    builder.info.as_proto.disable_shuffling = True
    _download_and_prepare(builder, downloads, work / "extracted", manual_dir=None)
    names = tuple(builder.info.features["label"].names)
    if names != entry.class_names:
        raise ValueError(f"TFDS's {builder.info.full_name} has the classes {names}; expected are {entry.class_names}.")

    fingerprints = {}
    for split in entry.examples:
        if entry.name == "oxford_iiit_pet":
            fingerprints[split] = _rewrite_encoded(builder, split, work)
        else:
            fingerprints[split] = _rewrite_arrays(builder, split, work)
        labels = np.load(work / f"{split}_labels.npy", mmap_mode="r")
        if len(labels) != entry.examples[split]:
            raise ValueError(
                f"TFDS's {builder.info.full_name} has {len(labels):,} examples in {split!r}; the published set has "
                f"{entry.examples[split]:,}. Prepare it from the publisher's files with --archives instead."
            )
    shutil.rmtree(work / "tfds")
    provenance = {**entry.provenance, "prepared_from": f"TensorFlow Datasets, {builder.info.full_name}"}
    store.finish(work, name=entry.name, class_names=entry.class_names, fingerprints=fingerprints, provenance=provenance)
    say(f"The downloaded archives stay in {downloads}; they may be deleted.")


def _rewrite_arrays(builder: Any, split: str, work: pathlib.Path) -> str:
    source = builder.as_data_source(split=split)
    features = builder.info.features
    images = np.empty((len(source), *features["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for i, example in _examples(source, split):
        images[i], labels[i] = example["image"], example["label"]
        if "id" in features and int(example["id"].decode().rpartition("_")[2]) != i:
            raise ValueError(f"TFDS wrote {builder.info.full_name} out of order: {example['id']} at {i}.")
    return store.write_arrays(work, split, images, labels)


def _rewrite_encoded(builder: Any, split: str, work: pathlib.Path) -> str:
    source = _pictures_encoded(builder, split)
    labels = np.empty(len(source), np.int32)

    def files() -> Iterator[bytes]:
        for i, example in _examples(source, split):
            labels[i] = example["label"]
            yield bytes(example["image"])

    return store.write_encoded(work, split, files(), labels)


def _pictures_encoded(builder: Any, split: str, decode: str | None = None) -> Any:
    """A split whose pictures (there may be masks beside them) are left as files, but for the feature `decode`."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    pictures = [key for key in features if isinstance(features[key], tfds.features.Image) and key != decode]
    return builder.as_data_source(split=split, decoders={key: tfds.decode.SkipDecoding() for key in pictures} or None)


def _examples(source: Any, split: str) -> Iterator[tuple[int, Any]]:
    """All examples in order, read in pieces (far faster than one by one)."""
    with tqdm(total=len(source), desc=split, unit="examples", disable=None, leave=False) as bar:
        for start in range(0, len(source), 500):
            indices = range(start, min(start + 500, len(source)))
            yield from zip(indices, source.__getitems__(list(indices)), strict=True)
            bar.update(len(indices))


def record_path(root: pathlib.Path, name: str) -> pathlib.Path:
    """The file that says where TFDS's set `name` lies, and that it is complete."""
    return root / "tfds" / f"{name.replace('/', '+').replace(':', '+')}.json"


def is_complete(record: pathlib.Path) -> bool:
    """Whether the set of this record was prepared."""
    return record.is_file()


def prepare_any(
    name: str, record: pathlib.Path, *, manual_dir: pathlib.Path | None, work: pathlib.Path, say: Callable[[str], None]
) -> None:
    """Lets TFDS prepare one of its image-classification sets as ArrayRecord, and writes its record.

    Args:
      name: as TFDS names it: 'eurosat', 'emnist/letters', 'cmaterdb/bangla:1.0.0'.
      record: see `record_path`; TFDS's files go beside it.
      manual_dir: folder with the files that TFDS wants fetched by hand, for the sets that do.
      work: a folder for unpacked archives, deleted before and afterwards.
      say: receives one line per step.

    Raises:
      ValueError: TFDS does not have it, or it is no image-classification set.
      ConnectionError: its servers cannot be reached.
      FileNotFoundError: it wants files fetched by hand.
    """
    _require_tensorflow()
    builder = _builder(name, record.parent)
    image_key, label_key = _keys(name, builder.info)
    if not pathlib.Path(builder.data_path).exists():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and manual_dir is None:
            raise FileNotFoundError(
                f"TFDS's {name} needs files that are fetched by hand. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS.strip()}\n"
                f"Then run: python -m vision_jax.tools.prepare_data tfds:{name} --archives DIR"
            )
        urls = list(builder.url_infos) or ["https://storage.googleapis.com/tfds-data"]
        if manual_dir is None and (silent := unreachable(urls)):
            raise ConnectionError(
                f"{', '.join(silent)} cannot be reached from here. Prepare it on a machine with network, and copy its "
                f"{record.parent} here. TFDS fetches:\n  " + "\n  ".join(urls[:10])
            )
        say(f"Preparing {builder.info.full_name} with TensorFlow Datasets")
        _download_and_prepare(builder, record.parent.parent / "downloads" / builder.name, work, manual_dir)

    # The splits under our names; labels are kept apart, as reading them means reading all pictures.
    theirs = [split for split in builder.info.splits if split in ("train", "validation", "test")]
    if "train" not in theirs:
        raise ValueError(f"TFDS's {name} has no split 'train', only {', '.join(builder.info.splits)}.")
    ours = {"train": "train", "test": "test", "validation": "val" if "test" in theirs else "test"}
    folder = pathlib.Path(builder.data_path)
    for split in theirs:
        labels = np.array([example[label_key] for _, example in _examples(_pictures_encoded(builder, split), split)])
        np.save(folder / f"{split}_labels.npy", labels.astype(np.int32))
    facts = {
        "folder": str(folder.relative_to(record.parent)),
        "image_key": image_key,
        "splits": {ours[split]: split for split in theirs},
        "class_names": list(builder.info.features[label_key].names),
        "provenance": {
            "title": builder.info.full_name,
            "homepage": builder.info.homepage,
            "citation": builder.info.citation,
            "license": str(builder.info.redistribution_info.license or "see the homepage"),
            "prepared_from": f"TensorFlow Datasets, {builder.info.full_name}",
        },
    }
    files.write_json(record, facts)


def _keys(name: str, info: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    keys: Sequence[str] = info.supervised_keys or ()
    if len(keys) == 2 and isinstance(info.features, tfds.features.FeaturesDict):
        image, label = (info.features[key] if key in info.features else None for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            if np.dtype(image.np_dtype) == np.uint8:
                return keys[0], keys[1]
    raise ValueError(
        f"TFDS's {name} is no classification set of 8-bit images: its features are {info.features}, its supervised "
        f"keys {info.supervised_keys}."
    )


class TfdsSource:
    """Examples in TFDS's ArrayRecord files. Opens them where it is used: copies sent to workers carry paths only.

    Attributes:
      labels: int32 [N].
      fingerprint: a digest of version, split and labels.
    """

    def __init__(self, folder: pathlib.Path, split: str, image_key: str):
        self._folder, self._split, self._image_key = folder, split, image_key
        self.labels = np.load(folder / f"{split}_labels.npy")
        described = (folder / "dataset_info.json").read_bytes() + split.encode() + self.labels.tobytes()
        self.fingerprint = hashlib.sha256(described).hexdigest()
        self._records: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a split with {len(self)} examples")
        if self._records is None:
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(self._folder)
            self._records = _pictures_encoded(builder, self._split, decode=self._image_key)
        return {"image": self._records[index][self._image_key], "label": self.labels[index]}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_records": None}


def open_record(record: pathlib.Path) -> Dataset:
    """Opens a set that `prepare_any` has prepared, without TensorFlow."""
    facts = json.loads(record.read_text())
    folder = record.parent / facts["folder"]
    splits: dict[str, Source] = {
        ours: TfdsSource(folder, theirs, facts["image_key"]) for ours, theirs in facts["splits"].items()
    }
    return Dataset(f"tfds:{record.stem.replace('+', '/')}", splits, tuple(facts["class_names"]), facts["provenance"])


def _require_tensorflow() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError(
            "Preparing a data set online needs TensorFlow (training does not): pip install 'vision_jax[tensorflow]'. "
            "Or prepare it from the publisher's files with --archives DIR; or where TensorFlow is installed, and copy "
            "the folder."
        )


def _builder(name: str, data_dir: pathlib.Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except (tfds.core.registered.DatasetNotFoundError, AssertionError, ImportError) as e:  # name, version, its needs
        reason = str(e).strip().partition("\n")[0]
        raise ValueError(f"TFDS has no data set {name!r} that it can build here: {reason}") from e


def _download_and_prepare(
    builder: Any, downloads: pathlib.Path, extracted: pathlib.Path, manual_dir: pathlib.Path | None
) -> None:
    import tensorflow_datasets as tfds

    # Of a process that died; nobody else fetches this set now.
    for unfinished in [extracted, *downloads.rglob("*.tmp.*")]:
        shutil.rmtree(unfinished, ignore_errors=True)
    config = tfds.download.DownloadConfig(extract_dir=extracted, manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as e:
        raise ConnectionError(
            f"TensorFlow Datasets could not prepare {builder.info.full_name}: {type(e).__name__}: {e}\n"
            f"Files that came in whole are kept in {downloads}: running this again goes on from there. Or fetch the "
            "publisher's files by hand and use --archives DIR."
        ) from e
    finally:
        shutil.rmtree(extracted, ignore_errors=True)

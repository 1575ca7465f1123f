"""Pretrained weights by name or from a file: fetched once, checked, converted once, kept with their preprocessing.

`third_party/weights.json` says where each file lies, its checksum, its license and how images have to be prepared.
Files lie in `cache_dir('weights')`, and what was converted to this project's layout lies beside them in `converted/`
under the hash of the file, so that the conversion is done once. A file of this project (see `save`) is a .safetensors
that carries its `Record` along.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax import models
from vision_jax.models.network import Classifier
from vision_jax.pretrained import port, records, torch_file, torch_writer
from vision_jax.pretrained.records import Preprocessing, Record
from vision_jax.pretrained.torch_file import TorchFileError
from vision_jax.utils import download, files, trees
from vision_jax.utils.text import closest

_FOLDED = (
    "has BatchNorm's statistics folded into its weight and bias, so that each BatchNorm is an affine map; "
    "config.model.freeze_statistics=True keeps it one where such layers train."
)


@dataclasses.dataclass(frozen=True)
class Published:
    """One row of `third_party/weights.json`.

    Attributes:
        model, weights: names in the config, such as 'resnet50' and 'imagenet_v2'.
        source: publisher and the publisher's name for them.
        url, file, sha256: where, under which name, and the checksum, or its first digits where no more is published.
        mebibytes: size of the file, where its publisher tells it.
        license: SPDX identifier.
        classes: file of class names in `third_party/`.
        parameters: count.
        top1: accuracy in percent as published.
        preprocessing: of the images.
    """

    model: str
    weights: str
    source: str
    url: str
    file: str
    sha256: str
    mebibytes: float | None
    license: str
    classes: str | None
    parameters: int
    top1: float | None
    preprocessing: Preprocessing

    @property
    def max_bytes(self) -> int:
        """Bound on the file's size, which is published rounded to 0.001 MiB; 1 GiB where it is not."""
        return int(((self.mebibytes or 1024.0) + 0.001) * 2**20)

    def record(self, sha256: str) -> Record:
        """Returns what goes with the weights once their full checksum is known."""
        names = class_names(self.classes) if self.classes else None
        return Record(
            self.model,
            f"{self.source} ({self.url})",
            sha256,
            self.license,
            class_names=names,
            preprocessing=self.preprocessing,
            top1=self.top1,
        )


@functools.cache
def manifest() -> dict[str, Published]:
    """Returns all published weights that are known, by the key that `models.Entry.weights` uses."""
    rows = json.loads(files.third_party("weights.json").read_text())
    return {
        key: Published(**{**row, "preprocessing": Preprocessing.of(row["preprocessing"])}) for key, row in rows.items()
    }


@functools.cache
def class_names(file: str) -> tuple[str, ...]:
    """Returns the lines of a file of class names in `third_party/`."""
    return tuple(files.third_party(file).read_text().splitlines())


def published(model_name: str, weights: str = "") -> Published | None:
    """Returns the published weights of a network, None without any.

    Args:
        model_name: a key of `models.MODELS`.
        weights: 'imagenet', 'imagenet_v2', 'cifar10', 'fid'; by default those that the network's table names.
    """
    if not weights:
        key = models.entry(model_name).weights
        return manifest()[key] if key else None
    return next((row for row in manifest().values() if (row.model, row.weights) == (model_name, weights)), None)


def load(
    model_name: str,
    weights: str | os.PathLike = "imagenet",
    *,
    input_shape: tuple[int, ...] | None = None,
    progress: bool = True,
    **options: Any,
) -> tuple[dict[str, Any], Record]:
    """Returns a network's pretrained variables and what is known about them.

    Args:
        model_name: a key of `models.MODELS`.
        weights: the name of published weights ('imagenet', …), which are fetched if they are not in the cache; or the
            path of a file: of PyTorch in either format, .safetensors or .npz under PyTorch's names, or of this project.
        input_shape: (H, W, C) where parameters depend on it (`mlp`, `cnn`); by default the table's or the record's.
        progress: show a progress bar while fetching.
        **options: of the network, where they change its parameters (`aux_logits`); `num_classes` is read off the file,
            and a file of this project knows its own.

    Returns:
        `{'params', 'batch_stats'}` of read-only float32 NumPy arrays, and the record. Its `preprocessing` and
        `class_names` are None for a file that is neither a published one (told by its checksum) nor this project's.

    Raises:
        ValueError: no such weights; or a file that is damaged or of another network.
        DownloadError: they are not in the cache and cannot be fetched.
    """
    path = find(model_name, weights, progress=progress)
    if (own := records.read(path)) is not None:
        record = own
        if record.model != model_name:
            raise TorchFileError(f"{path} holds weights of {record.model}, not of {model_name}")
        return _own_variables(path, record), record
    sha256 = _sha256(path)
    known = [row for row in manifest().values() if row.model == model_name and sha256.startswith(row.sha256)]
    record = known[0].record(sha256) if known else Record(model_name, str(path), sha256)
    record = dataclasses.replace(record, options=options, input_shape=input_shape)
    return _converted(path, record)


def load_classifier(model_name: str, weights: str | os.PathLike = "") -> tuple[Classifier, dict[str, Any], Record]:
    """Returns a classifier with published weights, or with those in a file, and how its images are prepared.

    Args:
        model_name: a key of `models.MODELS`.
        weights: as of `load`; by default the network's published ones.

    Returns:
        The network with as many classes as its weights, its variables, and the record, whose `preprocessing` is set.

    Raises:
        ValueError: no such network or weights, a network that is no classifier, or a preprocessing that nobody knows.
        DownloadError: the weights cannot be fetched.
    """
    row = published(model_name)
    if not weights:
        if row is None:
            raise ValueError(f"{model_name} has no published weights; name a file of weights")
        weights = row.weights
    variables, record = load(model_name, weights)
    model = models.build(model_name, **record.options)
    if not isinstance(model, Classifier):
        raise ValueError(f"{model_name} is no classifier")
    model = model.clone(num_classes=trees.flatten(variables["params"])[f"{model.head_layers[0]}/bias"].size)
    return model, variables, with_preprocessing(record)


def with_preprocessing(record: Record) -> Record:
    """Returns the record with the network's published preprocessing where the file does not say its own.

    Raises:
        ValueError: nothing was published for the network.
    """
    if record.preprocessing is not None:
        return record
    row = published(record.model)
    if row is None:
        raise ValueError(
            f"Nothing is known about the preprocessing of {record.source}, and {record.model} has no published weights "
            "to take it from; `vision-jax port FILE --model=… --preprocessing=…` writes a file that says it."
        )
    said = f"{record.source} does not say its preprocessing; that of {row.source} is used, {row.preprocessing}."
    return dataclasses.replace(record, preprocessing=row.preprocessing, note=f"{record.note} {said}".strip())


def find(model_name: str, weights: str | os.PathLike, *, progress: bool = True) -> Path:
    """Returns the path of the file behind `weights`, which is fetched into the cache if need be; see `load`."""
    models.entry(model_name)  # first of all, is there such a network?
    row = published(model_name, os.fspath(weights)) if weights else None
    if row is not None:
        path = files.cache_dir("weights") / row.file
        return download.fetch(row.url, path, sha256=row.sha256, max_bytes=row.max_bytes, progress=progress)
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    names = [row.weights for row in manifest().values() if row.model == model_name]
    raise ValueError(
        f"{model_name} has no weights {os.fspath(weights)!r}{closest(os.fspath(weights), names)}, and there is no file "
        f"of that name; {'its published weights are ' + ', '.join(names) if names else 'none are published for it'}"
    )


def model_of(path: Path) -> str | None:
    """Returns the network that a file is of: one of this project says so, a published one is told by its checksum."""
    if (own := records.read(path)) is not None:
        return own.model
    sha256 = _sha256(path)
    return next((row.model for row in manifest().values() if sha256.startswith(row.sha256)), None)


def save(path: str | os.PathLike, variables: Mapping[str, Any], record: Record) -> None:
    """Writes variables and their record as a .safetensors file that `load` takes.

    Arrays are named by their path, 'params/conv1/kernel'; the record stands as JSON in the file's metadata.
    """
    collections = {name: variables[name] for name in ("params", "batch_stats") if variables.get(name)}
    flat = {name: np.asarray(leaf) for name, leaf in trees.flatten(collections).items()}
    torch_writer.write_safetensors(path, flat, {records.METADATA: json.dumps(dataclasses.asdict(record))})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_variables(path: Path, record: Record) -> dict[str, Any]:
    flat = torch_file.read(path)
    try:
        shapes = records.shapes(record, flat)
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}") from None
    if problems := trees.differences(trees.flatten(shapes), flat, types=False):
        raise TorchFileError(f"{path} does not fit {record.model}:{trees.shown(problems)}")
    return _nested(flat)


def _nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {"params": {}, "batch_stats": {}} | trees.unflatten(flat)


def _converted(path: Path, record: Record) -> tuple[dict[str, Any], Record]:
    """Returns variables and record of a PyTorch file, from `converted/` when this file was converted before."""
    # What the arrays depend on: the file, the network, and the code that converts.
    parts = [str(record.sha256), record.model, json.dumps([record.options, record.input_shape], sort_keys=True)]
    parts.append(hashlib.sha256(Path(port.__file__).read_bytes()).hexdigest())
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    kept = files.cache_dir("weights") / "converted" / f"{record.model}-{key}.safetensors"
    if kept.is_file():
        try:
            variables = _nested(torch_file.read(kept))
            return variables, _with_note(record, path, variables)
        except TorchFileError:
            pass  # damaged since: convert again
    try:
        state = torch_file.state_dict(path)
        variables = port.load_state_dict(record.model, state, input_shape=record.input_shape, **record.options)
    except port.PortError as error:
        raise port.PortError(f"{path}: {error}") from None
    try:
        save(kept, variables, record)
    except OSError:
        pass  # a cache that is full or read-only costs time, not the weights
    return variables, _with_note(record, path, variables)


def _with_note(record: Record, path: Path, variables: Mapping[str, Any]) -> Record:
    """Returns the record, which says so where all running means are 0 and all variances 1, or 1 less epsilon."""
    statistics = trees.flatten(variables["batch_stats"])
    folded = statistics and all(np.allclose(leaf, name.endswith("var"), atol=2e-3) for name, leaf in statistics.items())
    return dataclasses.replace(record, note=f"{path} {_FOLDED}") if folded else record

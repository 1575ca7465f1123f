"""Everything that a run needs before its first step, built from the config alone."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import parallel
from vision_jax.checkpoints import Checkpoints
from vision_jax.data import cached, datasets, folder, transforms
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.models import network_options
from vision_jax.pretrained import finetune
from vision_jax.tasks import registry as tasks
from vision_jax.tasks.base import Durations, Evaluator, Task
from vision_jax.tasks.state import TrainState
from vision_jax.utils import files
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

_LOG_STEPS = 50  # Where a config sets no interval.


@dataclasses.dataclass
class Run:
    """One run: what it trains, on what, where.

    Attributes:
        config: the validated options, with all filled in that the weights or the data decide.
        workdir: the folder of everything it writes.
        mesh: all devices.
        dataset: with splits 'train', 'val' and mostly 'test', possibly others to test on.
        task: what is trained.
        evaluators: the task's evaluations.
        durations: lengths in steps.
        checkpoints: those in `workdir`.
        key: base key of all randomness.
    """

    config: ConfigDict
    workdir: pathlib.Path
    mesh: Mesh
    dataset: Dataset
    task: Task
    evaluators: list[Evaluator]
    durations: Durations
    checkpoints: Checkpoints
    key: jax.Array

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.checkpoints.close()

    def abstract_state(self) -> TrainState:
        """Returns shapes, types and shardings of the train state without computing it."""
        shapes = jax.eval_shape(self.task.init, self.key)

        def abstract(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(abstract, shapes, parallel.shardings(shapes, self.mesh))

    def initial_state(self) -> TrainState:
        """Returns the state before the first step, on the devices."""
        shardings = parallel.shardings(jax.eval_shape(self.task.init, self.key), self.mesh)
        state = jax.jit(self.task.init, out_shardings=shardings)(self.key)
        if self.task.pretrained:
            state = parallel.put(self.task.start(parallel.to_host(state)), shardings)
        return state

    def out_of_patience(self, evaluations: Sequence[Mapping[str, float]]) -> bool:
        """Returns whether `config.eval.patience` of these evaluations followed the best, by the checkpoints' metric."""
        patience, name = self.config.eval.patience, self.checkpoints.best_metric
        scores = [self.checkpoints.sign * row[name] for row in evaluations if name in row]
        return bool(patience) and len(scores) - 1 - int(np.argmax(scores or [0.0])) >= patience

    def finished(self) -> bool:
        """Returns whether training has ended, by the newest checkpoint: after all steps, or out of patience."""
        history, newest = self.checkpoints.newest_history(), self.checkpoints.newest() or 0
        return newest >= self.durations.total or self.out_of_patience(history["evaluations"])

    def loader(self, split: str, limit: int = 0) -> Loader:
        """Returns the batches of a split; a small training split is put on the device here.

        Args:
            split: of the data set.
            limit: at most this many examples, spread evenly over the split; 0 takes all.
        """
        data = self.config.data
        train, evaluation = transforms.for_config(data)
        source = datasets.limited(self.dataset.splits[split], limit)
        if data.cache and evaluation is not None:
            source = cached.CachedSource(source, files.cache_dir("decoded"), evaluation.resize, data.interpolation)
        elif train is not None:
            source = folder.undecoded(source)  # Crops decode a JPEG no larger than they need.
        return Loader(
            source,
            self.mesh,
            on_device=data.on_device if split == "train" and not limit else "never",
            train_transform=train,
            eval_transform=evaluation,
            workers=data.workers,
            prefetch=data.prefetch,
            split=split,
        )


def validate(config: ConfigDict) -> None:
    """Checks all options, those of the networks included; raises `ConfigError` with the problems found."""
    config_lib.validate(config)
    network_options.check(config.model, tasks.TASKS[config.task].suffixes)


def prepare_data(config: ConfigDict) -> None:
    """Fetches and prepares the config's data set, unless that was done or there is nothing to prepare.

    Raises:
        ValueError, OSError: see `vision_jax.data.prepare.prepare`.
    """
    from vision_jax.data import prepare

    name = config.data.name
    if jax.process_index() == 0 and (name in prepare.names() or name.startswith("tfds:")):
        prepare.prepare(name, config.data.data_dir or None)
    parallel.all_processes(True)  # Nobody goes on before it is there.


def build(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset | None = None) -> Run:
    """Builds a run: opens its data and its checkpoints and, where it starts from pretrained weights, reads these.

    What the config leaves to the weights (preprocessing) is filled in, in a copy.

    Args:
        config: its options.
        workdir: the folder of everything it writes.
        dataset: takes the place of the one that the config names.

    Raises:
        ConfigError: options that are wrong, or contradict the data, the weights or the devices.
        ValueError: data or weights that cannot be used (see the message).
        OSError: something cannot be read.
    """
    validate(config)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for network in network_options.without_effect(config.model, tasks.TASKS[config.task].suffixes):
            del config.model[network]
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.data.batch_size, mesh, "config.data.batch_size")
    dataset = datasets.of_config(config) if dataset is None else dataset
    durations = _durations(config, len(dataset.splits["train"]))
    note = finetune.resolve_preprocessing(config, photos=not isinstance(dataset.splits["train"], ArraySource))
    if note and jax.process_index() == 0:
        print(note)
    task = tasks.build(config, dataset, durations)
    evaluators = task.evaluators()
    best, higher_is_better = _best_metric(config.eval.best_metric, evaluators)
    workdir = pathlib.Path(workdir)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, best_metric=best, higher_is_better=higher_is_better)
    key = parallel.put_replicated_key(config.seed, mesh)
    return Run(config, workdir, mesh, dataset, task, evaluators, durations, checkpoints, key)


def build_for(config: ConfigDict, workdir: str | pathlib.Path, data: str) -> Run:
    """Builds a trained run for its evaluation on other data: what is written goes to `WORKDIR/evaluations/DATA`.

    For a folder of photos DATA is its name and a short hash of its path.

    Neither the data that it was trained on nor its optimizer's state are needed.

    Args:
        config: of the run.
        workdir: its folder.
        data: name of a data set, whose test split is taken (all of one without), or a folder of photos, all of which
            are. Their classes have to be among the run's; they are matched by name. Where a network knows no classes,
            they do not matter.

    Raises:
        ConfigError: the data do not fit the run's network.
        ValueError, OSError: the data cannot be used (see the message).
    """
    workdir = pathlib.Path(workdir)
    trained = json.loads((workdir / "dataset.json").read_text())
    known = tuple(trained["class_names"]) if datasets.told_classes(config) else ()
    other = datasets.for_evaluation(data, config.data, known)
    source = other.splits["test"]
    shape = list(np.shape(source[0]["image"]))
    if config.task == "super_resolution":  # Of any size.
        shape[:2] = trained["image_shape"][:2]
    if not config.data.image_size and shape != trained["image_shape"]:
        raise ConfigError(f"Images of {data} are {shape}, but {workdir} was trained on {trained['image_shape']}.")
    built = build(config, workdir, dataclasses.replace(other, splits={"train": source, "val": source, "test": source}))
    target = workdir / "evaluations" / _folder_name(data)
    evaluators = [evaluator for evaluator in built.evaluators if evaluator.split == "test"]
    return dataclasses.replace(built, workdir=target, dataset=other, evaluators=evaluators)


def _folder_name(data: str) -> str:
    """Returns what an evaluation's folder is called: as the data set, or as a folder of photos with its path's hash."""
    path, ending = pathlib.Path(data).expanduser().resolve(), ""
    if not datasets.is_name(data):
        data, ending = path.name, hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9_.-]+", "_", data).strip("_.")
    return "-".join(filter(None, (words, ending)))


def _best_metric(name: str, evaluators: list[Evaluator]) -> tuple[str, bool]:
    """Returns the metric that picks the best checkpoint as 'evaluator/metric', and whether a larger one is better."""
    known = {f"{e.name}/{metric}": better for e in evaluators if e.every for metric, better in e.metrics.items()}
    first = next(iter(known))
    full = name if "/" in name else f"{first.partition('/')[0]}/{name}" if name else first
    if full not in known:
        raise ConfigError(
            f"config.eval.best_metric is {name!r}{closest(full, known)}; measured during training are "
            f"{', '.join(known)}."
        )
    return full, known[full]


def _durations(config: ConfigDict, examples: int) -> Durations:
    def steps(section: str, prefix: str) -> int:
        return config_lib.steps(config[section], prefix, batch_size=config.data.batch_size, train_examples=examples)

    epoch = -(-examples // config.data.batch_size)
    return Durations(
        total=steps("train", ""),
        warmup=steps("schedule", "warmup_"),
        log=steps("log", "every_") or _LOG_STEPS,
        evaluate=steps("eval", "every_") or epoch,
        save=steps("checkpoint", "every_"),
    )

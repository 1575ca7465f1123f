"""Everything a run needs before its first step, built from the config alone."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import environment, parallel
from vision_jax.checkpoints import CheckpointError, Checkpoints
from vision_jax.data import cached, datasets, folder, transforms
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.pretrained import finetune
from vision_jax.tasks import base
from vision_jax.utils import files
from vision_jax.utils.text import closest

_LOG_STEPS = 50  # Where a config sets no interval.


@dataclasses.dataclass
class Run:
    """One run: what it trains, on what, where.

    Attributes:
        config: the validated options.
        workdir: the folder of everything it writes.
        mesh: all devices.
        dataset: with splits 'train', 'val', 'test'.
        task: see `vision_jax.tasks.base.Task`.
        durations: lengths in steps.
        checkpoints: those in `workdir`.
        key: base key of all randomness.
    """

    config: ConfigDict
    workdir: pathlib.Path
    mesh: Mesh
    dataset: Dataset
    task: base.Task
    durations: base.Durations
    checkpoints: Checkpoints
    key: jax.Array

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.checkpoints.close()

    def abstract_state(self) -> base.TrainState:
        """Returns shapes, types and shardings of the train state without computing it."""
        shapes = jax.eval_shape(self.task.init, self.key)
        sharding = parallel.replicated(self.mesh)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)

    def initial_state(self) -> base.TrainState:
        """Returns the state before the first step, on every device."""
        state = jax.jit(self.task.init, out_shardings=parallel.replicated(self.mesh))(self.key)
        return parallel.put_replicated(self.task.start(parallel.local_view(state)), self.mesh)

    def loader(self, split: str) -> Loader:
        """Returns the batches of a split; a small training split is put on the device here."""
        data = self.config.data
        train, evaluation = transforms.for_config(data)
        source = self.dataset.splits[split]
        if data.cache and evaluation is not None:
            source = cached.CachedSource(source, files.cache_dir("decoded"), evaluation.resize, data.interpolation)
        elif train is not None:
            source = folder.undecoded(source)  # Crops decode a JPEG no larger than they need.
        return Loader(
            source,
            self.mesh,
            on_device=data.on_device if split == "train" else "never",
            train_transform=train,
            eval_transform=evaluation,
            workers=data.workers,
            prefetch=data.prefetch,
        )


def build(config: ConfigDict, workdir: pathlib.Path) -> Run:
    """Builds a run; computes nothing but the random key.

    Raises:
        ValueError: options that contradict the data or the devices (see the message).
    """
    config_lib.validate(config)
    mesh = parallel.make_mesh()
    parallel.check_batch_size(config.data.batch_size, mesh, "config.data.batch_size")
    dataset = datasets.load(config.data)
    durations = _durations(config, len(dataset.splits["train"]))
    photos = not isinstance(dataset.splits["train"], ArraySource)
    finetune.resolve_preprocessing(config, photos=photos)
    task = base.build(config, dataset, durations)
    best = config.eval.best_metric or next(iter(task.metrics))
    if best not in task.metrics:
        raise config_lib.ConfigError(
            f"config.eval.best_metric is {best!r}{closest(best, task.metrics)}; "
            f"{config.task} measures {', '.join(task.metrics)}."
        )
    checkpoints = Checkpoints(
        workdir, keep=config.checkpoint.keep, best_metric=f"val/{best}", higher_is_better=task.metrics[best]
    )
    key = parallel.put_replicated_key(config.seed, mesh)
    return Run(config, workdir, mesh, dataset, task, durations, checkpoints, key)


def _durations(config: ConfigDict, examples: int) -> base.Durations:
    def steps(section: str, prefix: str) -> int:
        return config_lib.steps(config[section], prefix, batch_size=config.data.batch_size, train_examples=examples)

    epoch = -(-examples // config.data.batch_size)
    return base.Durations(
        total=steps("train", ""),
        warmup=steps("schedule", "warmup_"),
        log=steps("log", "every_") or _LOG_STEPS,
        evaluate=steps("eval", "every_") or epoch,
        save=steps("checkpoint", "every_"),
    )


def describe(run: Run) -> None:
    """Writes `config.json`, `dataset.json` and `environment.json`, prints the table of parameters (process 0 only)."""
    if jax.process_index():
        return
    run.workdir.mkdir(parents=True, exist_ok=True)
    write_json(run.workdir / "config.json", config_lib.to_dict(run.config))
    write_json(run.workdir / "dataset.json", _described(run.dataset, run.config.data.image_size))
    write_json(run.workdir / "environment.json", environment.collect())
    for name, network in run.abstract_state().networks.items():
        params = base.merge(network.params, network.fixed)
        print(f"{name}:\n{parameter_overview.get_parameter_overview(params, include_stats=False, max_lines=40)}")


def _described(dataset: Dataset, image_size: int) -> dict[str, Any]:
    """Returns what using the trained network takes to know of the data set: names, and the shape of one image."""
    shape = (image_size, image_size, 3) if image_size else np.shape(dataset.splits["train"][0]["image"])
    return {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "image_shape": [int(n) for n in shape],
        "provenance": dict(dataset.provenance),
    }


def refuse_other_config(run: Run, *, allow: bool) -> None:
    """Raises `CheckpointError` when the newest checkpoint was written with options that compute something else."""
    newest = run.checkpoints.newest()
    if newest is None or allow:
        return
    try:
        written = run.checkpoints.config_of(newest)
    except Exception:  # A damaged checkpoint: restoring it sets it aside and reports it.
        return
    changed = config_lib.differences(written, config_lib.to_dict(run.config))
    if changed:
        raise CheckpointError(
            f"{run.workdir} was trained with another config:\n  "
            + "\n  ".join(changed)
            + "\nChoose another --workdir, or go on with the new values by --allow_config_change."
        )


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes strict JSON under a temporary name and renames it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)


def parameter_count(state: base.TrainState) -> int:
    """Returns the number of parameters of all networks, trained and fixed."""
    return sum(
        leaf.size for network in state.networks.values() for leaf in jax.tree.leaves((network.params, network.fixed))
    )


def zeros(shapes: base.Tree, mesh: Mesh) -> base.Tree:
    """Returns zeros of `shapes` on every device."""
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(structure, _zeros(tuple((leaf.shape, leaf.dtype) for leaf in leaves), mesh)())


@functools.lru_cache(maxsize=64)
def _zeros(leaves: tuple[tuple[tuple[int, ...], jnp.dtype], ...], mesh: Mesh) -> Callable[[], list[jax.Array]]:
    """Returns the program that makes them; kept, because sums start anew at every log step and evaluation."""
    return jax.jit(
        lambda: [jnp.zeros(shape, dtype) for shape, dtype in leaves], out_shardings=parallel.replicated(mesh)
    )

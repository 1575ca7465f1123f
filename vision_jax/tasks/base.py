"""What the loop knows of a task, and the state that all tasks train.

A task says how to initialise, what one pure step does, and how to evaluate; `vision_jax.train` does the rest. All state
is one pytree, `TrainState`; the randomness of a step is `fold_in(key(seed), step)`, so none of it needs to be stored.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from vision_jax import optim
from vision_jax.data import transforms
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import Dataset

Tree = Any
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Path = tuple[str, ...]


class NetworkState(flax.struct.PyTreeNode):
    """Everything that belongs to one network.

    Attributes:
        params: the trained parameters.
        fixed: parameters that stay as they are: no gradient, no optimiser state.
        batch_stats: running statistics of its normalisations.
        opt_state: the optimiser's.
        averaged: moving average of `params`; `{}` when `config.optimizer.ema_decay` is 0.
    """

    params: Tree
    fixed: Tree
    batch_stats: Tree
    opt_state: Tree
    averaged: Tree

    def variables(self, params: Tree | None = None) -> dict[str, Tree]:
        """Returns Flax variables with `params` (those of evaluation by default) and the fixed parameters."""
        if params is None:
            params = self.averaged or self.params
        return {"params": merge(params, self.fixed), "batch_stats": self.batch_stats}


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes: `step` (int32, steps done) and the networks by name."""

    step: jax.Array
    networks: dict[str, NetworkState]


def merge(first: Tree, second: Tree) -> Tree:
    """Returns the union of two trees of parameters that share no leaf."""
    if not second:
        return first
    return traverse_util.unflatten_dict(traverse_util.flatten_dict(first) | traverse_util.flatten_dict(second))


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A network's optimiser: makes its state and applies gradients to it."""

    transformation: optax.GradientTransformation
    ema_decay: float
    trained: Callable[[Path], bool] | None = None

    def init(self, variables: Mapping[str, Tree]) -> NetworkState:
        """Returns the state of a network just initialised to `variables`."""
        params, fixed = variables["params"], {}
        if self.trained is not None:
            flat = traverse_util.flatten_dict(params)
            params = traverse_util.unflatten_dict({p: v for p, v in flat.items() if self.trained(p)})
            fixed = traverse_util.unflatten_dict({p: v for p, v in flat.items() if not self.trained(p)})
        averaged = jax.tree.map(jnp.copy, params) if self.ema_decay else {}
        batch_stats = variables.get("batch_stats", {})
        return NetworkState(params, fixed, batch_stats, self.transformation.init(params), averaged)

    def update(self, state: NetworkState, gradients: Tree, batch_stats: Tree) -> NetworkState:
        """Returns the state after one step of the optimiser."""
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers; our own code need not.
            updates, opt_state = self.transformation.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = optim.average(self.ema_decay, state.averaged, params) if self.ema_decay else state.averaged
        return state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state, averaged=averaged)


@dataclasses.dataclass(frozen=True)
class Durations:
    """Lengths in optimisation steps."""

    total: int
    warmup: int
    log: int
    evaluate: int
    save: int


@dataclasses.dataclass
class Report:
    """What a task adds to the report: pictures (title, file, caption) and tables (title, header, rows)."""

    pictures: list[tuple[str, pathlib.Path, str]] = dataclasses.field(default_factory=list)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = dataclasses.field(default_factory=list)


class Task(abc.ABC):
    """One kind of training.

    Attributes:
        metrics: names of what `summarise` returns, and whether a larger value is better. The first picks the best
            checkpoint unless `config.eval.best_metric` names another.
    """

    metrics: Mapping[str, bool]

    @abc.abstractmethod
    def __init__(self, config: ConfigDict, dataset: Dataset, durations: Durations): ...

    @abc.abstractmethod
    def init(self, key: jax.Array) -> TrainState:
        """Returns the state before the first step (pure; compiled by the loop)."""

    def start(self, state: TrainState) -> TrainState:
        """Returns the state to start from, given the initial one (on the host; pretrained weights come in here)."""
        return state

    def loader(self, state: TrainState, loader: Loader) -> Loader:
        """Returns the batches of a split that steps and evaluations take, given those of its images."""
        return loader

    @abc.abstractmethod
    def train_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """Returns the next state and scalar float32 metrics of this step (pure)."""

    @abc.abstractmethod
    def eval_step(self, state: TrainState, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        """Returns sums over the batch's real examples (`batch['mask']` is 1); 'count' (int32) must be among them."""

    @abc.abstractmethod
    def summarise(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the metrics of a split from the sums over all its batches (on the host)."""

    def images(self, state: TrainState) -> dict[str, np.ndarray]:
        """Returns pictures worth following during training, uint8 [N, H, W, C] by name (possibly none)."""
        return {}

    @abc.abstractmethod
    def report(self, state: TrainState, sums: Mapping[str, Mapping[str, np.ndarray]], folder: pathlib.Path) -> Report:
        """Writes the task's pictures of the final state into `folder`; `sums` by split as from `eval_step`."""


def build(config: ConfigDict, dataset: Dataset, durations: Durations) -> Task:
    """Returns the task that `config.task` names."""
    # Imported here so that a run loads the networks of its own task only.
    match config.task:
        case "classification":
            from vision_jax.tasks.classification import Classification

            return Classification(config, dataset, durations)
        case "gan":
            from vision_jax.tasks.gan import GAN

            return GAN(config, dataset, durations)
        case "super_resolution":
            from vision_jax.tasks.super_resolution import SuperResolution

            return SuperResolution(config, dataset, durations)
        case name:
            raise ValueError(f"There is no task {name!r}.")


def network_trainer(
    config: ConfigDict,
    durations: Durations,
    peak: float,
    *,
    multiplier: Callable[[Path], float] | None = None,
    trained: Callable[[Path], bool] | None = None,
) -> tuple[Trainer, optim.Schedule]:
    """Returns the trainer of one network and its schedule.

    Args:
        config: with the optimiser and the schedule.
        durations: of the run.
        peak: highest learning rate.
        multiplier: factor of the rate by path of a parameter.
        trained: whether the parameter at a path is trained; all by default.
    """
    rate = optim.schedule(config.schedule, peak, durations.total, durations.warmup)
    transformation = optim.optimizer(config.optimizer, rate, multiplier)
    return Trainer(transformation, config.optimizer.ema_decay, trained), rate


def first_examples(config: ConfigDict, dataset: Dataset, split: str, count: int) -> dict[str, np.ndarray]:
    """Returns the first `count` examples of a split as evaluation sees them, stacked: 'image' uint8, 'label'."""
    source, (_, transform) = dataset.splits[split], transforms.for_config(config.data)
    examples = [source[i] for i in range(min(count, len(source)))]
    if transform is not None:
        examples = [transform(example) for example in examples]
    return {name: np.stack([example[name] for example in examples]) for name in ("image", "label")}


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 images to float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def to_bytes(images: jax.Array) -> jax.Array:
    """Float images in [0, 1] (clipped) to uint8, rounded to nearest."""
    return jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0).astype(jnp.uint8)

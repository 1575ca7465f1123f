"""What the loop knows of a task.

A task says how to initialize, what one pure step does, and which evaluations it wants; `vision_jax.train` does the
rest. All state is one pytree, `TrainState`; the randomness of a step is `fold_in(key(seed), step)`, so none of it needs
to be stored. Networks that only help (a feature extractor of a metric or of a loss) are `constants`: an argument of
every step, so that they are in no checkpoint and in no compiled program.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision_jax.data import transforms
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import Dataset
from vision_jax.tasks.state import NetworkOptimizer, TrainState

Tree = Any
Batch = Mapping[str, jax.Array]
Arrays = dict[str, jax.Array]
Constants = Mapping[str, Tree]


@dataclasses.dataclass(frozen=True)
class Durations:
    """Lengths in optimization steps; `save` is 0 where only evaluations save."""

    total: int
    warmup: int
    log: int
    evaluate: int
    save: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a collector found when training has ended.

    Attributes:
        metrics: by name, besides those of `Evaluator.summarize`.
        receipts: how some of them were measured, by the same names (plain JSON types).
        pictures: uint8 [N, H, W, C] by name, besides those of `Evaluator.pictures`.
        arrays: what belongs to these pictures, such as distances; goes where they go.
    """

    metrics: dict[str, float]
    receipts: dict[str, Any] = dataclasses.field(default_factory=dict)
    pictures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Collector(Protocol):
    """Gathers outputs on the host, batch by batch, where sums on the device are not enough; the same in all processes.

    A new one is made for each evaluation.
    """

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Takes in the outputs of a batch, without those of its padding."""

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of an evaluation during training."""

    def final(self) -> Measured:
        """Returns everything, when training has ended."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One evaluation that a task wants.

    Attributes:
        name: its metrics are called 'name/metric', its outputs lie in `outputs/NAME.npz`.
        split: of the data set.
        every: interval in training steps; 0 evaluates only when training has ended.
        limit: at most this many examples, spread evenly over the split; 0 takes all.
        metrics: names of what `summarize` and a collector's `metrics` return, and whether a larger value is better.
        step: `(state, constants, batch, key) -> (sums, outputs)`, pure. Sums add up over batches (`batch['mask']` is 1
            for real examples, 0 for padding); outputs have an entry per row of the batch, and are kept only from the
            final evaluation.
        summarize: sums over all batches, with 'count', the number of examples -> metrics (NumPy, on the host).
        pictures: `(state, constants, batch) -> {name: uint8 [N, H, W, C]}`, pure: what is worth looking at, of the
            split's first examples.
        shown: how many examples `pictures` gets.
        collector: makes what gathers the outputs on the host, where sums are not enough.
    """

    name: str
    split: str
    every: int
    limit: int
    metrics: Mapping[str, bool]
    step: Callable[[TrainState, Constants, Batch, jax.Array], tuple[Arrays, Arrays]]
    summarize: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    pictures: Callable[[TrainState, Constants, Batch], Arrays] | None = None
    shown: int = 64
    collector: Callable[[], Collector] | None = None

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to evaluate after `step`, which is the last of training or not."""
        return self.every > 0 and (last or step % self.every == 0)


class Task(abc.ABC):
    """One kind of training.

    Attributes:
        metrics: names of what `summarize` returns, and whether a larger value is better. The first, on 'val', picks the
            best checkpoint unless `config.eval.best_metric` names another.
        per_step: names of the training metrics that are kept step by step, besides the means of all.
        pretrained: whether `start` has something to load.
        shown: how many examples `pictures` gets.
    """

    metrics: Mapping[str, bool]
    per_step: tuple[str, ...] = ()
    pretrained: bool = False
    shown: int = 64

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: Durations):
        self.config, self.dataset, self.durations = config, dataset, durations

    @abc.abstractmethod
    def init(self, key: jax.Array) -> TrainState:
        """Returns the state before the first step (pure; compiled by the loop)."""

    def start(self, state: TrainState) -> TrainState:
        """Returns the state to start from, given the initial one, with pretrained weights in it (on the host)."""
        return state

    def constants(self) -> dict[str, Tree]:
        """Returns the networks that only help, by name: trees of arrays that no step changes (on the host)."""
        return {}

    def loader(self, state: TrainState, loader: Loader) -> Loader:
        """Returns the batches of a split that steps and evaluations take, given those of its images."""
        return loader

    def first_examples(self, split: str, count: int) -> dict[str, np.ndarray]:
        """Returns the first `count` examples of a split for `pictures`, stacked: 'image' uint8, 'label'."""
        return first_examples(self.config, self.dataset, split, count)

    @abc.abstractmethod
    def train_step(
        self, state: TrainState, constants: Constants, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, Arrays]:
        """Returns the next state and scalar float32 metrics of this step (pure)."""

    def example_losses(self, state: TrainState, constants: Constants, batch: Batch, key: jax.Array) -> jax.Array | None:
        """Returns the loss [N] of each example in `train_step` of the same arguments (pure).

        None where only the batch has one.
        """
        return None

    @abc.abstractmethod
    def eval_step(self, state: TrainState, constants: Constants, batch: Batch, key: jax.Array) -> tuple[Arrays, Arrays]:
        """Returns sums over the batch's real examples and outputs of every row; see `Evaluator.step`."""

    @abc.abstractmethod
    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the metrics of a split from the sums over all its batches; see `Evaluator.summarize`."""

    def pictures(self, state: TrainState, constants: Constants, batch: Batch) -> Arrays:
        """Returns pictures worth following during training; see `Evaluator.pictures`."""
        return {}

    def warnings(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Returns sentences that somebody should read about metrics ('evaluator/metric') after `step`."""
        return []

    def evaluators(self) -> list[Evaluator]:
        """Returns all evaluations: 'val' during training, every other split, 'train' only if asked for, at its end."""
        options = self.config.eval
        return [
            Evaluator(
                name=split,
                split=split,
                every=self.durations.evaluate if split == "val" else 0,
                limit=options.limit if split in ("val", "train") else 0,
                metrics=self.metrics,
                step=self.eval_step,
                summarize=self.summarize,
                pictures=self.pictures,
                shown=self.shown,
            )
            for split in sorted(self.dataset.splits, key=lambda split: split != "val")
            if split != "train" or options.train
        ]

    def optimizer(self, peak: float, *, updates_per_step: int = 1, **options: Any) -> NetworkOptimizer:
        """Returns the optimizer of one network, updated so often in each training step.

        See `NetworkOptimizer.of_config`; its steps are these updates.
        """
        steps, warmup = (updates_per_step * steps for steps in (self.durations.total, self.durations.warmup))
        return NetworkOptimizer.of_config(self.config, steps=steps, warmup=warmup, peak=peak, **options)


def first_examples(config: ConfigDict, dataset: Dataset, split: str, count: int) -> dict[str, np.ndarray]:
    """Returns the first `count` examples of a split as evaluation sees them, stacked: 'image' uint8, 'label'."""
    return examples_at(config, dataset, split, range(min(count, len(dataset.splits[split]))))


def examples_at(config: ConfigDict, dataset: Dataset, split: str, indices: Iterable[int]) -> dict[str, np.ndarray]:
    """Returns the examples at `indices` of a split as evaluation sees them, stacked: 'image' uint8, 'label'."""
    source, (_, transform) = dataset.splits[split], transforms.for_config(config.data)
    examples = [source[int(i)] for i in indices]
    if transform is not None:
        examples = [transform(example) for example in examples]
    return {name: np.stack([example[name] for example in examples]) for name in ("image", "label")}


def image_shape(config: ConfigDict, dataset: Dataset) -> tuple[int, int, int]:
    """Returns (H, W, C) of the images that a step sees."""
    height, width, channels = first_examples(config, dataset, "train", 1)["image"].shape[1:]
    return height, width, channels


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 images to float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def to_bytes(images: jax.Array) -> jax.Array:
    """Float images in [0, 1] (clipped) to uint8, rounded to nearest."""
    return jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0).astype(jnp.uint8)

"""Going back to the last good checkpoint when training has become not finite: what was done, and what it changes.

The history of a checkpoint lists the times that training went back before it. Those after it follow from it: a run that
is killed on such a way diverges at the same step again, and goes back with the same changes.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vision_jax.run import Run
from vision_jax.tasks import registry as tasks


@dataclasses.dataclass(frozen=True)
class Rewind:
    """One time that training went back.

    Attributes:
        step: the first that was not finite.
        to: step from which training went on, that of a checkpoint or 0.
        factor: of all learning rates, from there on.
        skipped: how many batches were left out there.
    """

    step: int
    to: int
    factor: float
    skipped: int

    @classmethod
    def of_config(cls, config: ConfigDict, step: int, to: int) -> "Rewind":
        """Returns what `config.train` wants of it."""
        options = config.train
        return cls(step, to, options.rewind_factor, step - to if options.rewind_skip else 0)

    def __str__(self) -> str:
        skipped = f", leaving out {self.skipped} batches" if self.skipped else ""
        return f"back to step {self.to}, with {self.factor:g} of the learning rate{skipped}"


def to_json(rewinds: Iterable[Rewind]) -> list[dict[str, Any]]:
    """Returns what a checkpoint's history keeps."""
    return [dataclasses.asdict(rewind) for rewind in rewinds]


def of_history(history: Mapping[str, Any]) -> tuple[Rewind, ...]:
    """Returns the times that a checkpoint's history lists."""
    return tuple(Rewind(**values) for values in history.get("rewinds", ()))


def next_batch(step: int, rewinds: Iterable[Rewind]) -> int:
    """Returns the number of the batch after `step`."""
    return step + sum(rewind.skipped for rewind in rewinds)


def slowed(run: Run, rewinds: Sequence[Rewind]) -> Run:
    """Returns the run with the learning rates that it has after these times; its config stays as it is."""
    factor = math.prod(rewind.factor for rewind in rewinds)
    if factor == 1.0:
        return run
    config = run.config.copy_and_resolve_references()
    config.optimizer.learning_rate *= factor
    if config.task == "gan":
        config.gan.discriminator_learning_rate *= factor
    task = tasks.build(config, run.dataset, run.durations)
    return dataclasses.replace(run, task=task, evaluators=task.evaluators())

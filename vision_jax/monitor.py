"""What watches over the loop: metric sums, the guard against NaN, rates, early stopping, signals, the profiler."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vision_jax import ending, parallel
from vision_jax.run import Run
from vision_jax.tasks.state import TrainState
from vision_jax.utils import trees

_NAMED = 3  # Metrics or arrays in a message, at most.


class NotFiniteError(ArithmeticError):
    """A metric or the state became NaN or infinite at `step`, as the sentence `found` says; nothing was saved since."""

    def __init__(self, found: str, step: int, advice: str):
        super().__init__(f"{found} {advice}")
        self.found, self.step = found, step


@jax.jit
def _all_finite(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), leaves)


class MetricSums(flax.struct.PyTreeNode):
    """Metrics since the last row.

    Attributes:
        sums: of each metric.
        not_finite: the first step at which it was not finite (0: none).
        course: float32 [steps per row] of the metrics that are kept step by step.
        steps: how many have been added.
    """

    sums: dict[str, Any]
    not_finite: dict[str, Any]
    course: dict[str, Any]
    steps: Any

    def add(self, metrics: dict[str, jax.Array], step: jax.Array) -> "MetricSums":
        """Adds the metrics of `step`."""
        first = {
            name: jnp.where((old == 0) & ~jnp.isfinite(metrics[name]), step, old)
            for name, old in self.not_finite.items()
        }
        sums = {name: total + metrics[name] for name, total in self.sums.items()}
        course = {name: values.at[self.steps].set(metrics[name]) for name, values in self.course.items()}
        return MetricSums(sums, first, course, self.steps + 1)

    def means(self) -> dict[str, float]:
        """Returns the row that a run writes of these (on the host)."""
        return {f"train/{name}": float(total / self.steps) for name, total in self.sums.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns plain numbers (of arrays on the host); float32 survives JSON exactly."""
        return {
            "sums": {name: float(value) for name, value in self.sums.items()},
            "course": {name: [float(v) for v in values] for name, values in self.course.items()},
            "steps": int(self.steps),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], mesh: Mesh) -> "MetricSums":
        """Returns on every device what `to_json` wrote; a saved sum was finite."""
        sums = {name: np.float32(value) for name, value in values["sums"].items()}
        course = {name: np.asarray(course, np.float32) for name, course in values["course"].items()}
        found = cls(sums, {name: np.int32(0) for name in sums}, course, np.int32(values["steps"]))
        return parallel.put_replicated(found, mesh)


class Monitor:
    """Watches the metrics: rates, the guard against NaN, the evaluations so far and early stopping."""

    def __init__(self, run: Run, history: dict[str, Any] | None, started_at: int):
        """Starts at step `started_at` with the `history` of a checkpoint, None without one."""
        history = history or {"evaluations": [], "seconds": 0.0}
        self.run, self.evaluations, self.seconds = run, list(history["evaluations"]), history["seconds"]
        self.began = self.last_time = time.monotonic()
        self.last_step = started_at

    def row(self, step: int, values: MetricSums) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the means since the last row, of sums on the host, and the timings of that interval."""
        self.check(values)
        now = time.monotonic()
        rate = (step - self.last_step) / max(now - self.last_time, 1e-9)
        self.last_step, self.last_time = step, now
        batch_size = self.run.config.data.batch_size
        return values.means(), {"steps_per_second": rate, "examples_per_second": rate * batch_size}

    def check(self, sums: MetricSums) -> None:
        """Raises `NotFiniteError` when one of these metrics (on the host) was NaN or infinite."""
        bad = {name: int(step) for name, step in sums.not_finite.items() if step}
        if bad:
            step = min(bad.values())
            self._refuse([f"train/{name}" for name, at in bad.items() if at == step], step)

    def check_state(self, step: int, state: TrainState) -> None:
        """Raises `NotFiniteError` when an array of the state after `step` holds NaN or infinity."""
        leaves = trees.flatten(state)
        finite = parallel.to_host(_all_finite(leaves))
        self._refuse([name for name in leaves if not finite[name]], step)

    def check_evaluation(self, step: int, row: Mapping[str, float]) -> None:
        """Raises `NotFiniteError` when a metric of an evaluation after `step` is NaN or infinite."""
        self._refuse([name for name, value in row.items() if not math.isfinite(value)], step)

    def _refuse(self, names: Sequence[str], step: int) -> None:
        if not names:
            return
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        self.run.checkpoints.wait()
        newest, rewinds = self.run.checkpoints.newest(), self.run.config.train.rewinds
        good = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint before it."
        used = f" config.train.rewinds={rewinds} are used up;" if rewinds else ""
        raise NotFiniteError(
            f"{shown} became NaN or infinite at step {step}.",
            step,
            f"{good} Nothing was saved after it;{used} try a lower config.optimizer.learning_rate, "
            f"config.optimizer.clip_norm=1.0 or config.train.rewinds={rewinds + 3}.",
        )

    def add(self, step: int, row: dict[str, float]) -> None:
        """Notes the metrics of an evaluation; those of one step share an entry."""
        if not self.evaluations or self.evaluations[-1]["step"] != step:
            self.evaluations.append({"step": step})
        self.evaluations[-1] |= row

    def history(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        seconds = self.seconds + time.monotonic() - self.began
        return {"evaluations": [dict(row) for row in self.evaluations], "seconds": seconds}

    @property
    def should_stop(self) -> bool:
        """Whether evaluations no longer improve."""
        return self.run.out_of_patience(self.evaluations)


class Termination:
    """Turns SIGTERM (a cluster's notice) and the first Ctrl-C into a request to save and stop."""

    def __init__(self, ask_every: int):
        self.ask_every = ask_every
        self.received = False

    def __enter__(self) -> "Termination":
        self._told = contextlib.ExitStack()
        self._told.enter_context(ending.told(self._receive))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._told.close()

    def _receive(self) -> None:
        self.received = True

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`; all processes of a run agree on it."""
        if jax.process_count() > 1:  # Asking the others costs a round trip, so that is done now and then.
            return step % self.ask_every == 0 and not parallel.all_processes(not self.received)
        return self.received


class Profiler:
    """Traces `config.profile.steps` steps into WORKDIR/profile, for TensorBoard."""

    def __init__(self, run: Run):
        options = run.config.profile
        self.folder = run.workdir / "profile"
        self.start, self.stop = options.start, options.start + options.steps
        self.active = False

    def __enter__(self) -> "Profiler":
        return self

    def before(self, step: int, stop: int) -> None:
        """Starts or ends the trace before the dispatch of steps `step` to `stop`; whole dispatches are traced."""
        wanted = self.start < self.stop and step < self.stop and stop > self.start
        if wanted and not self.active:
            jax.profiler.start_trace(self.folder)
        elif self.active and not wanted:
            jax.profiler.stop_trace()
        self.active = wanted

    def __exit__(self, *exception: Any) -> None:
        if self.active:
            jax.profiler.stop_trace()
            self.active = False

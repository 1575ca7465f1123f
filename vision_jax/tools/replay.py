"""Makes one step of a run again, bit for bit, and shows what happened in it.

    python -m vision_jax.tools.replay --workdir=runs/digits --step=700

starts from the newest checkpoint before the step (the initialization without one), makes the run's own steps up to it,
and writes to `RUN/replay/step_N/`:

    index.html   a page that shows the rest, the highest loss first
    replay.json  metrics, losses per example, gradient norms per layer, ranges of activations per stage
    batch.npz    the batch as the step gets it: `image`, `index` in the training split, where there are such `label` and
                 `loss`; of super-resolution `image` is the high resolution, `low` the low one
    batch.png    its images; gradients_NETWORK.png: bars of the norms

The page says whether the metrics are those that the run recorded. The run and its checkpoints stay as they are. The
exit status is 0, or 2 when nothing was written.
"""

import itertools
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from vision_jax import command_line, config_files, evaluate, observation, parallel, rewind, train, writers
from vision_jax import run as run_lib
from vision_jax.checkpoints import CheckpointError, Restored
from vision_jax.data import pipeline
from vision_jax.monitor import MetricSums
from vision_jax.report import replay_page
from vision_jax.run import Run
from vision_jax.tasks import base
from vision_jax.utils import files

_FOLDER = "replay"


class Course:
    """The steps of a run once more, with the learning rates and the batches that they had.

    Attributes:
        step: steps done.
        carry: the state after them, and the sums of the metrics since the last row before.
        run: as it is at this step.
    """

    def __init__(self, run: Run, restored: Restored | None, rewinds: Sequence[rewind.Rewind]):
        self._run, self._rewinds = run, rewinds
        self.step = restored.step if restored else 0
        state = restored.state if restored else run.initial_state()
        self.constants = evaluate.Evaluation(run).constants
        self._loader = run.task.loader(state, run.loader("train"))
        self._begin()
        self._shapes = self._dispatches.sums_shapes(state)
        self.carry: train.Carry = (state, train.restored_sums(restored, self._shapes, run))

    def _begin(self) -> None:
        made = [one for one in self._rewinds if one.to <= self.step]
        self.run = rewind.slowed(self._run, made)
        first = rewind.next_batch(self.step, made)
        self._dispatches = train.Dispatches(self.run, self.constants, self._loader, first)

    def zeros(self) -> MetricSums:
        """Returns the sums of no steps."""
        return parallel.zeros(self._shapes, self._run.mesh)

    def advance(self, stop: int) -> None:
        """Makes the steps up to `stop`; sums begin anew after each row."""
        every, most = self._run.durations.log, self._dispatches.per_dispatch
        turns = [one.to for one in self._rewinds if one.to > self.step]
        while self.step < stop:
            if self.step % every == 0:
                self.carry = (self.carry[0], self.zeros())
            ends = (stop, self.step + most, (self.step // every + 1) * every, *turns)
            until = min(end for end in ends if end > self.step)
            self.carry = self._dispatches(self.carry, until - self.step)
            self.step = until
            if until in turns:
                self._begin()

    def look_ahead(self) -> tuple[pipeline.Batch, MetricSums]:
        """Returns the batch of the next step, as the device gets it, and the metrics of that step alone (on the host).

        The course stays where it is.
        """
        rows = next(self._dispatches.batches)
        self._dispatches.batches = itertools.chain([rows], self._dispatches.batches)
        carry = parallel.to_host(self.carry)
        _, sums = self._dispatches.send((self.carry[0], self.zeros()), self._dispatches.put([rows]), 1)
        self.carry = parallel.put(carry, parallel.shardings(carry, self._run.mesh))
        batch = parallel.put_split(rows, self._run.mesh)
        return jax.jit(pipeline.gather)(self._loader.data, batch), parallel.to_host(sums)


class Recorded(NamedTuple):
    """What a run wrote of a step: its row in `steps.jsonl` and that of its interval in `metrics.jsonl`, {} if none."""

    step: Mapping[str, float]
    interval: Mapping[str, float]
    end: int  # Last step of the interval.


def recorded(run: Run, step: int) -> Recorded:
    """Reads it from the folder of the run."""
    every = run.durations.log
    end = min(-(-step // every) * every, run.durations.total)

    def row(name: str, at: int, metric: str) -> Mapping[str, float]:
        rows = writers.read_rows(run.workdir / name)
        return next((row for row in rows if row["step"] == at and metric in row), {})

    course = row(writers.STEPS, step, run.task.per_step[0]) if run.task.per_step else {}
    return Recorded(course, row(writers.METRICS, end, "train/learning_rate"), end)


def differences(record: Recorded, alone: MetricSums, interval: MetricSums | None) -> list[str]:
    """Returns a sentence for each figure that is not, bit for bit, the recorded one.

    Args:
        record: of the step.
        alone: its metrics.
        interval: the sums up to the end of its interval, if the run recorded that.
    """
    pairs = [(writers.STEPS, record.step, {name: float(values[0]) for name, values in alone.course.items()})]
    if interval is not None:
        pairs.append((writers.METRICS, record.interval, interval.means()))
    return [
        f"{name} is {value!r}, recorded in {file} is {row.get(name)!r}."
        for file, row, found in pairs
        if row
        for name, value in found.items()
        if row.get(name) != value
    ]


def examples(batch: Mapping[str, np.ndarray], losses: np.ndarray | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns 'row', 'index', 'label', 'class' and 'loss' (as far as there are such), the highest loss first."""
    rows = np.arange(len(batch["index"]))
    if losses is not None:
        rows = np.argsort(-np.nan_to_num(losses, nan=np.inf), kind="stable")
    found = []
    for row in rows:
        example: dict[str, Any] = {"row": int(row), "index": int(batch["index"][row])}
        if "label" in batch and names:
            label = int(batch["label"][row])
            example |= {"label": label, "class": names[label]}
        found.append(example | ({} if losses is None else {"loss": float(losses[row])}))
    return found


def replay(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """Makes step `step` of a run again, writes what happened, and returns the page.

    Raises:
        ConfigError: there is no run in `workdir`, or it has no such step.
        CheckpointError: its checkpoints do not fit its config.
        ValueError, OSError: its data cannot be used.
    """
    with run_lib.build(config_files.of_run(workdir), workdir) as run:
        total = run.durations.total
        if not 1 <= step <= total:
            raise run_lib.ConfigError(f"There is no step {step} in {workdir}; its training has the steps 1 to {total}.")
        record = recorded(run, step)
        rewinds = rewind.of_history(run.checkpoints.newest_history())
        restored = run.checkpoints.restore_before(step, run.abstract_state())
        course = Course(run, restored, [one for one in rewinds if one.to < record.end])
        course.advance(step - 1)
        task, (state, _) = course.run.task, course.carry
        batch, alone = course.look_ahead()
        state, _ = course.carry
        key = jax.random.fold_in(run.key, step - 1)
        losses = jax.jit(task.example_losses)(state, course.constants, batch, key)
        seen = observation.observe(task, state, course.constants, batch, key)
        interval = None
        if record.interval:
            course.advance(record.end)
            interval = parallel.to_host(course.carry[1])
        arrays = {name: parallel.gather_to_host(array) for name, array in batch.items()}
        if losses is not None:
            arrays["loss"] = parallel.gather_to_host(losses)
        found = {
            "run": str(workdir),
            "task": run.config.task,
            "step": step,
            "from_step": restored.step if restored else 0,
            "metrics": {name: float(value) for name, value in alone.sums.items()},
            "recorded": [
                *([f"{writers.STEPS}, step {step}"] if record.step else []),
                *([f"{writers.METRICS}, the means up to step {record.end}"] if record.interval else []),
            ],
            "differences": differences(record, alone, interval),
            "examples": examples(arrays, arrays.get("loss"), run.dataset.class_names),
            "gradient_norms": seen.gradients,
            "activations": seen.activations,
        }
        folder = workdir / _FOLDER / f"step_{step}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, found, _with_images(run, arrays))
    return replay_page.write(folder)


def _with_images(run: Run, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a batch with its pictures as 'image', uint8 [N, H, W, C]."""
    if run.config.task == "super_resolution":
        return {"image": arrays.pop("high"), **arrays}
    if run.config.model.cache_features:
        images = base.examples_at(run.config, run.dataset, "train", arrays["index"])["image"]
        return {**arrays, "features": arrays["image"], "image": images}
    return arrays


def _write(folder: pathlib.Path, found: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    with files.atomic_write(folder / "batch.npz") as file:
        np.savez(file, allow_pickle=False, **arrays)
    files.write_json(folder / "replay.json", _plain(found))


def _plain(values: Any) -> Any:
    """Returns values for strict JSON, with NaN and infinities as 'nan', 'inf' and '-inf'."""
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def main(argv: Sequence[str]) -> int:
    """Replays the step that the command line asks for."""
    given = flags.FLAGS
    command_line.quiet()
    try:
        if len(argv) > 1:
            raise ValueError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
        if given.workdir is None or given.step is None:
            raise ValueError("Which step of which run? Give --workdir=RUN and --step=N.")
        workdir = pathlib.Path(given.workdir)
        if config_files.of_run(workdir).train.compilation_cache:
            parallel.keep_programs(files.cache_dir("compilation"))
        print(f"Wrote {replay(workdir, given.step)}")
    except (ValueError, OSError, CheckpointError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the run.")
    flags.DEFINE_integer("step", None, "The step to be made again, counted from 1.")
    command_line.run(main)

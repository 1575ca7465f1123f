"""The loop, one for all tasks: restore, step, log, evaluate, save, stop.

A dispatch runs one step or, for networks so small that Python would dominate, up to `config.train.steps_per_dispatch` of
them. Dispatches end at multiples of that number and wherever something is due, counted from step 0, so that a resumed
run makes the same ones. The number of steps is an argument of the compiled program: it is compiled once.

Metrics are summed on the device and fetched at log steps, after the next dispatch has been sent off. What a run computes
is a function of the config alone: batches of their number, randomness of the step, and the sums are in the checkpoint.
"""

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from vision_jax import config as config_lib
from vision_jax import evaluate, parallel, progress, writers
from vision_jax import run as run_lib
from vision_jax.data import pipeline
from vision_jax.run import Run
from vision_jax.tasks.base import Durations, Task, TrainState


class NotFiniteError(ArithmeticError):
    """A metric became NaN or infinite; nothing was saved after it."""


@flax.struct.dataclass
class Running:
    """Metrics since the last row: their sums, the first step at which each was not finite (0: none), and the steps."""

    sums: dict[str, jax.Array]
    not_finite: dict[str, jax.Array]
    steps: jax.Array

    def add(self, metrics: dict[str, jax.Array], step: jax.Array) -> "Running":
        """Adds the metrics of `step`."""
        first = {
            name: jnp.where((old == 0) & ~jnp.isfinite(metrics[name]), step, old)
            for name, old in self.not_finite.items()
        }
        sums = {name: total + metrics[name] for name, total in self.sums.items()}
        return Running(sums, first, self.steps + 1)

    def to_json(self) -> dict[str, Any]:
        """Returns plain numbers (of arrays on the host); float32 survives JSON exactly."""
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "steps": int(self.steps)}

    @classmethod
    def from_json(cls, values: dict[str, Any], mesh: Mesh) -> "Running":
        """Returns on every device what `to_json` wrote; a saved sum was finite."""
        sums = {name: np.float32(value) for name, value in values["sums"].items()}
        return parallel.put_replicated(cls(sums, {name: np.int32(0) for name in sums}, np.int32(values["steps"])), mesh)


Carry = tuple[TrainState, Running]


def running_shapes(task: Task, state: TrainState, data: pipeline.Batch, batch: pipeline.Batch, key: jax.Array) -> Running:
    """Returns the shapes of the metrics of `task.train_step`."""
    metrics = jax.eval_shape(lambda s, d, b, k: task.train_step(s, pipeline.gather(d, b), k)[1], state, data, batch, key)
    integer = jax.ShapeDtypeStruct((), jnp.int32)
    return Running(metrics, {name: integer for name in metrics}, integer)


def compile_steps(task: Task, key: jax.Array, *, several: bool) -> Callable[..., Carry]:
    """Returns the compiled program `(state, running, data, batches, count) -> (state, running)`; it donates the first two.

    Args:
        task: whose step it runs.
        key: base key; step `s` gets `fold_in(key, s)`.
        several: `batches` has a leading axis, of which the first `count` (int32, on the device) are run.
    """

    def one(carry: Carry, data: pipeline.Batch, batch: pipeline.Batch) -> Carry:
        state, running = carry
        state, metrics = task.train_step(state, pipeline.gather(data, batch), jax.random.fold_in(key, state.step))
        state = state.replace(step=state.step + 1)
        return state, running.add(metrics, state.step)

    def steps(state: TrainState, running: Running, data: pipeline.Batch, batches: pipeline.Batch, count: jax.Array) -> Carry:
        if not several:
            return one((state, running), data, batches)

        def body(i: jax.Array, carry: Carry) -> Carry:
            return one(carry, data, jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), batches))

        return lax.fori_loop(0, count, body, (state, running))

    return jax.jit(steps, donate_argnums=(0, 1))


def next_stop(step: int, per_dispatch: int, durations: Durations) -> int:
    """Returns the step at which the dispatch that starts at `step` ends."""
    intervals = (per_dispatch, durations.log, durations.evaluate, durations.save)
    return min(durations.total, *((step // every + 1) * every for every in intervals if every))


class Dispatches:
    """Sends steps to the device: pulls batches, stacks them where several make a dispatch, and runs the program."""

    def __init__(self, run: Run, loader: pipeline.Loader, start: int):
        self.run, self.data = run, loader.data
        self.per_dispatch = run.config.train.steps_per_dispatch
        self.batches = loader.train(run.config.data.batch_size, run.config.seed, start)
        self.program = compile_steps(run.task, run.key, several=self.per_dispatch > 1)
        self.counts = [parallel.put_replicated(np.int32(n), run.mesh) for n in range(self.per_dispatch + 1)]

    def put(self, batches: list[pipeline.Batch]) -> pipeline.Batch:
        """Puts host batches on the devices, stacked and filled up to a whole dispatch where that is several steps."""
        if self.per_dispatch == 1:
            return parallel.put_split(batches[0], self.run.mesh)
        filled = batches + batches[-1:] * (self.per_dispatch - len(batches))
        return parallel.put_split(jax.tree.map(lambda *rows: np.stack(rows), *filled), self.run.mesh, axis=1)

    def __call__(self, carry: Carry, count: int) -> Carry:
        batches = self.put(list(itertools.islice(self.batches, count)))
        return self.program(*carry, self.data, batches, self.counts[count])


def train(run: Run, *, allow_config_change: bool = False) -> dict[str, Any]:
    """Trains to the end, or continues a run that was stopped, and returns the final results (see `evaluate.final`).

    Raises:
        CheckpointError: the run's checkpoints do not fit the config.
        NotFiniteError: a metric became NaN or infinite.
    """
    config, task, durations, mesh = run.config, run.task, run.durations, run.mesh
    run_lib.refuse_other_config(run, allow=allow_config_change)
    loader = run.loader("train")
    first = next(loader.train(config.data.batch_size, config.seed))
    abstract = run.abstract_state()
    shapes = running_shapes(task, abstract, loader.data, parallel.put_split(first, mesh), run.key)
    input_state = {"examples": len(loader.source), "batch_size": config.data.batch_size, "seed": config.seed}

    # Always resume; without a checkpoint start from scratch.
    restored = run.checkpoints.restore_newest(abstract)
    if restored is not None:
        state, step, history = restored.state, restored.step, restored.history
        running = Running.from_json(history["running"], mesh)
        expected = input_state | {"next_batch": step}
        if restored.input_state != expected and not allow_config_change:
            raise run_lib.CheckpointError(
                f"The training data differ from those of checkpoint {step}: it has {restored.input_state}, now "
                f"{expected}. Restore the data, or go on by --allow_config_change."
            )
    else:
        state, running = run.initial_state(), run_lib.zeros(shapes, mesh)
        step, history = 0, {"evaluations": [], "seconds": 0.0}
    run_lib.describe(run)

    dispatches = Dispatches(run, loader, start=step)
    evaluator = evaluate.Evaluator(run)
    monitor = Monitor(run, history, started_at=step)
    with (
        writers.open_writers(run.workdir, config, resume_step=step if restored else None) as writer,
        progress.Progress(durations.total, step, unit_examples=config.data.batch_size) as shown,
        Termination(durations.log) as termination,
        Profiler(run) as profiler,
    ):
        if restored:
            shown.message(f"Continuing {run.workdir} from step {step}.")
        else:
            writer.write_hparams(config_lib.to_dict(config))
        pending: tuple[int, Running] | None = None

        def write_row() -> None:
            nonlocal pending
            if pending is None:
                return
            (at, sums), pending = pending, None
            row, timings = monitor.row(at, sums)
            writer.write_scalars(at, row)
            writer.write_timings(at, timings)
            shown.update(at, row)

        def save() -> None:
            sums = parallel.to_host(running)
            monitor.check(sums)
            writer.flush()  # Rows up to here are on disk before the checkpoint that continues after them.
            history = monitor.history() | {"running": sums.to_json()}
            run.checkpoints.save(step, state, input_state | {"next_batch": step}, history, config_lib.to_dict(config))

        while step < durations.total and not monitor.should_stop:
            stop = next_stop(step, dispatches.per_dispatch, durations)
            profiler.before(step, stop)
            state, running = dispatches((state, running), stop - step)
            step = stop
            write_row()  # Of the interval before: the device is already at work on the next.
            last = step == durations.total
            if step % durations.log == 0 or last:
                pending, running = (step, running), run_lib.zeros(shapes, mesh)
            evaluated = step % durations.evaluate == 0 or last
            if evaluated:
                write_row()
                row = evaluator.metrics(state, "val")
                writer.write_scalars(step, row)
                writer.write_images(step, task.images(parallel.local_view(state)))
                monitor.add(step, row)
                shown.update(step, row)
            stopping = termination.requested(step)
            if evaluated or stopping or (durations.save and step % durations.save == 0):
                write_row()
                save()
            if stopping:
                run.checkpoints.wait()
                raise SystemExit(f"Stopped by a signal after step {step}; the same command continues from there.")
        run.checkpoints.wait()
    return evaluate.final(run, run.checkpoints.best(), evaluator)


class Monitor:
    """Watches the metrics: rates, the guard against NaN, the evaluations so far and early stopping."""

    def __init__(self, run: Run, history: dict[str, Any], started_at: int):
        self.run, self.evaluations, self.seconds = run, list(history["evaluations"]), history["seconds"]
        self.began = self.last_time = time.monotonic()
        self.last_step = started_at

    def row(self, step: int, running: Running) -> tuple[dict[str, float], dict[str, float]]:
        """Waits for the device and returns the means since the last row and the timings of that interval."""
        values = parallel.to_host(running)
        self.check(values)
        now = time.monotonic()
        rate = (step - self.last_step) / max(now - self.last_time, 1e-9)
        self.last_step, self.last_time = step, now
        batch_size = self.run.config.data.batch_size
        means = {f"train/{name}": float(total / values.steps) for name, total in values.sums.items()}
        return means, {"steps_per_second": rate, "examples_per_second": rate * batch_size}

    def check(self, running: Running) -> None:
        """Raises `NotFiniteError` when one of these metrics (on the host) was NaN or infinite."""
        bad = {name: int(step) for name, step in running.not_finite.items() if step}
        if bad:
            step = min(bad.values())
            names = ", ".join(f"train/{name}" for name, at in bad.items() if at == step)
            self.run.checkpoints.wait()
            newest = self.run.checkpoints.newest()
            good = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint before it."
            raise NotFiniteError(
                f"{names} became NaN or infinite at step {step}. {good} Nothing was saved after it; try a lower "
                "config.optimizer.learning_rate or config.optimizer.clip_norm=1.0."
            )

    def add(self, step: int, row: dict[str, float]) -> None:
        """Notes an evaluation."""
        self.evaluations.append({"step": step, **row})

    def history(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        seconds = self.seconds + time.monotonic() - self.began
        return {"evaluations": self.evaluations, "seconds": seconds}

    @property
    def should_stop(self) -> bool:
        """Whether `config.eval.patience` evaluations have passed since the best."""
        patience, checkpoints = self.run.config.eval.patience, self.run.checkpoints
        scores = [checkpoints.sign * row[checkpoints.best_metric] for row in self.evaluations]
        return bool(patience) and len(scores) - 1 - int(np.argmax(scores or [0.0])) >= patience


class Termination:
    """Turns SIGTERM (a cluster's notice) and the first Ctrl-C into a request to save and stop."""

    def __init__(self, ask_every: int):
        self.ask_every = ask_every

    def __enter__(self) -> "Termination":
        self.received = False
        self.before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True
        signal.signal(number, self.before[number])  # A second one acts at once.

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
        self.start, self.stop = (options.start, options.start + options.steps) if options.steps else (-1, -1)
        self.active = False

    def __enter__(self) -> "Profiler":
        return self

    def before(self, step: int, stop: int) -> None:
        """Starts or ends the trace before the dispatch of steps `step` to `stop`; whole dispatches are traced."""
        wanted = step < self.stop and stop > self.start
        if wanted and not self.active:
            jax.profiler.start_trace(self.folder)
        elif self.active and not wanted:
            jax.profiler.stop_trace()
        self.active = wanted

    def __exit__(self, *exception: Any) -> None:
        if self.active:
            jax.profiler.stop_trace()
            self.active = False

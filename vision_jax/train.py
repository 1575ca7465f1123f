"""The loop, one for all tasks: restore, step, log, evaluate, save, stop.

A dispatch runs one step or, for networks so small that Python would dominate, up to `config.train.steps_per_dispatch`
of them. Dispatches end at multiples of that number and wherever something is due, counted from step 0, so that a
resumed run makes the same ones. The number of steps is an argument of the compiled program: it is compiled once.

Metrics are summed on the device and fetched at log steps, after the next dispatch has been sent off. What a run
computes is a function of the config alone: batches of their number, randomness of the step, and the sums are in the
checkpoint.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax import config as config_lib
from vision_jax import ending, environment, evaluate, memory, parallel, progress, rewind, writers
from vision_jax.checkpoints import CheckpointError, Restored
from vision_jax.data import pipeline
from vision_jax.monitor import MetricSums, Monitor, NotFiniteError, Profiler, Termination
from vision_jax.rewind import Rewind
from vision_jax.run import Run
from vision_jax.tasks.base import Constants, Durations, Evaluator, Task
from vision_jax.tasks.state import TrainState
from vision_jax.utils.options import ConfigError

Carry = tuple[TrainState, MetricSums]


class Steps:
    """The task's training step, traced once, which takes seconds: for the shapes of its metrics and for the program.

    JAX finds the trace again because both apply it to arrays on the run's mesh, which is part of their types.
    `key` is the base key; step `s` gets `fold_in(key, s)`.
    """

    def __init__(self, task: Task, key: jax.Array):
        self.key = key
        self.step = jax.jit(task.train_step, inline=True)
        self.kept, self.per_row = task.per_step, task.durations.log

    def sums_shapes(
        self, state: TrainState, constants: Constants, data: pipeline.Batch, batch: pipeline.Batch
    ) -> MetricSums:
        """Returns the shapes of the sums of the metrics of a step."""
        metrics = jax.eval_shape(
            lambda s, c, d, b: self.step(s, c, pipeline.gather(d, b), self.key)[1], state, constants, data, batch
        )
        integer = jax.ShapeDtypeStruct((), jnp.int32)
        course = {name: jax.ShapeDtypeStruct((self.per_row,), metrics[name].dtype) for name in self.kept}
        return MetricSums(metrics, {name: integer for name in metrics}, course, integer)

    def program(self, *, several: bool, out_shardings: Any) -> jax.stages.Wrapped:
        """Returns the program `(state, sums, constants, data, batches, count) -> (state, sums)`, to be compiled.

        It donates the first two. With `several`, `batches` has a leading axis, of which the first `count` (int32, on
        the device) are run.
        """

        def one(carry: Carry, constants: Constants, data: pipeline.Batch, batch: pipeline.Batch) -> Carry:
            state, sums = carry
            key = jax.random.fold_in(self.key, state.step)
            state, metrics = self.step(state, constants, pipeline.gather(data, batch), key)
            state = state.replace(step=state.step + 1)
            return state, sums.add(metrics, state.step)

        def steps(
            state: TrainState,
            sums: MetricSums,
            constants: Constants,
            data: pipeline.Batch,
            batches: pipeline.Batch,
            count: jax.Array,
        ) -> Carry:
            if not several:
                return one((state, sums), constants, data, batches)

            def body(i: jax.Array, carry: Carry) -> Carry:
                batch = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), batches)
                return one(carry, constants, data, batch)

            return lax.fori_loop(0, count, body, (state, sums))

        return jax.jit(steps, donate_argnums=(0, 1), out_shardings=out_shardings)


def next_stop(step: int, per_dispatch: int, durations: Durations, evaluators: list[Evaluator]) -> int:
    """Returns the step at which the dispatch that starts at `step` ends."""
    intervals = (per_dispatch, durations.log, durations.save, *(evaluator.every for evaluator in evaluators))
    return min(durations.total, *((step // every + 1) * every for every in intervals if every))


class Dispatches:
    """Sends steps to the device: pulls batches, stacks them where several make a dispatch, and runs the program.

    `start` is the number of the first batch. The first dispatch compiles the program; one that does not fit it raises
    TypeError or ValueError.
    """

    def __init__(self, run: Run, constants: Constants, loader: pipeline.Loader, start: int):
        self.run, self.constants, self.data = run, constants, loader.data
        self.per_dispatch = run.config.train.steps_per_dispatch
        self.batches: Iterator[pipeline.Batch] = loader.train(run.config.data.batch_size, run.config.seed, start)
        self.steps = Steps(run.task, run.key)
        self.program: Callable[..., Carry] | None = None
        self.counts = [parallel.put_replicated(np.int32(n), run.mesh) for n in range(self.per_dispatch + 1)]

    def sums_shapes(self, state: TrainState) -> MetricSums:
        """Returns the shapes of the sums of the metrics of a step, and empties JAX's caches before it traces it."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        memory.release_memory()  # Of initialization, which is over, 250 MB are kept for DenseNet-161.
        batch = parallel.put_split(first, self.run.mesh)
        return self.steps.sums_shapes(state, self.constants, self.data, batch)

    def put(self, batches: list[pipeline.Batch]) -> pipeline.Batch:
        """Puts host batches on the devices, stacked and filled up to a whole dispatch where that is several steps."""
        if self.per_dispatch == 1:
            return parallel.put_split(batches[0], self.run.mesh)
        filled = batches + batches[-1:] * (self.per_dispatch - len(batches))
        return parallel.put_split(jax.tree.map(lambda *rows: np.stack(rows), *filled), self.run.mesh, axis=1)

    def send(self, carry: Carry, batches: pipeline.Batch, count: int) -> Carry:
        """Sends off `count` steps of batches from `put`."""
        arguments = *carry, self.constants, self.data, batches, self.counts[count]
        if self.program is None:
            out_shardings = parallel.shardings(carry, self.run.mesh)
            program = self.steps.program(several=self.per_dispatch > 1, out_shardings=out_shardings)
            self.program = program.lower(*arguments).compile()
            memory.release_memory()  # Of the traces.
            memory.check(self.program, self.run.mesh.local_devices)
        return self.program(*arguments)

    def __call__(self, carry: Carry, count: int) -> Carry:
        """Sends off the next `count` steps."""
        return self.send(carry, self.put(list(itertools.islice(self.batches, count))), count)


def restored_sums(restored: Restored | None, shapes: MetricSums, run: Run) -> MetricSums:
    """Returns a checkpoint's sums since the last row; zeros without one, or if a changed config has other metrics."""
    if restored:
        sums = MetricSums.from_json(restored.history["metric_sums"], run.mesh)
        if jax.tree.map(np.shape, sums) == jax.tree.map(np.shape, shapes):
            return sums
    return parallel.zeros(shapes, run.mesh)


class Training:
    """A run under way: its state, where it is, and what it does when something is due.

    Args:
        run: what is trained.
        restored: the checkpoint from which it continues; None starts from scratch.
        loader: of the training split's images.
        input_state: what a checkpoint has to agree with, besides the number of the next batch.
        rewinds: the times that training went back before.
    """

    def __init__(
        self,
        run: Run,
        restored: Restored | None,
        loader: pipeline.Loader,
        input_state: dict[str, Any],
        rewinds: tuple[Rewind, ...],
    ):
        self.run, self.restored, self.input_state, self.rewinds = run, restored, input_state, rewinds
        self.step = restored.step if restored else 0
        state = restored.state if restored else run.initial_state()
        environment.describe(run.workdir, run.config, run.dataset, state)
        self.evaluation = evaluate.Evaluation(run)
        start = rewind.next_batch(self.step, rewinds)
        self.dispatches = Dispatches(run, self.evaluation.constants, run.task.loader(state, loader), start)
        self.shapes = self.dispatches.sums_shapes(state)
        self.carry: Carry = (state, restored_sums(restored, self.shapes, run))
        self.row: tuple[int, MetricSums] | None = None  # Complete, and not yet written.
        self.checked: tuple[int, MetricSums] | None = None  # Step and its sums on the host, found to be finite.
        self.newest: dict[str, float] = {}  # The last one written.
        self.monitor = Monitor(run, restored.history if restored else None, started_at=self.step)

    def __enter__(self) -> Self:
        run, durations = self.run, self.run.durations
        with contextlib.ExitStack() as stack:
            resume, course = self.step if self.restored else None, bool(run.task.per_step)
            opened = writers.open_writers(run.workdir, run.config, resume_step=resume, keeps_course=course)
            self.writer = stack.enter_context(opened)
            self.shown = stack.enter_context(
                progress.Progress(durations.total, self.step, unit_examples=run.config.data.batch_size)
            )
            self.profiler = stack.enter_context(Profiler(run))
            self._stack = stack.pop_all()
        if self.restored:
            self.shown.message(f"Continuing {run.workdir} from step {self.step}.")
        self.writer.write_hparams(config_lib.to_dict(run.config))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    @property
    def last(self) -> bool:
        """Whether all steps are done."""
        return self.step == self.run.durations.total

    def zeros(self) -> MetricSums:
        """Returns the sums of no steps."""
        return parallel.zeros(self.shapes, self.run.mesh)

    def dispatch(self) -> None:
        """Sends off the steps up to the next at which something is due."""
        run = self.run
        stop = next_stop(self.step, self.dispatches.per_dispatch, run.durations, run.evaluators)
        self.profiler.before(self.step, stop)
        self.carry = self.dispatches(self.carry, stop - self.step)
        self.step = stop

    def end_row(self) -> None:
        """Closes the row of metrics, if one is due; it is written when the device has more to do."""
        if self.step % self.run.durations.log == 0 or self.last:
            state, sums = self.carry
            self.row, self.carry = (self.step, sums), (state, self.zeros())

    def write_row(self) -> None:
        """Waits for the closed row of metrics, if there is one, and writes it."""
        if self.row is not None:
            (step, sums), self.row = self.row, None
            values = parallel.to_host(sums)
            row, timings = self.monitor.row(step, values)
            if self.run.config.train.rewinds:
                row["train/rewinds"] = float(len(self.rewinds))
            self.writer.write_course(step, int(values.steps), values.course)
            self.writer.write_scalars(step, row)
            self.writer.write_timings(step, timings)
            self.shown.update(step, row)
            self.newest = row

    def evaluate(self) -> bool:
        """Runs the evaluators that are due; returns whether there were any."""
        due = [evaluator for evaluator in self.run.evaluators if evaluator.due(self.step, last=self.last)]
        if due:
            self.check()
        for evaluator in due:
            state, _ = self.carry
            row = self.evaluation(evaluator, state).metrics
            self.monitor.check_evaluation(self.step, row)
            pictures = self.evaluation.pictures(evaluator, state)
            self.writer.write_scalars(self.step, row)
            self.writer.write_images(self.step, {f"{evaluator.name}/{name}": x for name, x in pictures.items()})
            self.monitor.add(self.step, row)
            self.shown.update(self.step, row)
            for warning in self.run.task.warnings(self.step, self.newest | row):
                self.shown.message(f"WARNING at step {self.step}: {warning}")
        return bool(due)

    def check(self) -> MetricSums:
        """Writes the closed row, and returns the sums since then (on the host) if they and the state are finite."""
        self.write_row()
        if self.checked is None or self.checked[0] != self.step:
            state, sums = self.carry
            on_host = parallel.to_host(sums)
            self.monitor.check(on_host)
            self.monitor.check_state(self.step, state)
            self.checked = (self.step, on_host)
        return self.checked[1]

    def save(self) -> None:
        """Starts writing a checkpoint, after everything that belongs before it."""
        sums = self.check()
        self.writer.flush()  # Rows up to here are on disk before the checkpoint that continues after them.
        history = self.monitor.history() | {"metric_sums": sums.to_json(), "rewinds": rewind.to_json(self.rewinds)}
        input_state = self.input_state | {"next_batch": rewind.next_batch(self.step, self.rewinds)}
        state, _ = self.carry
        self.run.checkpoints.save(self.step, state, input_state, history, config_lib.to_dict(self.run.config))

    def leave(self) -> None:
        """Saves and ends the process: the same command continues from there."""
        try:
            self.save()
        except NotFiniteError:
            if len(self.rewinds) >= self.run.config.train.rewinds:
                raise
            # Not saved: the same command comes here again, and goes back.
        self.run.checkpoints.wait()
        parallel.all_processes(True)  # Nobody leaves before all have saved.
        self.shown.message(f"Stopped by a signal after step {self.step}; the same command continues from there.")
        raise SystemExit(ending.STOPPED)

    def until_end(self, termination: Termination) -> None:
        """Trains until all steps are done or the run has stopped improving; see `train` about errors."""
        save_every = self.run.durations.save
        while not self.last and not self.monitor.should_stop:
            self.dispatch()
            self.write_row()  # Of the interval before: the device is already at work on the next.
            self.end_row()
            evaluated = self.evaluate()
            if termination.requested(self.step):
                self.leave()
            if evaluated or (save_every and self.step % save_every == 0):
                self.save()
        self.run.checkpoints.wait()


def train(run: Run, *, allow_config_change: bool = False) -> dict[str, Any]:
    """Trains to the end, or continues a run that was stopped, and returns the final results (see `evaluate.final`).

    Once the step is compiled, JAX's caches are emptied: what else the process has compiled is compiled again when used.

    Raises:
        CheckpointError: another process trains this run, its checkpoints do not fit the config, or none can be written.
        ConfigError: a checkpoint is beyond the end of a changed config.
        NotFiniteError: a metric or the state became NaN or infinite, once more often than `config.train.rewinds`.
    """
    config = run.config
    run.checkpoints.begin_writing()
    loader = run.loader("train")
    input_state = {"examples": len(loader.source), "batch_size": config.data.batch_size, "seed": config.seed}
    if not allow_config_change:
        run.checkpoints.refuse_other_config(config_lib.to_dict(config))
    termination = Termination(run.durations.log)

    def attempt(restored: Restored | None, rewinds: tuple[Rewind, ...], notice: str) -> dict[str, Any]:
        with Training(rewind.slowed(run, rewinds), restored, loader, input_state, rewinds) as training:
            if notice:
                training.shown.message(f"WARNING: {notice}")
            with termination:
                training.until_end(termination)
            training.shown.close()  # The table comes below the bar.
            return evaluate.final(training.run, None, training.evaluation, training.writer)

    rewinds: tuple[Rewind, ...] | None = None
    notice, bad_step = "", 0
    while True:
        # Always resume; without a checkpoint start from scratch.
        restored = run.checkpoints.restore_newest(run.abstract_state())
        if restored and not allow_config_change:
            _refuse_other_data(restored, input_state)
        if restored and restored.step > run.durations.total:
            raise ConfigError(
                f"Checkpoint {restored.step} of {run.workdir} is beyond the {run.durations.total} steps of this config."
                " Let it train for longer, or choose another --workdir."
            )
        if rewinds is None:
            rewinds = rewind.of_history(restored.history) if restored else ()
        else:
            rewinds = (*rewinds, Rewind.of_config(config, bad_step, restored.step if restored else 0))
            notice += f" Rewind {len(rewinds)} of {config.train.rewinds}: {rewinds[-1]}."
        try:
            return attempt(restored, rewinds, notice)
        except NotFiniteError as error:
            if len(rewinds) >= config.train.rewinds:
                raise
            notice, bad_step = error.found, error.step


def _refuse_other_data(restored: Restored, input_state: dict[str, Any]) -> None:
    """Raises `CheckpointError` when a checkpoint's next batch would not be the one that it means."""
    next_batch = rewind.next_batch(restored.step, rewind.of_history(restored.history))
    expected = input_state | {"next_batch": next_batch}
    if restored.input_state != expected:
        raise CheckpointError(
            f"The training data differ from those of checkpoint {restored.step}: it has {restored.input_state}, now "
            f"{expected}. Restore the data, or go on by --allow_config_change."
        )

"""The loop, one for all tasks: restore, step, log, evaluate, save, stop.

A dispatch runs one step or, for networks so small that Python would dominate, up to `config.train.steps_per_dispatch`
of them. Dispatches end at multiples of that number and wherever something is due, counted from step 0, so that a
resumed run makes the same ones. The number of steps is an argument of the compiled program: it is compiled once.

Metrics are summed on the device and fetched at log steps, after the next dispatch has been sent off. What a run
computes is a function of the config alone: batches of their number, randomness of the step, and the sums are in the
checkpoint.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax import config as config_lib
from vision_jax import evaluate, memory, parallel, progress, writers
from vision_jax import run as run_lib
from vision_jax.checkpoints import CheckpointError
from vision_jax.data import pipeline
from vision_jax.monitor import Monitor, Profiler, Running, Termination
from vision_jax.run import Run
from vision_jax.tasks.base import Durations, Task, TrainState

STOPPED = 75  # Exit status after a signal: saved but not finished (EX_TEMPFAIL of sysexits.h).
Carry = tuple[TrainState, Running]


class Steps:
    """The task's training step, traced once, which takes seconds: for the shapes of its metrics and for the program.

    JAX finds the trace again because both apply it to arrays on the run's mesh, which is part of their types.
    `key` is the base key; step `s` gets `fold_in(key, s)`.
    """

    def __init__(self, task: Task, key: jax.Array):
        self.key = key
        self.step = jax.jit(task.train_step, inline=True)

    def running_shapes(self, state: TrainState, data: pipeline.Batch, batch: pipeline.Batch) -> Running:
        """Returns the shapes of the sums of the metrics of a step."""
        metrics = jax.eval_shape(lambda s, d, b: self.step(s, pipeline.gather(d, b), self.key)[1], state, data, batch)
        integer = jax.ShapeDtypeStruct((), jnp.int32)
        return Running(metrics, {name: integer for name in metrics}, integer)

    def program(self, *, several: bool) -> jax.stages.Wrapped:
        """Returns the program `(state, running, data, batches, count) -> (state, running)`, to be compiled.

        It donates the first two. With `several`, `batches` has a leading axis, of which the first `count` (int32, on
        the device) are run.
        """

        def one(carry: Carry, data: pipeline.Batch, batch: pipeline.Batch) -> Carry:
            state, running = carry
            state, metrics = self.step(state, pipeline.gather(data, batch), jax.random.fold_in(self.key, state.step))
            state = state.replace(step=state.step + 1)
            return state, running.add(metrics, state.step)

        def steps(
            state: TrainState, running: Running, data: pipeline.Batch, batches: pipeline.Batch, count: jax.Array
        ) -> Carry:
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
    """Sends steps to the device: pulls batches, stacks them where several make a dispatch, and runs the program.

    The first dispatch compiles the program; one that does not fit it raises TypeError or ValueError.
    """

    def __init__(self, run: Run, loader: pipeline.Loader, start: int):
        self.run, self.data = run, loader.data
        self.per_dispatch = run.config.train.steps_per_dispatch
        self.batches: Iterator[pipeline.Batch] = loader.train(run.config.data.batch_size, run.config.seed, start)
        self.steps = Steps(run.task, run.key)
        self.program: Callable[..., Carry] | None = None
        self.counts = [parallel.put_replicated(np.int32(n), run.mesh) for n in range(self.per_dispatch + 1)]

    def running_shapes(self, state: TrainState) -> Running:
        """Returns the shapes of the sums of the metrics of a step, and empties JAX's caches before it traces it."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        memory.release_memory()  # Of initialisation, which is over, 250 MB are kept for DenseNet-161.
        return self.steps.running_shapes(state, self.data, parallel.put_split(first, self.run.mesh))

    def put(self, batches: list[pipeline.Batch]) -> pipeline.Batch:
        """Puts host batches on the devices, stacked and filled up to a whole dispatch where that is several steps."""
        if self.per_dispatch == 1:
            return parallel.put_split(batches[0], self.run.mesh)
        filled = batches + batches[-1:] * (self.per_dispatch - len(batches))
        return parallel.put_split(jax.tree.map(lambda *rows: np.stack(rows), *filled), self.run.mesh, axis=1)

    def send(self, carry: Carry, batches: pipeline.Batch, count: int) -> Carry:
        """Sends off `count` steps of batches from `put`."""
        arguments = *carry, self.data, batches, self.counts[count]
        if self.program is None:
            self.program = self.steps.program(several=self.per_dispatch > 1).lower(*arguments).compile()
            memory.release_memory()  # Of the traces.
            memory.check(self.program, self.run.mesh.local_devices)
        return self.program(*arguments)

    def __call__(self, carry: Carry, count: int) -> Carry:
        """Sends off the next `count` steps."""
        return self.send(carry, self.put(list(itertools.islice(self.batches, count))), count)


def train(run: Run, *, allow_config_change: bool = False) -> dict[str, Any]:
    """Trains to the end, or continues a run that was stopped, and returns the final results (see `evaluate.final`).

    Once the step is compiled, JAX's caches are emptied: what else the process has compiled is compiled again when used.

    Raises:
        CheckpointError: the run's checkpoints do not fit the config.
        NotFiniteError: a metric became NaN or infinite.
    """
    config, task, durations, mesh = run.config, run.task, run.durations, run.mesh
    run_lib.refuse_other_config(run, allow=allow_config_change)
    loader = run.loader("train")
    input_state = {"examples": len(loader.source), "batch_size": config.data.batch_size, "seed": config.seed}

    # Always resume; without a checkpoint start from scratch.
    restored = run.checkpoints.restore_newest(run.abstract_state())
    if restored is not None:
        state, step, history = restored.state, restored.step, restored.history
        running = Running.from_json(history["running"], mesh)
        expected = input_state | {"next_batch": step}
        if restored.input_state != expected and not allow_config_change:
            raise CheckpointError(
                f"The training data differ from those of checkpoint {step}: it has {restored.input_state}, now "
                f"{expected}. Restore the data, or go on by --allow_config_change."
            )
    else:
        state, running = run.initial_state(), None
        step, history = 0, {"evaluations": [], "seconds": 0.0}
    run_lib.describe(run)

    loader = task.loader(state, loader)
    dispatches = Dispatches(run, loader, start=step)
    shapes = dispatches.running_shapes(state)
    running = running or run_lib.zeros(shapes, mesh)
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
                shown.message(f"Stopped by a signal after step {step}; the same command continues from there.")
                raise SystemExit(STOPPED)
        run.checkpoints.wait()
    return evaluate.final(run, run.checkpoints.best(), evaluator)

"""What the loop costs beside the steps, on the smallest network.

    python -m tests.benchmarks.loop [--config configs/digits_cnn.py] [--steps 1500] [--rounds 9]

`train.train` as `vision_jax.main` calls it, with its input, `metrics.jsonl` and progress but without TensorBoard, and
without evaluations and checkpoints before the end: the processor time of its thread, which sends steps off while the
device works, and the time by the clock, both per step, from the first log step, before which all is compiled, to the
last. In turn with it, the loop's program on batches that lie on the device, nothing else. Medians over the rounds.
Where other work shares the machine the two times by the clock cannot be told apart; the processor time hardly changes.
"""

import argparse
import pathlib
import runpy
import statistics
import tempfile
import time
from unittest import mock

import jax

from vision_jax import allocator, memory, parallel, run, train


def build(options: argparse.Namespace, workdir: pathlib.Path) -> run.Run:
    """The config's run, evaluated and saved only when it ends."""
    config = runpy.run_path(options.config)["get_config"]()
    config.train.epochs, config.train.steps = 0.0, options.steps
    config.eval.every_epochs, config.eval.every_steps = 0.0, options.steps
    config.log.tensorboard = False
    return run.build(config, workdir)


class Watched(train.Dispatches):
    """Notes the processor time of the loop's thread and the clock's at each dispatch."""

    readings: list[tuple[int, float, float]]

    def __call__(self, carry: train.Carry, count: int) -> train.Carry:
        """As the loop's."""
        sent = super().__call__(carry, count)
        self.readings.append((count, time.thread_time(), time.perf_counter()))
        return sent


def in_the_loop(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds per step in a run: its thread's processor time, and the clock's."""
    Watched.readings = []
    with (
        mock.patch.object(train, "Dispatches", Watched),
        tempfile.TemporaryDirectory() as folder,
        build(options, pathlib.Path(folder)) as built,
    ):
        train.train(built)
        compiled = -(-built.durations.log // built.config.train.steps_per_dispatch)
    (_, thread, clock), *readings = Watched.readings[compiled:]
    steps = sum(count for count, *_ in readings)
    return (readings[-1][1] - thread) / steps, (readings[-1][2] - clock) / steps


def alone(options: argparse.Namespace) -> float:
    """Seconds per step of its program, sent off again and again."""
    with tempfile.TemporaryDirectory() as folder, build(options, pathlib.Path(folder)) as built:
        state = built.initial_state()
        dispatches = train.Dispatches(built, {}, built.task.loader(state, built.loader("train")), start=0)
        carry = (state, parallel.zeros(dispatches.sums_shapes(state), built.mesh))
        count, dispatched = dispatches.per_dispatch, built.durations.log // dispatches.per_dispatch
        batches = dispatches.put([next(dispatches.batches) for _ in range(count)])
        seconds = []
        for _ in range(options.steps // (dispatched * count)):
            began = time.perf_counter()
            for _ in range(dispatched):
                carry = dispatches.send(carry, batches, count)
            jax.block_until_ready(carry)
            seconds.append((time.perf_counter() - began) / (dispatched * count))
    return statistics.median(seconds[1:])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_cnn.py")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    allocator.start("tests.benchmarks.loop")  # As `vision_jax.main` does.
    memory.keep_freed_memory()
    loop, program = [], []
    for _ in range(options.rounds):
        loop.append(in_the_loop(options))
        program.append(alone(options))
    thread, clock = (statistics.median(times) for times in zip(*loop, strict=True))
    step = statistics.median(program)
    print(
        f"{options.config}: the loop's thread works {thread * 1e3:.2f} ms per step, {thread / step:.1%} of the "
        f"program's {step * 1e3:.2f} ms; by the clock a step takes {clock * 1e3:.2f} ms in the loop"
    )


if __name__ == "__main__":
    main()

"""What the loop costs beside the steps: a run's seconds per step against its compiled program alone.

    python -m tests.benchmarks.loop [--config configs/digits_cnn.py] [--steps 3000] [--rounds 5]

In turn, in one process: `train.train` as `vision_jax.main` calls it, with its input, logs and progress but without
evaluations and checkpoints before the end; and the loop's program on batches that lie on the device, nothing else. Of
the loop, the rates of its own `timings.jsonl` count, without the first interval, which compiles, and the last, which is
short. Median and lower quartile of the intervals of all rounds.
"""

import argparse
import json
import pathlib
import runpy
import statistics
import tempfile
import time

import jax

from vision_jax import memory, run, train, writers


def build(options: argparse.Namespace, workdir: pathlib.Path) -> run.Run:
    """The config's run, evaluated and saved only when it ends."""
    config = runpy.run_path(options.config)["get_config"]()
    config.train.epochs, config.train.steps = 0.0, options.steps
    config.eval.every_epochs, config.eval.every_steps = 0.0, options.steps
    config.log.tensorboard = False
    return run.build(config, workdir)


def in_the_loop(options: argparse.Namespace) -> list[float]:
    """Seconds per step in each interval between two log steps of a run."""
    with tempfile.TemporaryDirectory() as folder, build(options, pathlib.Path(folder)) as built:
        train.train(built)
        rows = [json.loads(line) for line in (built.workdir / writers.TIMINGS).read_text().splitlines()]
    return [1.0 / row["steps_per_second"] for row in rows[1:-1]]


def alone(options: argparse.Namespace) -> list[float]:
    """Seconds per step of its program, sent off again and again, in intervals of as many steps."""
    with tempfile.TemporaryDirectory() as folder, build(options, pathlib.Path(folder)) as built:
        state = built.initial_state()
        dispatches = train.Dispatches(built, built.task.loader(state, built.loader("train")), start=0)
        carry = (state, run.zeros(dispatches.running_shapes(state), built.mesh))
        count, dispatched = dispatches.per_dispatch, built.durations.log // dispatches.per_dispatch
        batches = dispatches.put([next(dispatches.batches) for _ in range(count)])
        seconds = []
        for _ in range(options.steps // (dispatched * count)):
            began = time.perf_counter()
            for _ in range(dispatched):
                carry = dispatches.send(carry, batches, count)
            jax.block_until_ready(carry)
            seconds.append((time.perf_counter() - began) / (dispatched * count))
    return seconds[1:]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits_cnn.py")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    memory.keep_freed()
    loop, program = [], []
    for _ in range(options.rounds):
        loop += in_the_loop(options)
        program += alone(options)
    for name, of in (("median", statistics.median), ("lower quartile", lambda x: statistics.quantiles(x, n=4)[0])):
        whole, step = of(loop), of(program)
        print(
            f"{options.config}: {name} of {len(loop)} and {len(program)} intervals: {whole * 1e3:.3f} ms per step in "
            f"the loop, {step * 1e3:.3f} ms of the program alone; the loop's own time is {whole / step - 1.0:+.1%}"
        )


if __name__ == "__main__":
    main()

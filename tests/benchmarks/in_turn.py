"""Sides of a comparison with PyTorch, each in a process of its own, that work in turn on the same input."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

OURS, *THEIRS = "ours", "torch contiguous", "torch channels-last"


def main(
    module: str,
    description: str | None,
    unit: str,
    load: Callable[[str, argparse.Namespace], tuple[Callable[[], np.ndarray], float]],
    agree: Callable[[np.ndarray, np.ndarray], None],
    **options: tuple[int | float, str],
) -> None:
    """Is the command of a benchmark: measures, and prints its table.

    Args:
        module: what `python -m` starts.
        description: of the command.
        unit: of what a side does per second.
        load: side and options -> what does the work once and returns the result, and how many units that is.
        agree: raises unless our result and another side's are the same.
        options: of the command, each with its default and its help; also 'burst', the seconds that a side works for.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, text) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(*load(given.serve, given))
        return
    shared = [f"--{name}={getattr(given, name)}" for name in options]
    found = _compare({side: ["-m", module, *shared, f"--serve={side}"] for side in (OURS, *THEIRS)}, agree, given)
    for side, samples in found["samples"].items():
        middle = statistics.median(samples)
        print(f"{side:20} {middle:8.2f} {unit}   spread {(max(samples) - min(samples)) / middle:.0%}")
    print(f"ours to {found['best']}: {found['ratio']:.2f} ×; {' '.join(shared)}, {given.rounds} rounds")
    if given.json:
        facts = {"machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
        pathlib.Path(given.json).write_text(json.dumps({**facts, **vars(given), **found}, indent=2) + "\n")


def _serve(run: Callable[[], np.ndarray], units: float) -> None:
    """Writes what `run` returns, then answers lines, the seconds of a burst, with units per second."""
    print(json.dumps(run().astype(np.float64).tolist()), flush=True)
    for line in sys.stdin:
        began, runs = time.perf_counter(), 0
        while not runs or time.perf_counter() - began < float(line):
            run()
            runs += 1
        print(units * runs / (time.perf_counter() - began), flush=True)


def _compare(
    commands: dict[str, list[str]], agree: Callable[[np.ndarray, np.ndarray], None], given: argparse.Namespace
) -> dict[str, Any]:
    """Returns units per second of each side in each round, the best side of PyTorch, and the rounds' median ratio."""
    sides = {side: _Side(arguments) for side, arguments in commands.items()}
    for side in THEIRS:
        agree(sides[OURS].result, sides[side].result)
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(given.rounds):
        for side, process in sides.items():
            samples[side].append(process.burst(given.burst))
    for process in sides.values():
        process.close()
    best = max(THEIRS, key=lambda side: statistics.median(samples[side]))
    ratio = statistics.median(a / b for a, b in zip(samples[OURS], samples[best], strict=True))
    return {"samples": samples, "best": best, "ratio": ratio}


class _Side:
    """The process of one side."""

    def __init__(self, arguments: Sequence[str]):
        command = [sys.executable, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.result = np.array(json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} has ended with {self._process.wait()}.")
        return line

    def burst(self, seconds: float) -> float:
        """Returns the amount per second over at least `seconds`."""
        print(seconds, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

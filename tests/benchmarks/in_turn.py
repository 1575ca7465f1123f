"""Sides of a comparison, each in a process of its own, that work in turn on the same input."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def serve(run: Callable[[], np.ndarray], amount: float) -> None:
    """Writes what `run` returns, then answers lines, the seconds of a burst, with `amount` times runs per second."""
    print(json.dumps(run().astype(np.float64).tolist()), flush=True)
    for line in sys.stdin:
        began, runs = time.perf_counter(), 0
        while not runs or time.perf_counter() - began < float(line):
            run()
            runs += 1
        print(amount * runs / (time.perf_counter() - began), flush=True)


def compare(
    commands: Mapping[str, Sequence[str]], agree: Callable[[np.ndarray, np.ndarray], None], rounds: int, burst: float
) -> dict[str, Any]:
    """Lets all sides work in turn, a burst each, and compares the first with the fastest of the others.

    Args:
        commands: side -> arguments of a Python process that calls `serve`.
        agree: raises unless the first side's result and another's are the same.
        rounds: of bursts.
        burst: seconds at least.

    Returns:
        'samples' (side -> amounts per second, a round each), 'best' (of the others) and 'ratio', the median of the
        rounds' ratios, which are neighbors in time.
    """
    sides = {side: _Side(arguments) for side, arguments in commands.items()}
    ours, *others = sides
    for other in others:
        agree(sides[ours].result, sides[other].result)
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, process in sides.items():
            samples[side].append(process.burst(burst))
    for process in sides.values():
        process.close()
    best = max(others, key=lambda side: statistics.median(samples[side]))
    ratio = statistics.median(a / b for a, b in zip(samples[ours], samples[best], strict=True))
    return {"samples": samples, "best": best, "ratio": ratio}


def show(found: Mapping[str, Any], unit: str) -> None:
    """Prints what `compare` found."""
    for side, samples in found["samples"].items():
        middle = statistics.median(samples)
        print(f"{side:20} {middle:8.1f} {unit}   spread {(max(samples) - min(samples)) / middle:.0%}")
    print(f"ours to {found['best']}: {found['ratio']:.2f} ×", flush=True)


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

"""What a person sees of a run: a bar on a terminal, plain lines elsewhere, and a short table at the end."""

import os
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Self

import jax
from tqdm import tqdm

_FIRST = ("accuracy", "psnr", "fid", "fd_", "frechet", "loss")  # What metrics that matter begin with.


class Progress:
    """Shows step, rate, time left and current metrics on stderr; shows nothing in any process but the first.

    On a terminal this is one bar, above which each evaluation leaves a line, folded to the width. Elsewhere (a file, a
    pipe, a cluster's log, a terminal that knows no size, as some containers have) it is one line per row of metrics.
    The rate is that over the last eight lines, the time left follows from all since the first update: both include what
    happens between steps, like evaluation, and neither includes the compilation before the first update.
    """

    def __init__(self, total_steps: int, initial_step: int = 0, *, unit_examples: int = 0, unit: str = "step"):
        """Starts at `initial_step` of `total_steps`; with `unit_examples` per step, examples/s are shown as well."""
        self._total, self._examples, self._unit = total_steps, unit_examples, unit
        self._first: tuple[int, float] | None = None  # step and time of the first update
        self._recent: deque[tuple[int, float]] = deque(maxlen=8)  # the same of the last lines
        self._silent = jax.process_index() != 0
        self._bar: tqdm | None = None
        if not self._silent and sys.stderr.isatty() and all(os.get_terminal_size(sys.stderr.fileno())):
            self._bar = tqdm(total=total_steps, initial=initial_step, unit=unit, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Says that `step` steps are done and, with `metrics`, what they gave."""
        if self._silent:
            return
        if self._bar is not None:
            if metrics is not None and all(name.startswith("train/") for name in metrics):
                self._bar.set_postfix_str(_numbers(metrics), refresh=False)
            elif metrics is not None:  # An evaluation, which a narrow bar would cut off, stays as a line.
                parts = [f"{self._unit} {step}/{self._total}", *_parts(metrics)]
                self.message(_folded(parts, os.get_terminal_size(sys.stderr.fileno()).columns))
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
            self._recent.append(self._first)
        if metrics is not None:
            print(self._line(step, now, metrics), file=sys.stderr, flush=True)
            self._recent.append((step, now))

    def message(self, text: str) -> None:
        """Prints a line without tearing the bar."""
        if not self._silent:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        """Leaves the bar as it stands; what is printed next starts on a new line."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, step: int, now: float, metrics: Mapping[str, float]) -> str:
        assert self._first is not None
        parts = [f"{self._unit} {step}/{self._total} ({step / max(self._total, 1):.0%})"]
        since, then = self._recent[0]
        if step > since:
            rate = (step - since) / max(now - then, 1e-9)
            parts.append(f"{rate:.3g} {self._unit}s/s" if rate < 100 else f"{rate:.0f} {self._unit}s/s")
            if self._examples:
                parts.append(f"{rate * self._examples:,.0f} examples/s")
        if step > self._first[0]:
            seconds = (now - self._first[1]) / (step - self._first[0]) * (self._total - step)
            parts.append(f"ETA {tqdm.format_interval(seconds)}")
        return "  ".join([*parts, _numbers(metrics)])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table to stdout (first process only), columns of numbers aligned to the right, floats to 5 digits."""
    if jax.process_index() != 0:
        return
    cells = [[f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        aligned = (c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric, strict=True))
        return "  ".join(aligned).rstrip()

    print("\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, cells)]))


def _folded(parts: Sequence[str], columns: int) -> str:
    """Returns texts in lines of at most so many columns, broken between them; later lines are indented."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 2 + len(part) <= columns:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


def _numbers(metrics: Mapping[str, float]) -> str:
    """Returns the metrics in a line, those that matter first: on a narrow terminal the end is cut off."""
    return "  ".join(_parts(metrics))


def _parts(metrics: Mapping[str, float]) -> list[str]:
    """Returns each metric with its name, those that matter first."""

    def place(name: str) -> int:
        metric = name.rpartition("/")[2]
        return next((i for i, start in enumerate(_FIRST) if metric.startswith(start)), len(_FIRST))

    ordered = sorted(metrics, key=lambda name: (place(name), not name.endswith("loss")))
    return [f"{name} {metrics[name]:.4g}" for name in ordered]

"""Rows of numbers in a file of JSON lines: exact, strict, and whole lines even after a kill."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from vision_jax.utils import files

Row = dict[str, Any]


class JsonLines:
    """A file of rows `{"step": …, name: number, …}`, one strict JSON object per line, safe against being killed.

    Numbers are written so that they read back exactly; NaN and infinities as the strings 'nan', 'inf' and '-inf'.

    Attributes:
        kept: the rows of an earlier run that stayed in the file.
    """

    def __init__(self, path: pathlib.Path, resume_step: int | None):
        """Opens the file and takes back what comes after `resume_step` (None: everything)."""
        self.kept = _take_back(path, resume_step)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one row with a single write, so that a kill leaves whole lines."""
        if "step" in values:
            raise ValueError("A metric cannot be named 'step': that is the key of the row's step.")
        row = {"step": int(step)} | {name: _encode(value) for name, value in values.items()}
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        while line:  # a signal or a full disk may cut a write short; the latter then raises
            line = line[os.write(self._file, line) :]

    def flush(self) -> None:
        """Waits until the rows are on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Flushes and closes the file."""
        os.fsync(self._file)
        os.close(self._file)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Returns the rows of a `metrics.jsonl`, NaN and infinities as floats; a torn last line is left out."""
    return [row for _, row in _parse(pathlib.Path(path))]


def _parse(path: pathlib.Path) -> list[tuple[bytes, Row]]:
    """Returns the whole, readable lines of a file of rows, each with its row."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    rows = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn by a kill
        try:
            row = {name: float(v) if isinstance(v, str) else v for name, v in json.loads(line).items()}
            rows.append((line, row | {"step": int(row["step"])}))
        except (ValueError, KeyError, AttributeError):
            logging.warning("%s: line %d is not a row of metrics and is left out.", path, number)
    return rows


def _take_back(path: pathlib.Path, resume_step: int | None) -> list[Row]:
    """Removes torn lines and rows after `resume_step` (None: all) from the file; returns the rows that stay."""
    kept = [] if resume_step is None else [(line, row) for line, row in _parse(path) if row["step"] <= resume_step]
    content = b"".join(line + b"\n" for line, _ in kept)
    if path.exists() and path.read_bytes() != content:
        with files.atomic_write(path) as file:
            file.write(content)
    return [row for _, row in kept]


def _encode(value: float) -> float | str:
    """Returns a number as JSON can hold it."""
    return value if math.isfinite(value) else str(float(value))

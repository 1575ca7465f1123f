"""Where the numbers and pictures of a run go: `metrics.jsonl` and `pictures/`, TensorBoard, and Weights & Biases.

`metrics.jsonl` and `pictures/` are the record of truth, written before a call returns. TensorBoard and W&B are views of
it. What a task keeps step by step (the losses of a GAN) goes to `steps.jsonl`. Nothing but this package imports their
writers, and it only when a run is opened that writes there.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import jax
import numpy as np

from vision_jax import config as config_lib
from vision_jax.writers.pictures import MOST, Pictures
from vision_jax.writers.rows import JsonLines, read_rows
from vision_jax.writers.tensorboard import TensorBoard
from vision_jax.writers.weights_and_biases import WeightsAndBiases

__all__ = ["EVENTS", "METRICS", "PICTURES", "STEPS", "TIMINGS", "Writer", "open_writers", "read_rows"]

METRICS = "metrics.jsonl"
STEPS = "steps.jsonl"
TIMINGS = "timings.jsonl"
PICTURES = "pictures"
EVENTS = "tensorboard"


def open_writers(
    workdir: str | os.PathLike[str], config: Any, *, resume_step: int | None, keeps_course: bool = False
) -> "Writer":
    """Opens everything a run writes its numbers and pictures to; use it as a context manager.

    Args:
        workdir: folder of the run; made when it is missing.
        config: the run's config, of which `log.tensorboard`, `wandb.project` and `wandb.name` are read.
        resume_step: step of the restored checkpoint: what was written for later steps is taken back, because the run
            will write it again. None starts afresh: everything written before is removed.
        keeps_course: whether `write_course` will be called.

    Returns:
        A `Writer`; one that writes nothing in every process but the first.
    """
    if jax.process_index() != 0:
        return Writer([], [], [], [])
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    metrics, timings = (JsonLines(workdir / name, resume_step) for name in (METRICS, TIMINGS))
    course = [JsonLines(workdir / STEPS, resume_step)] if keeps_course else []
    views: list[Any] = []
    if config.log.tensorboard:
        views.append(TensorBoard(workdir / EVENTS, resume_step, metrics.kept + timings.kept, workdir / PICTURES))
    if config.wandb.project:
        views.append(WeightsAndBiases(workdir, config, resumed=resume_step is not None))
    return Writer([metrics], [timings], course, views, [Pictures(workdir / PICTURES, resume_step)])


class Writer:
    """Fans one call out to all the places a run writes to."""

    def __init__(
        self,
        metrics: Iterable[JsonLines],
        timings: Iterable[JsonLines],
        course: Iterable[JsonLines],
        views: Iterable[Any],
        pictures: Iterable[Pictures] = (),
    ):
        self._metrics, self._timings, self._course = tuple(metrics), tuple(timings), tuple(course)
        self._views, self._pictures = tuple(views), tuple(pictures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one row of what the run computed, names like 'train/loss'; equal runs write equal rows."""
        self._write(self._metrics, step, scalars)

    def write_timings(self, step: int, timings: Mapping[str, float]) -> None:
        """Writes one row of what differs between equal runs, like steps per second; kept out of `metrics.jsonl`."""
        self._write(self._timings, step, timings)

    def write_course(self, step: int, count: int, course: Mapping[str, np.ndarray]) -> None:
        """Writes the first `count` values of each array, those of the steps up to `step`, a row per step.

        What a run has written of them before it was stopped within the interval is not written again.
        """
        for sink in self._course if course else ():
            known = sink.kept[-1]["step"] if sink.kept else 0
            for number in range(count):
                row = {name: float(values[number]) for name, values in course.items()}
                if (at := step - count + number + 1) > known:
                    sink.write(at, row)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes the first 64 of images uint8 [N, H, W, C], C = 1 or 3: to `pictures/` as a grid, and to the views."""
        images = {name: batch[:MOST] for name, batch in _checked(images).items()}
        for view in (*self._pictures, *self._views):
            view.write_images(step, images)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the run's options, nested mappings welcome; TensorBoard keeps those of the first start."""
        flat = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in config_lib.flatten(hparams).items()
        }
        for view in self._views:
            view.write_hparams(flat)

    def write_final(
        self, step: int, metrics: Mapping[str, float], images: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Writes the final evaluation of the checkpoint of `step` to the views, as often as a finished run is started.

        `metrics.jsonl` stays the record of training. TensorBoard shows the metrics at `step`, where those that training
        wrote there stay as they are; W&B shows them in the run's summary. Images are those of `write_images`.
        """
        metrics, images = _plain(metrics), _checked(images or {})
        for view in self._views:
            view.write_final(step, metrics, images)

    def flush(self) -> None:
        """Brings all rows to the disk. Call it before a checkpoint is saved, which then never is ahead of its rows."""
        for sink in (*self._metrics, *self._timings, *self._course, *self._views):
            sink.flush()

    def close(self) -> None:
        """Flushes and closes everything; waits for the import of TensorBoard's writer if that is still under way."""
        with contextlib.ExitStack() as stack:  # close all, also when one of them raises
            for sink in (*self._metrics, *self._timings, *self._course, *self._views):
                stack.callback(sink.close)

    def _write(self, files: Iterable[JsonLines], step: int, values: Mapping[str, Any]) -> None:
        row = _plain(values)
        for sink in files:
            sink.write(step, row)
        for view in self._views:
            view.write_scalars(step, row)


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers as Python's."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def _checked(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns copies, because views write them later."""
    for name, batch in images.items():
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[-1] not in (1, 3):
            raise ValueError(
                f"Images {name!r} are {batch.dtype}{list(batch.shape)}, expected uint8[N, H, W, C] with C = 1 or 3."
            )
    return {name: np.array(batch) for name, batch in images.items()}

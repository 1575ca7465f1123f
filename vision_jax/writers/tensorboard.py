"""TensorBoard, written by a thread: through CLU where TensorFlow can be imported, through tensorboardX elsewhere."""

import os
import pathlib
import queue
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from vision_jax.writers import event_files, pictures
from vision_jax.writers.rows import Row


class TensorBoard:
    """The event files of a run, written by a thread that first imports their writer (seconds of CPU).

    Nothing waits for that thread but `close`. A killed run may therefore leave fewer events than rows in
    `metrics.jsonl` and grids in `pictures/`, or more than the restored checkpoint knows: on resume the files are made
    to agree with `rows` and with the grids below `grids`.
    """

    def __init__(self, folder: pathlib.Path, resume_step: int | None, rows: list[Row], grids: pathlib.Path):
        """Starts the thread, which first takes back what comes after `resume_step` (None: everything)."""
        # Before the import: TensorFlow's lines about its own start would tear the run's progress bar. JAX, which set
        # the level to "1" for itself, has read it by now. No arithmetic of the run is TensorFlow's, so it may do
        # without oneDNN, whose one line comes at every level.
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(folder, resume_step, rows, grids), name="tensorboard", daemon=True
        )
        self._thread.start()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers."""
        self._call("scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes batches of images that are not there yet."""
        self._call("images", step, images)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the run's options, once in its life."""
        self._call("hparams", hparams)

    def write_final(self, step: int, metrics: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Writes what is not there yet, as is what the evaluation of `step` during training gave."""
        self._call("final", step, metrics)
        self._call("images", step, images)

    def flush(self) -> None:
        """Has all events brought to the disk soon."""
        self._call("flush")

    def close(self) -> None:
        """Waits until everything is written."""
        self._calls.put(None)
        self._thread.join()

    def _call(self, name: str, *arguments: Any) -> None:
        if self._thread.is_alive():  # it ends early where writing fails
            self._calls.put((name, arguments))

    def _run(self, folder: pathlib.Path, resume_step: int | None, rows: list[Row], grids: pathlib.Path) -> None:
        try:
            events = _Events(folder, resume_step, rows, grids)
            while (call := self._calls.get()) is not None:
                name, arguments = call
                getattr(events, name)(*arguments)
            events.writer.close()
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logging.error(
                "Writing TensorBoard files to %s failed (%s); no more are written in this run.", folder, reason
            )
            logging.debug("It was:", exc_info=True)


class _Events:
    """A writer of events and what it has written so far: the methods are the calls that wait in the queue."""

    def __init__(self, folder: pathlib.Path, resume_step: int | None, rows: list[Row], grids: pathlib.Path):
        self.present = event_files.take_back(folder, resume_step, rows)
        self.writer = _summary_writer(folder)
        for row in rows:
            self.final(row["step"], {name: value for name, value in row.items() if name != "step"})
        if resume_step is not None:
            for name, paths in pictures.written(grids).items():
                for step, path in paths.items():
                    if step <= resume_step and (name, step) not in self.present:
                        self.images(step, {name: pictures.read(path)})
        self.flush = self.writer.flush

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        with np.errstate(over="ignore"):  # A number beyond float32 is infinite in TensorBoard.
            self.writer.write_scalars(step, {name: np.float32(value) for name, value in scalars.items()})
        self.present.update((name, step) for name in scalars)

    def final(self, step: int, scalars: Mapping[str, float]) -> None:
        self.scalars(step, self._new(step, scalars))

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        new = self._new(step, images)
        self.writer.write_images(step, new)
        self.present.update((name, step) for name in new)

    def hparams(self, hparams: Mapping[str, Any]) -> None:
        if self._new(0, {event_files.HPARAMS: None}):
            self.writer.write_hparams(hparams)
            self.present.add((event_files.HPARAMS, 0))

    def _new(self, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if (name, step) not in self.present}


def _summary_writer(folder: pathlib.Path) -> Any:
    """Returns the writer of a new event file in `folder`."""
    try:
        import tensorflow as tf
        from clu.metric_writers import SummaryWriter

        for kind in ("GPU", "TPU"):  # TensorFlow would take the accelerator's memory from JAX
            tf.config.set_visible_devices([], kind)
    except Exception as error:  # whatever an installation that does not fit raises: nothing depends on it
        logging.info("TensorBoard files are written without TensorFlow (%s: %s).", type(error).__name__, error)
        return event_files.SummaryWriter(str(folder))
    return SummaryWriter(str(folder))

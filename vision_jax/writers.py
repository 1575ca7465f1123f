"""Where the numbers of a run go: `metrics.jsonl` (the record), TensorBoard through CLU, and Weights & Biases.

`metrics.jsonl` is the record of truth, written before a call returns. TensorBoard and W&B are views of it. This is the
only module that imports CLU's writers, and with them TensorFlow: in a thread, so that a run does not wait for it.
"""

import contextlib
import importlib.util
import json
import math
import os
import pathlib
import queue
import secrets
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Self

import jax
import numpy as np
from absl import logging

METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
EVENTS = "tensorboard"
_WANDB_ID = "wandb_id.txt"

_HPARAMS = "_hparams_/session_start_info"  # tag under which CLU writes them

Row = dict[str, Any]


def open_writers(workdir: str | os.PathLike[str], config: Any, *, resume_step: int | None) -> "Writer":
    """Opens everything a run writes its numbers to; use it as a context manager.

    Args:
        workdir: folder of the run; made when it is missing.
        config: the run's config, of which `wandb.project` and `wandb.name` are read; it is also shown in W&B.
        resume_step: step of the restored checkpoint: what was written for later steps is taken back, because the run
            will write it again. None starts afresh: everything written before is removed.

    Returns:
        A `Writer`; one that writes nothing in every process but the first.
    """
    if jax.process_index() != 0:
        return Writer([], [], [])
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    metrics, timings = (JsonLines(workdir / name, resume_step) for name in (METRICS, TIMINGS))
    views: list[Any] = []
    if config.log.tensorboard:
        if missing := [name for name in ("tensorflow", "tensorboard") if importlib.util.find_spec(name) is None]:
            _warn_no_tensorboard(f"{' and '.join(missing)} cannot be imported")
        else:
            views.append(_TensorBoard(workdir / EVENTS, resume_step, metrics.kept + timings.kept))
    if config.wandb.project:
        views.append(_WeightsAndBiases(workdir, config, resumed=resume_step is not None))
    return Writer([metrics], [timings], views)


class Writer:
    """Fans one call out to all the places a run writes to."""

    def __init__(self, metrics: Iterable["JsonLines"], timings: Iterable["JsonLines"], views: Iterable[Any]):
        self._metrics, self._timings, self._views = tuple(metrics), tuple(timings), tuple(views)

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

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images uint8 [N, H, W, C], C = 1 or 3, to the views; no file of images is kept here."""
        for name, batch in images.items():
            if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[-1] not in (1, 3):
                raise ValueError(
                    f"Images {name!r} are {batch.dtype}{list(batch.shape)}, expected uint8[N, H, W, C] with C = 1 or 3."
                )
        for view in self._views:
            view.write_images(step, {name: np.array(batch) for name, batch in images.items()})

    def write_final(self, step: int, metrics: Mapping[str, float]) -> None:
        """Placeholder."""
        for view in self._views:
            view.write_scalars(step, metrics)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the run's options, nested mappings welcome; TensorBoard keeps those of the first start."""
        flat = dict(_flatten(hparams))
        for view in self._views:
            view.write_hparams(flat)

    def flush(self) -> None:
        """Brings all rows to the disk. Call it before a checkpoint is saved, which then never is ahead of its rows."""
        for sink in (*self._metrics, *self._timings, *self._views):
            sink.flush()

    def close(self) -> None:
        """Flushes and closes everything; waits for TensorFlow's import if that is still under way."""
        with contextlib.ExitStack() as stack:  # close all, also when one of them raises
            for sink in (*self._metrics, *self._timings, *self._views):
                stack.callback(sink.close)

    def _write(self, files: Iterable["JsonLines"], step: int, values: Mapping[str, Any]) -> None:
        row = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
        for sink in files:
            sink.write(step, row)
        for view in self._views:
            view.write_scalars(step, row)


class JsonLines:
    """A file of rows `{"step": …, name: number, …}`, one strict JSON object per line, safe against being killed.

    Numbers are written so that they read back exactly; NaN and infinities as the strings 'nan', 'inf' and '-inf'.

    Attributes:
        kept: the rows of an earlier run that stayed in the file.
    """

    def __init__(self, path: pathlib.Path, resume_step: int | None):
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
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    return [row for _, row in kept]


def _encode(value: float) -> float | str:
    """Returns a number as JSON can hold it."""
    return value if math.isfinite(value) else str(float(value))


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, bool | int | float | str]]:
    """Yields nested options as `('section.name', value)` with values of the types that hyper-parameters may have."""
    for name, value in options.items():
        if hasattr(value, "items"):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, bool | int | float | str) else str(value)


def _warn_no_tensorboard(reason: str) -> None:
    logging.warning(
        "TensorBoard files are not written: %s. Everything else is; %s holds the same numbers. "
        "To have them, type: pip install tensorflow tensorboard",
        reason,
        METRICS,
    )


class _TensorBoard:
    """TensorBoard's event files through CLU, by a thread that first imports TensorFlow (several seconds of CPU).

    Nothing waits for that thread but `close`. A killed run may therefore leave fewer events than rows in
    `metrics.jsonl`, or more than the restored checkpoint knows: on resume the files are made to agree with `rows`.
    """

    def __init__(self, folder: pathlib.Path, resume_step: int | None, rows: list[Row]):
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(folder, resume_step, rows), name="tensorboard", daemon=True
        )
        self._thread.start()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._call("write_scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._call("write_images", step, images)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._call("write_hparams", hparams)

    def flush(self) -> None:
        self._call("flush")

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _call(self, name: str, *arguments: Any) -> None:
        if self._thread.is_alive():  # it ends early where TensorFlow cannot be used
            self._calls.put((name, arguments))

    def _run(self, folder: pathlib.Path, resume_step: int | None, rows: list[Row]) -> None:
        try:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no lines about CPU features in the run's output
            import tensorflow as tf
            from clu.metric_writers import SummaryWriter

            for kind in ("GPU", "TPU"):  # TensorFlow would take the accelerator's memory from JAX
                tf.config.set_visible_devices([], kind)
        except Exception as error:  # whatever an installation that does not fit raises: the run goes on without
            _warn_no_tensorboard(f"importing TensorFlow and CLU's writers failed ({type(error).__name__}: {error})")
            return
        try:
            present = _take_back_events(folder, resume_step)
            writer = SummaryWriter(str(folder))
            for row in rows:
                missing = {name: v for name, v in row.items() if name != "step" and (name, row["step"]) not in present}
                writer.write_scalars(row["step"], missing)
            while (call := self._calls.get()) is not None:
                name, arguments = call
                if name != "write_hparams" or (_HPARAMS, 0) not in present:
                    getattr(writer, name)(*arguments)
            writer.close()
        except Exception:
            logging.exception("Writing TensorBoard files to %s failed; no more are written in this run.", folder)


def _take_back_events(folder: pathlib.Path, resume_step: int | None) -> set[tuple[str, int]]:
    """Removes events after `resume_step` (None: all) and torn ends from the event files.

    They are removed rather than marked as orphans (TensorBoard's `SessionLog.START`), which not every reader heeds.

    Returns:
        The tags and steps of the events that stay.
    """
    import tensorflow as tf

    present: set[tuple[str, int]] = set()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if resume_step is None:
            path.unlink()
            continue
        kept, removed = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                if event.step > resume_step:
                    removed = True
                else:
                    kept.append(record)
                    present.update((value.tag, event.step) for value in event.summary.value)
        except tf.errors.DataLossError:
            removed = True
        if removed:
            temporary = folder / f".kept-{os.getpid()}"
            with tf.io.TFRecordWriter(str(temporary)) as file:
                for record in kept:
                    file.write(record)
            os.replace(temporary, path)
    return present


class _WeightsAndBiases:
    """Weights & Biases: one run there per workdir, continued when the run is resumed."""

    def __init__(self, workdir: pathlib.Path, config: Any, *, resumed: bool):
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                f"config.wandb.project is {config.wandb.project!r}, but wandb cannot be imported ({error}). "
                "Type: pip install 'vision_jax[wandb]', or leave --config.wandb.project empty."
            ) from error
        self._wandb = wandb
        id_file = workdir / _WANDB_ID
        if not (resumed and id_file.exists()):
            id_file.write_text(secrets.token_hex(4) + "\n")
        self._run = wandb.init(
            project=config.wandb.project,
            name=config.wandb.name or workdir.resolve().name,
            id=id_file.read_text().strip(),
            resume="allow",  # the server keeps what it has for the steps that a resumed run repeats
            dir=str(workdir),
        )

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        def picture(image: np.ndarray) -> Any:
            return self._wandb.Image(image[..., 0] if image.shape[-1] == 1 else image)

        self._run.log({name: [picture(image) for image in batch] for name, batch in images.items()}, step=step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams), allow_val_change=True)

    def flush(self) -> None:
        pass  # wandb's own process sends what it was given

    def close(self) -> None:
        self._run.finish()

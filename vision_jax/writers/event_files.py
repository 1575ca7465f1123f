"""TensorBoard's event files without TensorFlow: written through tensorboardX, and taken back when a run is resumed.

What is written here, TensorBoard shows as it shows what CLU writes through TensorFlow: the same tags, steps and
values, a batch of images as one entry, the options of the run as its hyper-parameters.
"""

import hashlib
import io
import json
import os
import pathlib
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vision_jax.utils import files
from vision_jax.writers.rows import Row

HPARAMS = "_hparams_/session_start_info"  # The tag of hyper-parameters, always at step 0.

_FLOAT, _STRING = 1, 7  # DT_FLOAT and DT_STRING of TensorFlow's types.proto.


class SummaryWriter:
    """Writes what `clu.metric_writers.SummaryWriter` writes, by the same calls."""

    def __init__(self, folder: str):
        """Starts a new event file in `folder`, which is made when it is missing."""
        from tensorboardX.event_file_writer import EventsWriter

        path = pathlib.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        # Two files of one second would have one name, and the second would replace the first.
        suffix = f".{os.getpid()}.{len(list(path.iterdir()))}.v2"
        self._events = EventsWriter(str(path / "events"), suffix)

    def write_scalars(self, step: int, scalars: Mapping[str, np.float32]) -> None:
        """Writes each number in float32."""
        for tag, value in scalars.items():
            self._write(step, tag, "scalars", {"dtype": _FLOAT, "float_val": [value]}, [])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes batches uint8 [N, H, W, C], C = 1 or 3: width, height and N PNG files in one entry."""
        for tag, batch in images.items():
            strings = [str(batch.shape[2]).encode(), str(batch.shape[1]).encode(), *map(_png, batch)]
            self._write(step, tag, "images", {"dtype": _STRING, "string_val": strings}, [len(strings)])

    def write_hparams(self, hparams: Mapping[str, bool | int | float | str]) -> None:
        """Writes the hyper-parameters; runs with the same ones are one group in TensorBoard."""
        from tensorboardX.proto import plugin_hparams_pb2

        text = json.dumps(hparams, sort_keys=True, separators=(",", ":"))
        info = plugin_hparams_pb2.SessionStartInfo(
            group_name=hashlib.sha256(text.encode()).hexdigest(), start_time_secs=time.time()
        )
        for name, value in hparams.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(info.hparams[name], kind, value)
        content = plugin_hparams_pb2.HParamsPluginData(session_start_info=info).SerializeToString()
        self._write(0, HPARAMS, "hparams", {"dtype": _FLOAT}, [0], content)

    def flush(self) -> None:
        """Waits until the events are on the disk."""
        self._events.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._events.close()

    def _write(
        self, step: int, tag: str, plugin: str, tensor: dict[str, Any], shape: list[int], content: bytes = b""
    ) -> None:
        from tensorboardX.proto import event_pb2

        dimensions = {"dim": [{"size": size} for size in shape]}
        value = {
            "tag": tag,
            "metadata": {"plugin_data": {"plugin_name": plugin, "content": content}},
            "tensor": {**tensor, "tensor_shape": dimensions},
        }
        self._events.write_event(event_pb2.Event(wall_time=time.time(), step=int(step), summary={"value": [value]}))


def take_back(folder: pathlib.Path, resume_step: int | None, rows: list[Row]) -> set[tuple[str, int]]:
    """Removes from event files, whoever wrote them, what the run will write again.

    That are events after `resume_step` (None: the files), a torn end, and the numbers of a final evaluation, which no
    row knows. They are removed rather than marked as orphans (TensorBoard's `SessionLog.START`), which not every
    reader heeds.

    Returns:
        The tags and steps of the events that stay.
    """
    for left in folder.glob(".events.out.tfevents.*"):  # By a kill while a file was replaced.
        left.unlink()
    paths = sorted(folder.glob("events.out.tfevents.*"))
    if resume_step is None:
        for path in paths:
            path.unlink()
    if resume_step is None or not paths:
        return set()
    from tensorboardX.proto import event_pb2

    written = {(name, row["step"]) for row in rows for name in row if name != "step"}
    present: set[tuple[str, int]] = set()
    for path in paths:
        content, kept = path.read_bytes(), []
        for record in _records(content):
            event = event_pb2.Event.FromString(record[12:-4])
            values = {(value.tag, event.step): value for value in event.summary.value}
            if event.step <= resume_step and all(key in written or not _is_scalar(v) for key, v in values.items()):
                kept.append(record)
                present.update(values)
        if (rest := b"".join(kept)) != content:
            with files.atomic_write(path) as file:
                file.write(rest)
    return present


def _records(content: bytes) -> Iterator[bytes]:
    """Yields the records of a TFRecord file up to one that is torn or damaged.

    A record is the length of its data (8 bytes), the checksum of that (4), the data, and their checksum (4).
    """
    from tensorboardX.record_writer import masked_crc32c

    def sound(start: int, end: int) -> bool:
        return content[end : end + 4] == struct.pack("<I", masked_crc32c(content[start:end]))

    start = 0
    while sound(start, start + 8):
        end = start + 12 + int.from_bytes(content[start : start + 8], "little")
        if not sound(start + 12, end):
            return
        yield content[start : end + 4]
        start = end + 4


def _is_scalar(value: Any) -> bool:
    return value.metadata.plugin_data.plugin_name == "scalars" or value.HasField("simple_value")


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.getvalue()

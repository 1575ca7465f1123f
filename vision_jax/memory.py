"""The process's memory between two steps, and whether a step fits into what there is."""

import contextlib
import ctypes
import functools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import jax

from vision_jax import allocator

# Of mallopt(3), as glibc's <malloc.h> numbers them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_EXHAUSTED = (
    "resource_exhausted|out of memory|bad_alloc|cannot allocate memory|failed to map segment|can't start new thread"
)
_ADVICE = (
    "Less is needed with a smaller --config.data.batch_size (with --config.optimizer.accumulate=N, the gradients of N "
    "batches are averaged into one update) or, in evaluations, --config.data.eval_batch_size, with a smaller "
    "--config.data.image_size or network and, on a GPU or TPU, with --config.train.dtype=bfloat16; "
    "--config.data.on_device=never leaves the training images out of the device's memory."
)


class OutOfMemoryError(MemoryError):
    """A step that does not fit; the message says how much it needs, how much there is, and what lowers it."""


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep the memory that XLA frees after a step for the next step; whether it was told.

    Steps then seldom fault for pages, but glibc looks for a place larger than the buffer by its alignment, so that the
    process comes to hold several steps' buffers. mimalloc (`allocator.py`) holds two.

    For programs of their own, such as `vision_jax.main`: the settings are the whole process's. There is nothing to tell
    under another allocator, and nobody is told with `VISION_JAX_ALLOCATOR=0`.
    """
    if os.environ.get(allocator.VARIABLE) == "0" or allocator.active() != "libc.so.6":
        return False
    libc = ctypes.CDLL(None)
    libc.mallopt(_ARENA_MAX, 1)  # XLA's threads allocate too, and other arenas are too small for large buffers
    libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TOP_PAD, 64 << 20)
    return True


def release_memory() -> None:
    """Empties JAX's caches of traces and programs, and returns to the system what is free.

    For the beginning of long work, which has its own program: others are compiled again when used.
    """
    jax.clear_caches()
    if os.name != "posix":
        return
    process = ctypes.CDLL(None)
    if collect := getattr(process, "mi_collect", None):
        collect(True)
    elif trim := getattr(process, "malloc_trim", None):
        trim(0)


def check(step: jax.stages.Compiled, devices: Sequence[jax.Device]) -> None:
    """Compares what a compiled step takes beside its arguments, which are there already, with what there is.

    An allocator may grant more than the machine or a container has; the kernel then ends the process without a word.

    Args:
        step: what is to be run.
        devices: those of this process that run it.

    Raises:
        OutOfMemoryError: it does not fit.
    """
    analysis = step.memory_analysis()
    if analysis is None:
        return
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    if devices[0].platform == "cpu":
        needed *= len(devices)  # They share the machine's.
        left = available()
    else:
        left = {}
        for device in devices:
            statistics = device.memory_stats() or {}
            if "bytes_limit" in statistics:
                left[f"on {device.device_kind} {device.id}"] = statistics["bytes_limit"] - statistics["bytes_in_use"]
    place = min(left, key=left.__getitem__, default=None)
    if place is not None and needed > left[place]:
        raise OutOfMemoryError(
            f"The compiled step needs {_size(needed)} of memory beside its arguments, but only {_size(left[place])} "
            f"are left {place}. {_ADVICE}"
        )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns an allocation that failed, whose ever, at whatever moment, into an `OutOfMemoryError` with advice."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_exhausted(error):
            raise
        raise OutOfMemoryError(f"Out of memory: {_wanted(str(error))}{_room()}. {_ADVICE}") from error


def is_exhausted(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that memory could not be had."""
    if "no space left on device" in str(error).lower():
        return False  # TensorStore calls a full disk RESOURCE_EXHAUSTED, too.
    if isinstance(error, MemoryError) or re.search(_EXHAUSTED, str(error), re.IGNORECASE):
        return True
    return error.__cause__ is not None and is_exhausted(error.__cause__)


def _wanted(reason: str) -> str:
    """Returns what could not be had, of an error's words."""
    if found := re.search(r"allocat\w+ (\d+) bytes", reason):
        return f"{_size(int(found[1]))} could not be had"
    if found := re.search(r"allocate ([\d.]+ .iB)", reason):  # NumPy's.
        return f"{found[1]} could not be had"
    return reason.splitlines()[0].removesuffix(".") if reason else "the system gave no more"


def _room() -> str:
    """Returns how much is left where least is, as far as that is known."""
    left = available()
    place = min(left, key=left.__getitem__, default=None)
    return f"; {_size(left[place])} are left {place}" if place else ""


def available(root: pathlib.Path = pathlib.Path("/")) -> dict[str, int]:
    """Bytes that this process can still get, without swapping, by what sets the limit; nothing where none is known.

    Read from Linux' /proc and /sys below `root`: the machine's free memory, the limits of the process's control group
    and of those around it (a container's limit is one), and the process's own limits (`ulimit`). Memory that only
    caches files counts as free.
    """
    left = {}
    if "MemAvailable" in (machine := _fields(root / "proc/meminfo")):
        left["on this machine"] = machine["MemAvailable"] << 10
    groups = [free for folder in _control_groups(root) if (free := _free_in_group(folder)) is not None]
    if groups:
        left["under the limit of the control group (the container)"] = min(groups)
    used = _fields(root / "proc/self/status")
    limits = _read(root / "proc/self/limits")
    for limit, option, use in (("address space", "-v", "VmSize"), ("data size", "-d", "VmData")):
        soft = re.search(rf"^Max {limit} +(\d+) ", limits, re.MULTILINE)
        if soft and use in used:
            left[f"under the process's limit (ulimit {option})"] = int(soft[1]) - (used[use] << 10)
    return {place: max(0, free) for place, free in left.items()}


def _control_groups(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of the process's memory control group and of all around it, of version 2 and 1."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            group = mount / path.lstrip("/")
            yield group
            yield from (around for around in group.parents if around.is_relative_to(mount))


def _free_in_group(folder: pathlib.Path) -> int | None:
    """Bytes left in a control group; None where it has no limit."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        allowed, used = _read(folder / limit).strip(), _read(folder / usage).strip()
        if allowed.isdecimal() and used.isdecimal():
            return int(allowed) - int(used) + _fields(folder / "memory.stat").get(cache, 0)
    return None


def _fields(file: pathlib.Path) -> dict[str, int]:
    """{'MemAvailable': 123} of lines 'MemAvailable:  123 kB' or 'MemAvailable 123'."""
    return {name: int(value) for name, value in re.findall(r"^(\w+):?\s+(\d+)(?: kB)?$", _read(file), re.MULTILINE)}


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"

"""The process's memory between two steps."""

import ctypes
import functools
import os
import pathlib
from typing import Any

import jax
from absl import logging

from vision_jax.ops import native

# Of mallopt(3), as glibc's <malloc.h> numbers them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_JAXLIB = "libjax_common.so"
SOURCE = pathlib.Path(__file__).with_suffix(".cc")
_pool: ctypes.CDLL | None = None


@functools.cache
def keep_freed() -> bool:
    """Keeps the memory that XLA frees after a step for the next step; whether large buffers have a pool of their own.

    On a CPU, XLA asks for a step's buffers anew each time. By default glibc maps large ones from the kernel and gives
    them back, and a third of a step can go into page faults (MobileNet-v2, 32 images of 96x96: 117,000 a step; 280 ms
    with them, 190 without). For programs of their own, such as `vision_jax.main`: the setting is the whole process's.

    glibc is told to keep what is freed. But it looks for a place larger than the buffer by its alignment, so that it
    hardly ever takes the one that the last step's buffer left, and after a few steps the process holds three. Where
    C++ can be compiled, buffers of 4 MiB and more therefore come from the pool of `memory.cc`: ten steps of the CIFAR
    CNN grow the process by 220 MB instead of 740.
    """
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)  # XLA's threads allocate too, and other arenas are too small for large buffers
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 << 20)
    try:
        pool = native.load(SOURCE)
    except native.UnavailableError as reason:
        logging.info("large buffers of the CPU come from the C library (%s)", reason)
        return False
    pool.VisionJaxKeepBuffers.restype = ctypes.c_bool
    if not pool.VisionJaxKeepBuffers(_JAXLIB.encode()):
        logging.info("large buffers of the CPU come from the C library (too few addresses, or another jaxlib)")
        return False
    global _pool
    _pool = pool
    return True


def give_back() -> None:
    """Empties JAX's caches of traces and programs, and returns to the system what is free.

    For the beginning of long work, which has its own program: others are compiled again when used.
    """
    jax.clear_caches()
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)
    if _pool is not None:
        _pool.VisionJaxGiveBack()


def _libc(name: str) -> Any:
    """A function of glibc's own; None with another C library (macOS, musl, Windows)."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None

"""The process's memory between two steps."""

import ctypes

# Of mallopt(3), as glibc's <malloc.h> numbers them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


def keep_freed() -> bool:
    """Makes glibc keep the memory that XLA frees after a step for the next step; whether it could be told so.

    On a CPU, XLA asks for a step's buffers anew each time. By default glibc maps large ones from the kernel and gives
    them back, and a third of a step can go into page faults (MobileNet-v2, 32 images of 96x96: 117,000 a step; 280 ms
    with them, 190 without). For programs of their own, such as `vision_jax.main`: the setting is the whole process's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # macOS, musl
        return False
    settings = {
        _ARENA_MAX: 1,  # XLA's threads allocate too, and other arenas are too small for large buffers
        _MMAP_THRESHOLD: 1 << 30,
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 64 << 20,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())

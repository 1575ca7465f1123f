"""Starts a program under mimalloc, preloaded, where that makes training on a CPU faster.

XLA's CPU client asks malloc for a step's buffers anew each time. glibc by default maps large ones from the kernel and
returns them when they are freed, so that a third of a step can go into page faults; mimalloc finds the last step's.
malloc can only be replaced before a process begins. `start` therefore lets the process become the same program once
more (execve(2): same process id, arguments and folder) with `LD_PRELOAD` set, which takes hundredths of a second.

The environment variable `VISION_JAX_ALLOCATOR` says what is wanted:

- unset: mimalloc, where the wheel `cmeel-mimalloc` is installed and JAX will compute on the CPU; elsewhere as 'glibc'.
- 'mimalloc': the same; what `start` sets in the program that it starts.
- 'glibc': the C library's malloc, told to keep what is freed (`memory.keep_freed_memory`).
- '0': the C library's malloc as it is.

Where `LD_PRELOAD` is set already, the user has chosen. `active` says what came of it, and so does a run's
`environment.json`.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
import sys

VARIABLE = "VISION_JAX_ALLOCATOR"
CHOICES = ("mimalloc", "glibc", "0")
# What is free returns to the system every ten seconds: steps hardly notice, and memory of initialization, compilation
# and evaluations does not stay. At the default of one second steps pay for it; with -1 nothing ever returns, not even
# when `memory.release_memory` asks.
SETTINGS = {"MIMALLOC_PURGE_DELAY": "10000"}


def start(module: str) -> None:
    """Makes this process, `python -m MODULE ...`, the same program under the allocator that `environment` chooses.

    Does nothing in a process that was started otherwise, by a notebook for example. What the program starts in turn,
    such as loader processes, is not preloaded: there `LD_PRELOAD` and `VISION_JAX_ALLOCATOR` are as the user left them.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice and choice not in CHOICES:
        raise SystemExit(f"ERROR: {VARIABLE} is {choice!r}, expected one of {', '.join(CHOICES)}.")
    if choice == "mimalloc" and "LD_PRELOAD" in os.environ:  # This is the program started below.
        del os.environ[VARIABLE], os.environ["LD_PRELOAD"]
        return
    if module not in sys.orig_argv:
        return
    if added := environment():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **added})


def environment() -> dict[str, str]:
    """The variables with which a program starts under mimalloc; none where it is not wanted, or not to be had."""
    if os.environ.get(VARIABLE) in ("glibc", "0") or "LD_PRELOAD" in os.environ or not _computes_on_cpu():
        return {}
    library = _library()
    if library is None:
        return {}
    settings = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    return {VARIABLE: "mimalloc", "LD_PRELOAD": library, **settings}


def active() -> str | None:
    """File name of the library whose malloc this process uses: 'libmimalloc.so', 'libc.so.6'; None if unknown."""
    if sys.platform != "linux":
        return None
    address = ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value or 0
    for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, _, *path = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in addresses.split("-"))
        if low <= address < high:
            return pathlib.Path(path[0]).name if path else None
    return None


def _computes_on_cpu() -> bool:
    """Whether JAX will, as far as can be told without importing it: it is told to, or has no other backend's plugin."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms.split(",")[0] == "cpu"
    return not any(importlib.util.find_spec(plugin) for plugin in ("jax_plugins", "libtpu"))


def _library() -> str | None:
    """Path of mimalloc; None where it is not installed, or not on Linux, or where `LD_PRELOAD` cannot hold the path."""
    if sys.platform != "linux":
        return None
    try:
        files = importlib.metadata.files("cmeel-mimalloc") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (str(pathlib.Path(str(file.locate())).resolve()) for file in files if file.name == "libmimalloc.so")
    return next((path for path in paths if os.path.exists(path) and not set(path) & set(" :")), None)

"""Finds or makes the libraries of the C++ sources, and loads them.

In this order: the library in `cache_dir("ops")`; else the one that came with the wheel for this processor; else one
that is compiled here; else none, and who asks is told why and does without. A library is loaded when its checksum
agrees, and comes into the cache when a process of its own has loaded it and had the right results from it, so that
nothing that a compiler, a disk or another machine did to it can crash this process.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jaxlib
from absl import logging

from vision_jax.ops.native import build
from vision_jax.ops.native.build import UnavailableError
from vision_jax.utils import files

_SELFTEST = build.FOLDER / "selftest.py"
_one_thread = threading.RLock()


def load(source: pathlib.Path, needs: Sequence[pathlib.Path] = ()) -> ctypes.CDLL:
    """The library of `source`, made if need be.

    Args:
        source: a `.cc` file.
        needs: the libraries of `build.NEEDS` for it: paths, or names that the system's loader knows.

    Raises:
        UnavailableError: the system is not Linux on x86-64, VISION_JAX_NATIVE=0, or nothing could make it.
    """
    build.check_system()
    # XLA's threads and OpenMP's share the cores: who waits, sleeps.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    mode = os.RTLD_NOW | os.RTLD_DEEPBIND  # PyTorch and TensorFlow carry a oneDNN of their own.
    try:
        for library in needs:
            ctypes.CDLL(str(library), mode)  # from now on the loader knows it by its name
        with _library(source, needs) as library:
            return ctypes.CDLL(str(library), mode)
    except OSError as error:
        raise UnavailableError(str(error)) from error


def register(symbols: Sequence[str], source: pathlib.Path, needs: Sequence[pathlib.Path] = ()) -> None:
    """Loads `source` and registers its XLA foreign functions `symbols` for the CPU under their own names.

    Raises:
        UnavailableError: as `load` does, or this jaxlib refuses them.
    """
    library = load(source, needs)
    try:
        for symbol in symbols:
            jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    except (AttributeError, jax.errors.JaxRuntimeError) as error:
        raise UnavailableError(f"jaxlib {jaxlib.__version__} refuses {source.stem}: {error}") from error


def available(what: str, loader: Callable[[], None]) -> bool:
    """Whether `loader()` loads its functions, which do `what`; tried once, a failure is logged."""
    with _one_thread:
        return _available(what, loader)


@functools.cache
def _available(what: str, loader: Callable[[], None]) -> bool:
    try:
        loader()
    except UnavailableError as reason:
        logging.info("%s on the CPU: XLA's own operations (%s)", what, reason)
        return False
    return True


@contextlib.contextmanager
def _library(source: pathlib.Path, needs: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """A library to load within the block."""
    folder = files.cache_dir("ops")
    name = f"{source.stem}-{_key(source, needs)}"
    if kept := _find(folder, name):
        yield kept
        return
    with _workshop(folder) as workshop, _turn(folder / f".{source.stem}.lock"):
        yield _find(folder, name) or _keep(_make(source, needs, workshop), folder, name)


def _key(source: pathlib.Path, needs: Sequence[pathlib.Path]) -> str:
    """Of all that a library depends on."""
    try:
        compiler = build.find_compiler().identity
    except UnavailableError:
        compiler = "none"
    parts = [*build.FLAGS, jaxlib.__version__, build.processor(), compiler, *map(build.identity, needs)]
    return hashlib.sha256(source.read_bytes() + "\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The library NAME-CHECKSUM.so of a folder; one that its checksum does not fit is thrown away."""
    for library in sorted(folder.glob(f"{name}-*.so")):
        if build.is_intact(library):
            return library
        logging.warning("%s is damaged and not used", library)
        with contextlib.suppress(OSError):
            library.unlink()
    return None


@contextlib.contextmanager
def _workshop(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to compile in: beside the libraries, or the system's where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=folder, prefix=".making-")
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="vision_jax-")
    with made as workshop:
        yield pathlib.Path(workshop)


@contextlib.contextmanager
def _turn(lock: pathlib.Path) -> Iterator[None]:
    """Makes processes wait for each other; where files cannot be locked, and when it takes too long, it does not."""
    import fcntl  # not on every system

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(open(lock, "w"))
            end = time.monotonic() + build.SECONDS
            while time.monotonic() < end:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
        yield


def _make(source: pathlib.Path, needs: Sequence[pathlib.Path], workshop: pathlib.Path) -> pathlib.Path:
    """A library that passed its test: the wheel's, or one compiled for this machine."""
    if prebuilt := _prebuilt(source):
        try:
            _test(prebuilt, source, needs)
            return prebuilt
        except UnavailableError as reason:
            logging.info("%s is compiled for this machine (%s)", source.name, reason)
    made = workshop / f"{source.stem}.so"
    build.compile_library(build.find_compiler(), source, made, "native", jax.ffi.include_dir())
    _test(made, source, needs)
    return made


def _prebuilt(source: pathlib.Path) -> pathlib.Path | None:
    """What the wheel has for this processor."""
    best = build.level(build.processor())
    for library in build.PREBUILT.glob(f"{source.stem}-{best}-*.so"):
        if build.is_intact(library):
            return library
        logging.warning("%s is damaged and not used", library)
    return None


def _test(library: pathlib.Path, source: pathlib.Path, needs: Sequence[pathlib.Path]) -> None:
    """Raises UnavailableError unless a process of its own has the right results from the library."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    paths = os.pathsep.join(path for path in sys.path if path)
    ours = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": paths, "VISION_JAX_NATIVE": "0"}
    command = [sys.executable, "-P", "-W", "ignore", str(_SELFTEST), source.stem, str(library), *map(str, needs)]
    status, output = build.run(command, {**inherited, **ours})
    if status:
        last = output.strip().rpartition("\n")[2]
        raise UnavailableError(f"{library.name} failed its test, status {status}: {last}")


def _keep(made: pathlib.Path, folder: pathlib.Path, name: str) -> pathlib.Path:
    """The library in the cache, or where it is if it cannot be written there."""
    content = made.read_bytes()
    kept = folder / f"{name}-{build.checksum(content)}.so"
    try:
        with files.atomic_write(kept) as file:
            file.write(content)
    except OSError as error:
        logging.info("%s cannot be kept: the next process makes it again (%s)", kept.name, error)
        return made
    return kept

"""Convolutions of one CPU device by oneDNN, the library that PyTorch's come from, where it is installed.

`onednn.cc` is an XLA foreign function around oneDNN's C interface. It is compiled at first use with the machine's C++
compiler (two seconds; kept in `cache_dir("ops")`) and linked to `libdnnl.so.3`, from the wheel `onednn-cpu-gomp` or
wherever the system's loader finds it. Without library, compiler or x86-64 Linux nothing fails: `available` says
False, logs why, and `plan.py` takes the formulations in XLA's own operations. `VISION_JAX_ONEDNN=0` says so too.

Source: oneDNN's convolution primitive, https://uxlfoundation.github.io/oneDNN/dev_guide_convolution.html.
"""

import ctypes
import ctypes.util
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import jax
import jaxlib
import numpy as np
from absl import logging

from vision_jax import cache
from vision_jax.ops.geometry import Geometry

_SOURCE = pathlib.Path(__file__).with_suffix(".cc")
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-w")
_TARGET = "vision_jax_convolution"
_KINDS = ("forward", "input", "weight")  # as onednn.cc counts them


class _Unavailable(Exception):
    """Why oneDNN is not used."""


def _library() -> str:
    """The file name of libdnnl, for the loader."""
    try:
        for file in importlib.metadata.files("onednn-cpu-gomp") or ():
            if file.name == "libdnnl.so.3":
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    found = ctypes.util.find_library("dnnl")
    if found and found.endswith(".so.3"):
        return found
    raise _Unavailable("no libdnnl.so.3 (`pip install onednn-cpu-gomp` has one)")


def _build(library: str) -> pathlib.Path:
    """The compiled foreign function; compiles it if this was not done before for these library, jaxlib and source."""
    link = [library, f"-Wl,-rpath,{os.path.dirname(library)}"] if os.path.isabs(library) else [f"-l:{library}"]
    command = [*_FLAGS, f"-I{jax.ffi.include_dir()}", str(_SOURCE), *link]
    key = hashlib.sha256(_SOURCE.read_bytes() + f"{jaxlib.__version__} {command}".encode())
    built = cache.cache_dir("ops") / f"onednn-{key.hexdigest()[:16]}.so"
    if built.exists():
        return built
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise _Unavailable("no C++ compiler (c++, g++ or clang++; or set CXX)")
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        made = pathlib.Path(folder) / built.name
        done = subprocess.run([compiler, *command, "-o", made], capture_output=True, text=True, check=False)
        if done.returncode:
            raise _Unavailable(f"{compiler} could not compile {_SOURCE.name}:\n{done.stderr[-2000:]}")
        made.replace(built)  # at once, whatever other processes are doing
    return built


@functools.cache
def available() -> bool:
    """Whether `convolve` can be used; at the first call compiles, loads and registers it, or logs why not."""
    try:
        if os.environ.get("VISION_JAX_ONEDNN") == "0":
            raise _Unavailable("VISION_JAX_ONEDNN=0")
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            raise _Unavailable(f"{platform.system()} on {platform.machine()}")
        # XLA's threads and OpenMP's share the cores: who waits, sleeps.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            # Deep binding: PyTorch and TensorFlow carry a oneDNN of their own.
            built = ctypes.CDLL(str(_build(_library())), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
        except OSError as error:
            raise _Unavailable(str(error)) from error
    except _Unavailable as reason:
        logging.info("convolutions on the CPU: XLA's operations, not oneDNN (%s)", reason)
        return False
    jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(built.VisionJaxConvolution), platform="cpu")
    return True


def convolve(kind: str, g: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    """The convolution of geometry `g` or one of its gradients, as `formulas.py` names them, in float32."""
    match kind:
        case "forward":
            shape = (a.shape[0], *g.out, b.shape[3])
        case "input":
            shape = (a.shape[0], *g.image, b.shape[2] * g.groups)
        case _:
            shape = (*g.kernel, a.shape[3] // g.groups, b.shape[3])
    call = jax.ffi.ffi_call(_TARGET, jax.ShapeDtypeStruct(shape, a.dtype))
    return call(
        a, b, kind=np.int64(_KINDS.index(kind)), groups=np.int64(g.groups), strides=np.array(g.strides),
        pads=np.array(g.pads).ravel(), dilation=np.array(g.dilation),
    )

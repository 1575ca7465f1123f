"""Convolutions of one CPU device by oneDNN, the library that PyTorch's come from, where it is installed.

`native/onednn.cc` is an XLA foreign function around oneDNN's C interface. Its `libdnnl.so.3` is that of the wheel
`onednn-cpu-gomp`, or what the system's loader finds.

Source: oneDNN's convolution primitive, https://uxlfoundation.github.io/oneDNN/dev_guide_convolution.html.
"""

import ctypes.util
import importlib.metadata
import pathlib

import jax
import numpy as np

from vision_jax.ops import native
from vision_jax.ops.geometry import Geometry

_TARGET = "VisionJaxConvolution"
_KINDS = ("forward", "input", "weight")  # as onednn.cc counts them


def available() -> bool:
    """Whether `convolve` can be used; the first call compiles, loads and registers it."""
    return native.available("convolutions", _load)


def takes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; oneDNN would do it in more steps than float32."""
    return bool({"avx512_bf16", "amx_bf16"} & set(native.processor().split()))


def _load() -> None:
    native.register([_TARGET], native.FOLDER / "onednn.cc", [_library()])


def _library() -> pathlib.Path:
    """Path of libdnnl, or its name where the loader knows the path."""
    try:
        for file in importlib.metadata.files("onednn-cpu-gomp") or ():
            if file.name == "libdnnl.so.3":
                return pathlib.Path(str(file.locate())).resolve()
    except importlib.metadata.PackageNotFoundError:
        pass
    found = ctypes.util.find_library("dnnl")
    if found and found.endswith(".so.3"):
        return pathlib.Path(found)
    raise native.UnavailableError("no libdnnl.so.3; `pip install onednn-cpu-gomp` has one")


def convolve(kind: str, g: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    """The convolution of geometry `g` or one of its gradients, as `formulas.py` names them, of float32 or bfloat16."""
    match kind:
        case "forward":
            shape = (a.shape[0], *g.out, b.shape[3])
        case "input":
            shape = (a.shape[0], *g.image, b.shape[2] * g.groups)
        case _:
            shape = (*g.kernel, a.shape[3] // g.groups, b.shape[3])
    call = jax.ffi.ffi_call(_TARGET, jax.ShapeDtypeStruct(shape, a.dtype))
    return call(
        a,
        b,
        kind=np.int64(_KINDS.index(kind)),
        groups=np.int64(g.groups),
        strides=np.array(g.strides),
        pads=np.array(g.pads).ravel(),
        dilation=np.array(g.dilation),
    )

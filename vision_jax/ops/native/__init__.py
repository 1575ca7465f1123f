"""Compiles the package's C++ for this machine, once, and loads it.

A `.cc` file is compiled at first use with the machine's C++ compiler (two seconds; kept in `cache_dir("ops")`, by
source, flags, jaxlib and processor). Nothing fails where that is impossible: who asks is told why, and does without.
"""

import ctypes
import dataclasses
import functools
import hashlib
import inspect
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jaxlib
from absl import logging
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from vision_jax.utils import files

FOLDER = pathlib.Path(__file__).parent  # of the sources
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-w",
)


class UnavailableError(Exception):
    """Why compiled code cannot be used."""


def load(source: pathlib.Path, link: Sequence[str] = (), mode: int = 0) -> ctypes.CDLL:
    """Compiles `source` if need be and loads it, with `mode` of dlopen(3) besides RTLD_NOW.

    Raises:
        UnavailableError: the system is not Linux on x86-64, VISION_JAX_NATIVE=0, or there is no compiler that can.
    """
    if os.environ.get("VISION_JAX_NATIVE") == "0":
        raise UnavailableError("VISION_JAX_NATIVE=0")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnavailableError(f"{platform.system()} on {platform.machine()}")
    # XLA's threads and OpenMP's share the cores: who waits, sleeps.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return ctypes.CDLL(str(_compile(source, link)), mode=os.RTLD_NOW | mode)
    except OSError as error:
        raise UnavailableError(str(error)) from error


def register(symbols: Sequence[str], source: pathlib.Path, link: Sequence[str] = ()) -> None:
    """Loads `source` and registers its XLA foreign functions `symbols` for the CPU under their own names.

    Raises:
        UnavailableError: as `load` does.
    """
    library = load(source, link, os.RTLD_DEEPBIND)  # PyTorch and TensorFlow carry a oneDNN of their own.
    for symbol in symbols:
        jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")


@functools.cache
def available(what: str, loader: Callable[[], None]) -> bool:
    """Whether `loader()` loads its functions, which do `what`; tried once, a failure is logged."""
    try:
        loader()
    except UnavailableError as reason:
        logging.info("%s on the CPU: XLA's own operations (%s)", what, reason)
        return False
    return True


def on_one_device(context: mlir.LoweringRuleContext) -> bool:
    """Whether the program being lowered runs on one device: XLA cannot split a foreign function over several."""
    return getattr(context.module_context.axis_context, "num_devices", None) == 1


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A foreign function as a primitive's formulation for one CPU device.

    Attributes:
        target: its name; the primitive's parameters are its attributes.
        available: whether it can be called; the first call compiles, loads and registers it.
        aliases: operand -> result that takes its memory.
        any_type: it takes every type instead of float32 only.
    """

    target: str
    available: Callable[[], bool]
    aliases: dict[int, int] | None = None
    any_type: bool = False


def promoted(shape: tuple[int, ...], *operands: ShapedArray) -> ShapedArray:
    """The aval of that shape and of the type to which the operands promote."""
    return ShapedArray(shape, jnp.result_type(*(x.dtype for x in operands)))


def define(
    primitive: Primitive, plain: Callable[..., Any], shape: Callable[..., Any], foreign: Foreign | None = None
) -> None:
    """Shape rule, batching and lowering of a primitive: by `plain`, or by `foreign` where that can be called.

    Keyword-only arguments of `plain` are the primitive's parameters, all others its operands. `shape` makes the
    results' avals of the operands' and the parameters, as `plain` would: tracing `plain` for it takes a millisecond,
    at each of a network's thousands of calls.
    """
    several = primitive.multiple_results
    arguments = inspect.signature(plain).parameters.values()
    names = [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]

    def batch(operands, axes, **parameters):
        y = jax.vmap(partial(plain, **parameters), axes)(*operands)
        return y, [0] * len(y) if several else 0

    def on_cpu(context, *operands, **parameters):
        function = plain
        if foreign and on_one_device(context) and context.avals_in[0].size and foreign.available():
            if foreign.any_type or all(x.dtype == jnp.float32 for x in context.avals_in):
                results: Any = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in context.avals_out]
                results = results if several else results[0]
                function = jax.ffi.ffi_call(foreign.target, results, input_output_aliases=foreign.aliases)
        return mlir.lower_fun(function, multiple_results=several)(context, *operands, **parameters)

    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=names))
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=several))
    mlir.register_lowering(primitive, on_cpu, platform="cpu")


def _compile(source: pathlib.Path, link: Sequence[str]) -> pathlib.Path:
    """The compiled library."""
    command = [*_FLAGS, f"-I{jax.ffi.include_dir()}", str(source), *link]
    circumstances = f"{jaxlib.__version__} {command} {_processor()}"
    key = hashlib.sha256(source.read_bytes() + circumstances.encode()).hexdigest()[:16]
    compiled = files.cache_dir("ops") / f"{source.stem}-{key}.so"
    if compiled.exists():
        return compiled
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise UnavailableError("no C++ compiler: c++, g++ or clang++, or the one that CXX names")
    compiled.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=compiled.parent) as folder:
        made = pathlib.Path(folder) / compiled.name
        done = subprocess.run([compiler, *command, "-o", made], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{compiler} could not compile {source.name}:\n{done.stderr[-2000:]}")
        made.replace(compiled)  # at once, whatever other processes are doing
    return compiled


def _processor() -> str:
    """What -march=native depends on."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return line
    return ""

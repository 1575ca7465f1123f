"""Primitives that a compiled function computes where it may, and JAX's own operations everywhere else."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


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

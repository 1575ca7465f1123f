"""Convolution as three JAX primitives that are each other's transposes: forward, input gradient, weight gradient.

Why primitives: the formulation is chosen when a program is lowered, by the platform it is lowered for, so that a
CPU program gets the CPU's formulation even where a GPU is present, and every other platform gets XLA's convolution
as it is. And because each of the three is bilinear and the transposes of each are the other two, any order and mode
of differentiation works, none ever differentiates through a formulation, and only the two operands are kept for the
backward pass.
"""

import dataclasses
from functools import partial

import jax
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from vision_jax.ops import foreign, formulas, plan
from vision_jax.ops.geometry import Geometry

forward_p = Primitive("conv_forward")  # (x, w) -> y
input_p = Primitive("conv_input_gradient")  # (dy, w) -> dx
weight_p = Primitive("conv_weight_gradient")  # (x, dy) -> dw


def forward(x: jax.Array, w: jax.Array, g: Geometry) -> jax.Array:
    """The convolution of x [N,H,W,C] with w [h,w,C/groups,O]."""
    return forward_p.bind(x, w, geometry=g)


def input_gradient(dy: jax.Array, w: jax.Array, g: Geometry) -> jax.Array:
    """Its transpose with respect to x, which is a transposed convolution of dy."""
    return input_p.bind(dy, w, geometry=g)


def weight_gradient(x: jax.Array, dy: jax.Array, g: Geometry) -> jax.Array:
    """Its transpose with respect to w."""
    return weight_p.bind(x, dy, geometry=g)


_PLAIN = {forward_p: formulas.forward_plain, input_p: formulas.input_plain, weight_p: formulas.weight_plain}
_KIND = {forward_p: "forward", input_p: "input", weight_p: "weight"}


def _shape(primitive: Primitive, a, b, g: Geometry) -> tuple[int, ...]:
    if primitive is forward_p:
        return (a.shape[0], *g.out, b.shape[3])
    if primitive is input_p:
        return (a.shape[0], *g.image, b.shape[2] * g.groups)
    return (*g.kernel, a.shape[3] // g.groups, b.shape[3])


# For each primitive, the cotangents of its first and second operand from the result's cotangent (the first argument).
ad.defbilinear(
    forward_p,
    lambda dy, x, w, *, geometry: input_gradient(dy, w, geometry),
    lambda dy, x, w, *, geometry: weight_gradient(x, dy, geometry),
)
ad.defbilinear(
    input_p,
    lambda x, dy, w, *, geometry: forward(x, w, geometry),
    lambda x, dy, w, *, geometry: weight_gradient(x, dy, geometry),
)
ad.defbilinear(
    weight_p,
    lambda w, x, dy, *, geometry: input_gradient(dy, w, geometry),
    lambda w, x, dy, *, geometry: forward(x, w, geometry),
)


# Batching: the batch becomes part of the images' N or, where the kernel carries it too, of the channel groups.


def _into_rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])


def _into_channels(x: jax.Array) -> jax.Array:
    """[B,d0,d1,d2,C] -> [d0,d1,d2,B*C]."""
    return jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:4], -1)


def _from_channels(x: jax.Array, size: int) -> jax.Array:
    return jnp.moveaxis(x.reshape(*x.shape[:3], size, -1), 3, 0)


def _batch(primitive: Primitive, operands, axes, *, geometry: Geometry):
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True))
    if primitive is not weight_p and axes[1] is None:
        y = primitive.bind(_into_rows(a), b, geometry=geometry)
        return y.reshape(size, -1, *y.shape[1:]), 0
    a, b = (jnp.broadcast_to(x, (size, *x.shape)) if axis is None else x for x, axis in zip((a, b), axes, strict=True))
    grouped = dataclasses.replace(geometry, groups=geometry.groups * size)
    return _from_channels(primitive.bind(_into_channels(a), _into_channels(b), geometry=grouped), size), 0


def _define(primitive: Primitive) -> None:
    def abstract(a, b, *, geometry):
        if a.dtype != b.dtype:
            raise TypeError(f"convolution of {a.dtype} with {b.dtype}; cast one operand so that both have one type")
        return ShapedArray(_shape(primitive, a, b, geometry), a.dtype)

    def on_cpu(context, a, b, *, geometry):
        compute = partial(plan.compute, _KIND[primitive], geometry, one_device=foreign.on_one_device(context))
        return mlir.lower_fun(compute, multiple_results=False)(context, a, b)

    def elsewhere(a, b, *, geometry):
        return _PLAIN[primitive](geometry, a, b)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(elsewhere, multiple_results=False))
    mlir.register_lowering(primitive, on_cpu, platform="cpu")


for _primitive in (forward_p, input_p, weight_p):
    _define(_primitive)

"""Which formulation computes which convolution on a CPU, from the shapes alone."""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from vision_jax.ops import formulas as f
from vision_jax.ops import winograd
from vision_jax.ops.geometry import Geometry

Formulation = Callable[[Geometry, jax.Array, jax.Array], jax.Array]

FORWARD: dict[str, Formulation] = {
    "plain": f.forward_plain,
    "taps": f.forward_taps,
    "patches": f.forward_patches,
    "rows": f.forward_rows,
    "depthwise": f.forward_depthwise,
    "winograd": winograd.forward_winograd,
}
INPUT: dict[str, Formulation] = {
    "plain": f.input_plain,
    "taps": f.input_taps,
    **{f"by_{k}": (lambda k: lambda g, dy, w: f.input_by(FORWARD[k], g, dy, w))(k) for k in FORWARD},
}
WEIGHT: dict[str, Formulation] = {
    "plain": f.weight_plain,
    "taps": f.weight_taps,
    "patches": f.weight_patches,
    "rows": f.weight_rows,
    "depthwise": f.weight_depthwise,
    "winograd": winograd.weight_winograd,
}
ALL = {"forward": FORWARD, "input": INPUT, "weight": WEIGHT}
FORCE = {}


def applicable(kind: str, name: str, g: Geometry, c: int, o: int) -> bool:
    base = name.removeprefix("by_")
    if base == "plain" and name == "plain":
        return True
    if name.startswith("by_") and g.transposed() is None:
        return False
    if base == "depthwise":
        return g.groups == c == o
    if base == "winograd":
        return g.groups == 1 and g.kernel == (3, 3) and g.dilation == (1, 1) and (g.strides == (1, 1))
    return g.groups == 1 or base == "plain"


def choose(kind: str, g: Geometry, c: int, o: int, n: int) -> str:
    key = (kind, g, c, o, n)
    if key in FORCE:
        return FORCE[key]
    names = ALL[kind]
    taps = g.kernel[0] * g.kernel[1]
    small = min(g.image[0] * g.image[1], g.out[0] * g.out[1]) <= 2 * taps
    if g.groups > 1:
        if g.groups == c == o:
            if kind == "input":
                return "by_depthwise" if g.transposed() else "plain"
            return "depthwise"
        return "plain"
    if g.kernel == (1, 1):
        return "taps"
    wino = applicable(kind, "winograd", g, c, o) and min(c, o) >= 32
    if taps <= 25 and small and min(c, o) >= 16:
        return "taps"
    if kind == "forward":
        return "winograd" if wino else "plain"
    if kind == "input":
        if wino and g.transposed():
            return "by_winograd"
        return "by_plain" if g.transposed() else "plain"
    if wino:
        return "winograd"
    if c <= 4:
        return "rows"
    return "plain" if taps > 9 else "taps"


def compute(kind: str, g: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    if a.dtype not in (jnp.float32, jnp.float64) or 0 in a.shape or 0 in b.shape or 0 in g.out:
        return ALL[kind]["plain"](g, a, b)
    if kind == "forward":
        n, c, o = a.shape[0], a.shape[3], b.shape[3]
    elif kind == "input":
        n, c, o = a.shape[0], b.shape[2] * g.groups, a.shape[3]
    else:
        n, c, o = a.shape[0], a.shape[3], b.shape[3]
    return ALL[kind][choose(kind, g, c, o, n)](g, a, b)

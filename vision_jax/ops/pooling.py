"""Max and average pooling of [N,H,W,C] images.

XLA's gradient of a maximum over windows, select-and-scatter, runs at a twentieth of the memory's speed on a CPU.
There the maximum is written instead as a chain of comparisons between strided slices: its gradient is selects and
zero padding. Where values tie, the first of the window in reading order takes the whole gradient, as with XLA's and
PyTorch's own.
"""

import dataclasses
import operator
from collections.abc import Sequence
from functools import partial, reduce

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Shaped

Pair = tuple[int, int]
Padding = str | Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Static description of the pooling windows; `pads` as in `lax.reduce_window`, for height and width."""

    size: Pair
    strides: Pair
    pads: tuple[Pair, Pair]

    def out(self, image: Sequence[int]) -> Pair:
        """Number of windows down and across."""
        h, w = (
            (n + lo + hi - k) // s + 1
            for n, k, s, (lo, hi) in zip(image, self.size, self.strides, self.pads, strict=True)
        )
        return h, w


def _windows(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> Windows:
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    (top, bottom), (left, right) = padding
    return Windows((window[0], window[1]), (strides[0], strides[1]), ((top, bottom), (left, right)))


def _lowest(dtype) -> np.ndarray:
    """A constant: `lax.reduce_window` can only be differentiated where it sees the value it starts from."""
    return np.array(-np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype)


def max_pool(
    x: Shaped[Array, "n h w c"], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Shaped[Array, "n h2 w2 c"]:
    """Maximum over windows; `padding` is 'SAME', 'VALID' or pairs for height and width.

    NaN in a window gives NaN. Cells of padding never win.
    """
    return _pool_p.bind(x, windows=_windows(x, window, strides, padding))


def avg_pool(
    x: Float[Array, "n h w c"], window: Sequence[int], strides: Sequence[int], padding: Padding, count_include_pad: bool
) -> Float[Array, "n h2 w2 c"]:
    """Mean over windows; padding cells count in the divisor if `count_include_pad`."""
    w = _windows(x, window, strides, padding)
    h, k = w.size
    if w.size == w.strides and w.pads == ((0, 0), (0, 0)):
        # Windows side by side need no window reduction, whose gradient would be another one.
        oh, ow = w.out(x.shape[1:3])
        x = x[:, : oh * h, : ow * k].reshape(x.shape[0], oh, h, ow, k, x.shape[3])
        return reduce(operator.add, (x[:, :, i, :, j] for i in range(h) for j in range(k))) / (h * k)
    total = _window_sum(x, w)
    if count_include_pad:
        return total / (h * k)
    return total / _window_sum(jnp.ones((1, *x.shape[1:3], 1), x.dtype), w)


def _window_sum(x: jax.Array, w: Windows) -> jax.Array:
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, *_reduce_window_arguments(w))


def _reduce_window_arguments(w: Windows):
    return (1, *w.size, 1), (1, *w.strides, 1), ((0, 0), *w.pads, (0, 0))


# The two formulations of the maximum. Both are ordinary JAX code, and both gradients are JAX's.


def plain_max(w: Windows, x: jax.Array) -> jax.Array:
    """`lax.reduce_window`."""
    return lax.reduce_window(x, _lowest(x.dtype), lax.max, *_reduce_window_arguments(w))


def chained_max(w: Windows, x: jax.Array) -> jax.Array:
    """Comparisons between the strided slices that hold each window's first, second, … cell."""
    config = [(0, 0, 0), *((lo, hi, 0) for lo, hi in w.pads), (0, 0, 0)]
    if any(w.pads[0] + w.pads[1]):
        x = lax.pad(x, _lowest(x.dtype), config)
    oh, ow = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], w.size, w.strides, strict=True))
    if w.size[0] <= w.strides[0] and w.size[1] <= w.strides[1]:
        x = _running_max([_strided(x, 2, j, w.strides[1], ow) for j in range(w.size[1])])
        return _running_max([_strided(x, 1, i, w.strides[0], oh) for i in range(w.size[0])])
    # Overlapping windows: one pass, because the two passes' gradients would add up through memory twice.
    cells = [
        _strided(_strided(x, 1, i, w.strides[0], oh), 2, j, w.strides[1], ow)
        for i in range(w.size[0])
        for j in range(w.size[1])
    ]
    return _running_max(cells)


def _strided(x: jax.Array, axis: int, start: int, stride: int, count: int) -> jax.Array:
    return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def _running_max(cells: list[jax.Array]) -> jax.Array:
    best = cells[0]
    for cell in cells[1:]:
        best = jnp.where((cell > best) | (cell != cell), cell, best)  # strictly greater: the first of equals stays
    return best


# Primitives, so that the platform a program is lowered for decides (see primitive.py). `_pick_p(x, t)` takes from t the
# cells where x's windows have their maximum, `_spread_p(x, dy)` is its transpose; both are flat in x.

_pool_p = Primitive("max_pool")
_pick_p = Primitive("max_pool_pick")
_spread_p = Primitive("max_pool_spread")


def _on_cpu(w: Windows, x: jax.Array) -> jax.Array:
    # XLA's CPU compiler would round every step of a chain in bfloat16.
    return chained_max(w, x.astype(jnp.float32)).astype(x.dtype) if x.dtype == jnp.bfloat16 else chained_max(w, x)


def _pool(formulation, x, *, windows):
    return formulation(windows, x)


def _pick(formulation, x, t, *, windows):
    return jax.jvp(partial(formulation, windows), (x,), (t,))[1]


def _spread(formulation, x, dy, *, windows):
    return jax.vjp(partial(formulation, windows), x)[1](dy)[0]


def _pooled(x, *_, windows):
    return ShapedArray((x.shape[0], *windows.out(x.shape[1:3]), x.shape[3]), x.dtype)


def _batch(primitive: Primitive, operands, axes, *, windows):
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    operands = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    y = primitive.bind(*(x.reshape(-1, *x.shape[2:]) for x in operands), windows=windows)
    return y.reshape(size, -1, *y.shape[1:]), 0


for _primitive, _compute, _abstract in (
    (_pool_p, _pool, _pooled),
    (_pick_p, _pick, _pooled),
    (_spread_p, _spread, lambda x, dy, *, windows: ShapedArray(x.shape, x.dtype)),
):
    _primitive.def_impl(jax.jit(_primitive.bind, static_argnames="windows"))
    _primitive.def_abstract_eval(_abstract)
    batching.primitive_batchers[_primitive] = partial(_batch, _primitive)
    mlir.register_lowering(_primitive, mlir.lower_fun(partial(_compute, plain_max), multiple_results=False))
    mlir.register_lowering(
        _primitive, mlir.lower_fun(partial(_compute, _on_cpu), multiple_results=False), platform="cpu"
    )

ad.defjvp(_pool_p, lambda t, x, *, windows: _pick_p.bind(x, t, windows=windows))
ad.defjvp(_pick_p, None, lambda t, x, _, *, windows: _pick_p.bind(x, t, windows=windows))
ad.defjvp(_spread_p, None, lambda t, x, _, *, windows: _spread_p.bind(x, t, windows=windows))
ad.primitive_transposes[_pick_p] = lambda dy, x, t, *, windows: (None, _spread_p.bind(x, dy, windows=windows))
ad.primitive_transposes[_spread_p] = lambda t, x, dy, *, windows: (None, _pick_p.bind(x, t, windows=windows))

"""Loads one library and compares its functions with NumPy: `selftest.py NAME LIBRARY [LIBRARIES IT NEEDS]`.

A process of its own, which may crash: it ends with status 0 when this machine, this jaxlib and the library agree.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_rng = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape).astype(np.float32)


def _call(library: ctypes.CDLL, symbol: str, results: Any, *operands: np.ndarray, aliases=None, **attributes) -> Any:
    jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    call = jax.ffi.ffi_call(symbol, results, input_output_aliases=aliases)
    return jax.jit(lambda *x: call(*x, **attributes))(*operands)


def _like(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)


def _agree(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.max(np.abs(expected))))


def channels(library: ctypes.CDLL) -> None:
    """BatchNorm's sums, of enough rows for several threads."""
    x, y, shift, c = _normal(700, 65), _normal(700, 65), _normal(65), _like(65)
    for found, expected in zip(
        _call(library, "VisionJaxMoments", [c, c], x, shift), (x.mean(0), x.var(0)), strict=True
    ):
        _agree(found, expected)
    _agree(_call(library, "VisionJaxCenteredDot", c, x, shift, y), ((x - shift) * y).sum(0))
    _agree(_call(library, "VisionJaxChannelSum", c, x), x.sum(0))
    _agree(_call(library, "VisionJaxSame", _like(*x.shape), x, aliases={0: 0}), x)


def updates(library: ctypes.CDLL) -> None:
    """One step of Adam, and a norm."""
    g, m, v = _normal(40_001), _normal(40_001), _normal(40_001) ** 2
    scales = np.array([0.5, 0.25], np.float32)
    found = _call(
        library,
        "VisionJaxAdam",
        [_like(*g.shape)] * 3,
        *(g, m, v, scales),
        aliases={1: 1, 2: 2},
        b1=np.float64(0.9),
        b2=np.float64(0.99),
        eps=np.float64(1e-6),
    )
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    for a, b in zip(found, (m / 0.5 / (np.sqrt(v / 0.25) + 1e-6), m, v), strict=True):
        _agree(a, b)
    _agree(_call(library, "VisionJaxSquareSum", _like(), g), (g * g).sum())


def onednn(library: ctypes.CDLL) -> None:
    """A convolution; and its gradients, which are its transposes: (y, x * w) = (x, y *' w) = (w, x *'' y)."""
    x, w, y = _normal(2, 6, 7, 24), _normal(3, 3, 24, 40), _normal(2, 6, 7, 40)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, i : i + 6, j : j + 7] @ w[i, j] for i in range(3) for j in range(3))

    def convolve(kind: int, result: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        ones = np.array([1, 1])
        found = _call(
            library,
            "VisionJaxConvolution",
            _like(*result.shape),
            *(a, b),
            kind=np.int64(kind),
            groups=np.int64(1),
            strides=ones,
            pads=np.array([1, 1, 1, 1]),
            dilation=ones,
        )
        return np.asarray(found)

    _agree(convolve(0, y, x, w), expected)
    product = np.vdot(y, expected)
    _agree(np.vdot(x, convolve(1, x, y, w)), product)
    _agree(np.vdot(w, convolve(2, w, x, y)), product)


_TESTS: dict[str, Callable[[ctypes.CDLL], None]] = {"channels": channels, "updates": updates, "onednn": onednn}


def main(name: str, library: str, *needs: str) -> None:
    """Tests the library that was made of `NAME.cc`; one without a test is only loaded."""
    for path in (*needs, library):
        loaded = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_DEEPBIND)  # as the library will be loaded
    if name in _TESTS:
        _TESTS[name](loaded)


if __name__ == "__main__":
    main(*sys.argv[1:])

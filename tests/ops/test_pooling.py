"""Pooling equals XLA's window reductions, gradients and ties included."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp

from vision_jax import ops
from vision_jax.ops import pooling


def images(shape, dtype=jnp.float32, seed=0):
    """Few distinct values, so that most windows tie."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, shape), dtype)


def plain_max(x, window, strides, padding):
    return pooling.plain_max(pooling.Windows(window, strides, padding), x)


def plain_avg(x, window, strides, padding, count_include_pad):
    sizes = ((1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))
    total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, *sizes)
    if count_include_pad:
        return total / (window[0] * window[1])
    return total / lax.reduce_window(jnp.ones_like(x), np.zeros((), x.dtype), lax.add, *sizes)


@st.composite
def windows(draw):
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in size)
    image = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    assume(all(n + lo + hi >= k for n, k, (lo, hi) in zip(image, size, pads, strict=True)))
    return image, size, strides, pads


@settings(max_examples=25)
@given(windows(), st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_max_and_its_gradient_equal_the_plain_ones(case, dtype):
    image, *arguments = case
    x = images((2, *image, 3), dtype)
    w = pooling.Windows(*arguments)

    def both(f):
        y, vjp = jax.vjp(f, x)
        return y, vjp(y + 10)[0]

    found = jax.jit(
        lambda: (
            [both(functools.partial(f, w)) for f in (pooling.plain_max, pooling.chained_max)]
            + [both(lambda x: ops.max_pool(x, *arguments))]
        )
    )()
    for y, dx in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        a, b = (np.asarray(value, np.float32) for value in (dx, found[0][1]))
        np.testing.assert_allclose(a, b, rtol=1e-6 if dtype == jnp.float32 else 1e-2)


@settings(max_examples=15)
@given(windows(), st.booleans())
def test_mean_and_its_gradient_equal_the_plain_ones(case, count_include_pad):
    image, *arguments = case
    x = images((2, *image, 3))

    def both(f):
        y, vjp = jax.vjp(lambda x: f(x, *arguments, count_include_pad), x)
        return y, vjp(y + 10)[0]

    found, expected = jax.jit(lambda: (both(ops.avg_pool), both(plain_avg)))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


ARGUMENTS = {"side by side": ((2, 2), (2, 2), ((0, 0), (0, 0))), "overlapping": ((3, 3), (2, 2), ((1, 1), (1, 1)))}
TRANSFORMATIONS = {
    "forward": lambda f, x: jax.jvp(f, (x,), (jnp.cos(x),))[1],
    "second reverse derivative": lambda f, x: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))(x),
    "forward over reverse": lambda f, x: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),))[1],
    "vmap": lambda f, x: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
    "vmap over another axis": lambda f, x: jax.vmap(jax.value_and_grad(f), 3)(jnp.stack([x, -x], 3)),
    "vmap of the tangent alone": lambda f, x: jax.vmap(lambda t: jax.jvp(f, (x,), (t,))[1])(jnp.stack([x, -x])),
    "scan": lambda f, x: lax.scan(lambda x, _: (x - jax.grad(f)(x), f(x)), x, None, length=3),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_transformations_equal_those_of_the_plain_maximum(arguments, transformation):
    arguments, transform = ARGUMENTS[arguments], TRANSFORMATIONS[transformation]
    x = images((2, 6, 6, 3))

    def through(pool):
        return transform(lambda x: jnp.sum(jnp.sin(pool(x, *arguments) + 0.3)), x)

    found, expected = jax.jit(lambda: (through(ops.max_pool), through(plain_max)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_integers_strings_and_nan():
    x = images((1, 4, 4, 1), jnp.int32)
    np.testing.assert_array_equal(
        ops.max_pool(x, (2, 2), (2, 2), "SAME")[0, :, :, 0], np.asarray(x).reshape(2, 2, 2, 2).max((1, 3))
    )
    y = ops.max_pool(images((1, 4, 4, 1)).at[0, 1, 0, 0].set(jnp.nan), (2, 2), (2, 2), "VALID")
    assert np.isnan(np.asarray(y)).sum() == 1 and np.isnan(y[0, 0, 0, 0])


def test_other_platforms_keep_the_window_reduction():
    f = jax.jit(jax.grad(lambda x: jnp.sum(ops.max_pool(x, (2, 2), (2, 2), "VALID") ** 2)))
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    assert "select_and_scatter" in f.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "select_and_scatter" not in f.trace(x).lower(lowering_platforms=("cpu",)).as_text()

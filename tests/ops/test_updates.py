"""Adam's rule is Optax's, in every transformation that a step may be in; sums of squares keep their last digits."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax import ops, optim
from vision_jax.ops import updates

OPTIONS = {"b1": 0.5, "b2": 0.99, "eps": 1e-6}
SHAPES = [(), (1,), (7, 3), (0, 4), (3, 3, 64, 65), (100_001,)]


def after_steps(rule, gradients, steps=4):
    """Updates and state of the last of some steps."""

    @jax.jit
    def step(state, i):
        return rule.update(jax.tree.map(lambda g: jnp.sin(g * i), gradients), state)

    state = rule.init(gradients)
    for i in range(1, steps + 1):
        moved, state = step(state, jnp.asarray(i, jax.tree.leaves(gradients)[0].dtype))
    return moved, state


def assert_close(found, expected, rtol):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (np.abs(b).max(initial=0.0)))


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.02), (jnp.float64, 1e-6)])
def test_adam_is_optax_s(dtype, rtol):
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("standard"):
        gradients = [jnp.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]
        found = after_steps(optim.scale_by_adam(**OPTIONS), gradients)
        assert_close(found, after_steps(optax.scale_by_adam(**OPTIONS), gradients), rtol)


def one_update(gradient, mean, square):
    return ops.adam(gradient, mean, square, jnp.array([0.5, 0.01], gradient.dtype), **OPTIONS)


def moments(shape=(8, 5000)):
    rng = np.random.default_rng(1)
    gradient, mean, square = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(3))
    return gradient, mean, jnp.square(square)


def test_moments_that_are_not_donated_are_left_alone():
    given = moments()
    before = jax.tree.map(np.array, given)
    jax.block_until_ready(jax.jit(one_update)(*given))
    assert_close(given, before, 0.0)


def test_mapped_and_sharded_updates_are_those_of_the_whole():
    expected = jax.jit(one_update)(*moments())
    assert_close(jax.jit(jax.vmap(one_update))(*moments()), expected, 1e-6)
    split = NamedSharding(Mesh(np.array(jax.devices()), "batch"), PartitionSpec("batch"))
    found = jax.jit(one_update)(*(jax.device_put(x, split) for x in moments()))
    assert found[0].sharding == split
    assert_close(found, expected, 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_square_sums_and_norms(shape):
    x = 1000.0 + np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    expected = np.square(x, dtype=np.float64).sum()
    np.testing.assert_allclose(jax.jit(ops.square_sum)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(optim.norm)({"a": x, "b": x}), np.sqrt(2.0 * expected), rtol=1e-6)


@pytest.mark.skipif(not updates.available(), reason="compiled functions cannot be used on this machine")
def test_the_compiled_functions_are_called_in_float32_and_only_there():
    def text(dtype):
        given = [x.astype(dtype) for x in moments()]
        return jax.jit(lambda *x: (one_update(*x), ops.square_sum(x[0]))).lower(*given).as_text()

    assert all(name in text(jnp.float32) for name in ("VisionJaxAdam", "VisionJaxSquareSum"))
    assert "VisionJax" not in text(jnp.bfloat16)

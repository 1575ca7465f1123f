"""BatchNorm's maps and sums equal plain JAX in every transformation, also where a channel's mean is far from zero."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax import ops
from vision_jax.ops import channels


def normalized(x, scale, bias):
    x = ops.materialize(x)
    mean, variance = ops.moments(x, jnp.zeros_like(bias))
    return ops.normalize(x, mean, lax.rsqrt(variance + 1e-5) * scale, bias)


def plainly(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) * lax.rsqrt(x.var(axes) + 1e-5) * scale + bias


def operands(shape=(4, 5, 6, 7)):
    rng = np.random.default_rng(0)
    x = 1.0 + rng.standard_normal(shape)
    return [jnp.asarray(a, jnp.float32) for a in (x, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1]))]


def loss(f):
    return lambda *args: jnp.sum(jnp.sin(f(*args)) * jnp.cos(3.0 * args[0]))


def gradient(f):
    return jax.grad(loss(f), (0, 1, 2))


TRANSFORMATIONS = {
    "value": lambda f: f,
    "gradient": gradient,
    "gradient penalty": lambda f: jax.grad(lambda *a: sum(jnp.sum(g**2) for g in gradient(f)(*a)), (0, 1, 2)),
    "forward": lambda f: lambda *a: jax.jvp(f, a, a)[1],
    "forward over reverse": lambda f: lambda *a: jax.jvp(gradient(f), a, a)[1],
    "reverse over forward": lambda f: jax.grad(lambda *a: jnp.sum(jax.jvp(f, a, a)[1] * a[0]), (0, 1, 2)),
    "vmap": lambda f: (
        lambda x, s, b: jax.vmap(gradient(f), (0, None, 0))(jnp.stack([x, 2.0 - x]), s, jnp.stack([b, -b]))
    ),
    "scan": lambda f: lambda *a: lax.scan(lambda x, _: (f(x, *a[1:]), None), a[0], None, length=3)[0],
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations_equal_those_of_plain_jax(name):
    found, expected = (jax.jit(TRANSFORMATIONS[name](f))(*operands()) for f in (normalized, plainly))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("shape", [(3, 1), (2, 16), (700, 33), (5, 40, 40, 64)])
def test_moments_are_numpys(shape):
    rng = np.random.default_rng(1)
    x = (100.0 + rng.standard_normal(shape)).astype(np.float32)
    mean, variance = jax.jit(ops.moments)(jnp.asarray(x), jnp.full(shape[-1:], 99.0))
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(mean, x.mean(axes, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, x.var(axes, dtype=np.float64), rtol=1e-4)


def test_types_promote_as_those_of_plain_jax():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        _, scale, bias = operands()
        x = jnp.asarray(np.random.default_rng(2).standard_normal((4, 5, 6, 7)))
        for f in (lambda f: f, gradient):
            found, expected = (jax.jit(f(g))(x, scale, bias) for g in (normalized, plainly))
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


def test_sharded_over_the_batch_gives_the_statistics_of_the_whole():
    x, scale, bias = operands((8, 3, 3, 5))
    mesh = Mesh(np.array(jax.devices()), "batch")
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    found = jax.jit(gradient(normalized))(split, scale, bias)
    for a, b in zip(found, jax.jit(gradient(plainly))(x, scale, bias), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))


@pytest.mark.skipif(not channels.available(), reason="compiled functions cannot be used on this machine")
def test_the_compiled_sums_are_called_in_float32_and_only_there():
    def text(dtype):
        x, scale, bias = (a.astype(dtype) for a in operands())
        return jax.jit(gradient(normalized)).lower(x, scale, bias).as_text()

    sums = ("VisionJaxMoments", "VisionJaxCenteredDot", "VisionJaxChannelSum")
    assert all(name in text(jnp.float32) for name in sums)
    assert not any(name in text(jnp.bfloat16) for name in sums)
    assert "VisionJaxSame" in text(jnp.bfloat16)


@pytest.mark.skipif(not channels.available(), reason="compiled functions cannot be used on this machine")
def test_materialized_sums_are_not_computed_again_in_every_use():
    """As in a dense block: each of n values is used by all later ones, so that fusion makes n² / 2 terms."""

    def instructions(layers):
        def loss(x):
            for _ in range(layers):
                new = jnp.maximum(x, 0) @ jnp.ones((x.shape[1], 2))
                x = ops.materialize(jnp.concatenate([x, new], axis=1))
            return jnp.square(x).sum()

        return jax.jit(jax.grad(loss)).lower(jnp.ones((64, 8))).compile().as_text().count(" = ")

    assert instructions(24) < 2.5 * instructions(12)

"""Diversity against NumPy, where examples are equal, and far from zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.metrics import diversity


@pytest.mark.parametrize("shape", [(2, 1), (7, 5), (6, 4, 4, 3)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_it_is_numpy_s(shape, offset):
    x = (np.random.default_rng(0).normal(size=shape) + offset).astype(np.float32)
    flat = x.reshape(len(x), -1).astype(np.float64)
    assert float(diversity.minibatch_standard_deviation(jnp.asarray(x))) == pytest.approx(flat.std(0).mean(), rel=1e-4)


def test_equal_examples_have_none():
    x = jnp.broadcast_to(jnp.asarray(np.random.default_rng(0).random((4, 4, 3), np.float32)), (9, 4, 4, 3))
    assert float(diversity.minibatch_standard_deviation(x)) == pytest.approx(1e-4, rel=1e-2)  # The root of 1e-8.
    gradient = jax.grad(diversity.minibatch_standard_deviation)(x)
    assert np.isfinite(gradient).all()


def test_two_groups_of_equal_examples():
    x = jnp.asarray([[0.0, 1.0], [0.0, 1.0], [3.0, 1.0], [3.0, 1.0]])
    assert float(diversity.minibatch_standard_deviation(x)) == pytest.approx((1.5 + 1e-4) / 2, rel=1e-4)

"""Adversarial losses against their formulas, in value and gradient, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks import losses
from vision_jax.utils.options import ConfigError

REAL, FAKE = np.array([-2.0, 0.5, 3.0]), np.array([1.5, -0.25, -4.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Of each loss: the discriminator's for a real target of 0.9, its derivatives by both logits; the generator's and its.
EXPECTED = {
    "bce": (
        np.mean(-0.9 * np.log(sigmoid(REAL)) - 0.1 * np.log(1 - sigmoid(REAL))) - np.mean(np.log(1 - sigmoid(FAKE))),
        (sigmoid(REAL) - 0.9) / 3,
        sigmoid(FAKE) / 3,
        -np.mean(np.log(sigmoid(FAKE))),
        (sigmoid(FAKE) - 1) / 3,
    ),
    "hinge": (
        np.mean([3.0, 0.5, 0.0]) + np.mean([2.5, 0.75, 0.0]),
        np.array([-1, -1, 0]) / 3,
        np.array([1, 1, 0]) / 3,
        -FAKE.mean(),
        np.full(3, -1 / 3),
    ),
    "least_squares": (
        0.5 * (np.mean((REAL - 0.9) ** 2) + np.mean(FAKE**2)),
        (REAL - 0.9) / 3,
        FAKE / 3,
        0.5 * np.mean((FAKE - 1) ** 2),
        (FAKE - 1) / 3,
    ),
}


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_values_and_gradients(name):
    loss = losses.adversarial(name)
    real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    value, (by_real, by_fake) = jax.value_and_grad(loss.discriminator, (0, 1))(real, fake, 0.9)
    generator, by_generated = jax.value_and_grad(loss.generator)(fake)
    found = (value, by_real, by_fake, generator, by_generated)
    for ours, expected in zip(found, EXPECTED[name], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_loss_names_the_closest():
    with pytest.raises(ConfigError, match="'hing'; did you mean 'hinge'"):
        losses.adversarial("hing")

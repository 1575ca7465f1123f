"""Test-time augmentation against its definition written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks import views

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 2), dtype=np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(5 * 6 * 2, 4)).astype(np.float32)


def logits_of(images):
    return jnp.tanh(jnp.asarray(images, jnp.float32).reshape(len(images), -1) @ WEIGHTS / 300)


def by_hand(images):
    return np.asarray(logits_of(images))


def test_flip_is_the_mean_of_an_image_and_its_mirror_image():
    found = views.averaged(logits_of, jnp.asarray(IMAGES), logits_of(IMAGES), "flip")
    np.testing.assert_allclose(found, (by_hand(IMAGES) + by_hand(IMAGES[:, :, ::-1])) / 2, rtol=1e-5, atol=1e-6)


def test_flip_shift_gives_half_of_the_weight_to_two_shifts():
    found = views.averaged(logits_of, jnp.asarray(IMAGES), logits_of(IMAGES), "flip_shift")
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = 0.0
    for weight, image in ((0.5, IMAGES), (0.25, padded[:, :-2, :-2]), (0.25, padded[:, 2:, 2:])):
        expected = expected + weight * (by_hand(image) + by_hand(image[:, :, ::-1])) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_plain_logits_are_not_computed_again():
    calls = []

    def counted(images):
        calls.append(images)
        return logits_of(images)

    views.averaged(counted, jnp.asarray(IMAGES), logits_of(IMAGES), "flip_shift")
    assert len(calls) == views.VIEWS["flip_shift"] - 1
    with pytest.raises(ValueError, match="no views 'none'"):
        jax.eval_shape(lambda: views.averaged(logits_of, IMAGES, logits_of(IMAGES), "none"))

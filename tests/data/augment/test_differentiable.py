"""DiffAugment against its authors' formulas in PyTorch, at the same draws; and what draws and gradients are like."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax.data.augment import differentiable

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 8, 10, 3)).astype(np.float32)


def test_color_is_the_authors_order():
    rng = np.random.default_rng(1)
    brightness, saturation, contrast = (rng.uniform(0, 2, 6).astype(np.float32) for _ in range(3))
    found = differentiable.color(jnp.asarray(IMAGES), *map(jnp.asarray, (brightness, saturation, contrast)))
    x = torch.tensor(IMAGES).permute(0, 3, 1, 2)
    b, s, c = (torch.tensor(v).view(-1, 1, 1, 1) for v in (brightness, saturation, contrast))
    x = x + b
    x = (x - x.mean(1, keepdim=True)) * s + x.mean(1, keepdim=True)
    x = (x - x.mean((1, 2, 3), keepdim=True)) * c + x.mean((1, 2, 3), keepdim=True)
    np.testing.assert_allclose(found, x.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_translation_brings_in_zeros():
    down, right = jnp.array([0, 2, -3, 0, 8, -8]), jnp.array([0, -1, 4, 3, 0, 10])
    found = np.asarray(differentiable.translate(jnp.asarray(IMAGES), down, right))
    for image, moved, y, x in zip(IMAGES, found, down.tolist(), right.tolist(), strict=True):
        expected = np.zeros_like(image)
        for row in range(8):
            for column in range(10):
                if 0 <= row - y < 8 and 0 <= column - x < 10:
                    expected[row, column] = image[row - y, column - x]
        np.testing.assert_array_equal(moved, expected)


def test_cutout_may_lie_partly_outside():
    found = np.asarray(differentiable.cut_out(jnp.asarray(IMAGES[:2]), jnp.array([-2, 6]), jnp.array([3, 8]), (4, 5)))
    expected = IMAGES[:2].copy()
    expected[0, :2, 3:8] = 0
    expected[1, 6:, 8:] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("policy", differentiable.POLICIES)
def test_each_image_has_draws_of_its_own_within_the_authors_ranges(policy):
    images = jnp.ones((400, 16, 16, 1)) if policy != "color" else jnp.asarray(np.tile(IMAGES[:1], (400, 1, 1, 1)))
    found = np.asarray(differentiable.diff_augment(jax.random.key(0), images, (policy,)))
    again = np.asarray(differentiable.diff_augment(jax.random.key(1), images, (policy,)))
    assert len(np.unique(found.reshape(400, -1), axis=0)) > 20 and not np.array_equal(found, again)
    zeros = (found == 0).sum((1, 2, 3))
    if policy == "translation":  # By two of sixteen pixels at most.
        assert zeros.max() == 16 * 16 - 14 * 14 and zeros.min() == 0
    elif policy == "cutout":  # Half of each side, centered anywhere.
        assert zeros.max() == 64 and zeros.min() == 16
    else:
        shift = found.mean((1, 2, 3)) - np.asarray(images).mean((1, 2, 3))
        assert -0.5 <= shift.min() < -0.4 and 0.4 < shift.max() <= 0.5


def test_gradients_pass_through_all():
    def total(images):
        return jnp.sum(differentiable.diff_augment(jax.random.key(0), images, differentiable.POLICIES) ** 2)

    gradient = np.asarray(jax.grad(total)(jnp.asarray(IMAGES)))
    assert np.isfinite(gradient).all() and (gradient != 0).any((1, 2, 3)).all()

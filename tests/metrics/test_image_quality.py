"""Luma against the figures of the standard, PSNR against what can be worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.metrics import image_quality


def test_luma_of_the_primaries_is_that_of_the_standard():
    colors = jnp.asarray([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], jnp.float32)
    np.testing.assert_allclose(image_quality.luma(colors), [16, 81.481, 144.553, 40.966, 235], atol=1e-4)
    np.testing.assert_allclose(image_quality.luma(jnp.asarray([[0.0], [0.5], [1.0]])), [16, 125.5, 235], atol=1e-4)


def test_psnr_of_a_constant_difference():
    references = np.zeros((3, 6, 8, 1), np.float32)
    images = np.zeros_like(references)
    images[0] += 10 / 255
    images[1, :, :4] += 1.0  # Half of the pixels by all of the range.
    found = image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 0)
    expected = [20 * np.log10(255 / (219 * 10 / 255)), 20 * np.log10(255 / 219) + 10 * np.log10(2), np.inf]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    green = jnp.broadcast_to(jnp.asarray([0.2, 0.4, 0.6]), (1, 6, 8, 3))
    found = image_quality.psnr_y(green, green.at[..., 1].add(0.2), 2)
    assert float(found[0]) == pytest.approx(20 * np.log10(255 / (0.2 * 128.553)), rel=1e-5)


@pytest.mark.parametrize(("place", "inside"), [((0, 3), 0), ((1, 3), 1), ((5, 3), 0), ((4, 3), 1), ((3, 0), 0)])
def test_the_border_is_shaved_on_all_sides(place, inside):
    references = np.zeros((1, 6, 8, 1), np.float32)
    images = references.copy()
    images[0, *place] = 1.0
    (found,) = image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 1)
    # One pixel in the 4 x 6 that are left.
    assert float(found) == (pytest.approx(20 * np.log10(255 / 219) + 10 * np.log10(24)) if inside else np.inf)
    assert np.isfinite(image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 0))


def test_images_are_compared_as_they_would_be_written_to_files():
    references = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 5, 5, 3)), jnp.float32) / 255.0
    assert np.isposinf(image_quality.psnr_y(references + 0.4 / 255, references, 0))
    assert np.isfinite(image_quality.psnr_y(references + 0.6 / 255, references, 0))
    ends = jnp.asarray([0.0, 1.0]).reshape(1, 1, 2, 1)
    assert np.isposinf(image_quality.psnr_y(ends * 3 - 1, ends, 0))  # -1 and 2.


def test_psnr_on_luma_with_shaved_borders():
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 256, (2, 12, 14, 3)).astype(np.float64) for _ in range(2))
    ys = [16 + (x / 255) @ np.array([65.481, 128.553, 24.966]) for x in (a, b)]
    error = ((ys[0] - ys[1])[:, 2:-2, 2:-2] ** 2).mean((1, 2))
    found = image_quality.psnr_y(*(jnp.asarray(x / 255, jnp.float32) for x in (a, b)), shave=2)
    np.testing.assert_allclose(found, 10 * np.log10(255**2 / error), rtol=1e-5)
    assert np.isinf(image_quality.psnr_y(jnp.ones((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1)), shave=1)[0])

"""Noise of generators: its distribution, what it depends on, and the way between two draws in its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vision_jax.tasks import latent

KEY = jax.random.key(3)


@pytest.mark.parametrize("truncation", [1.0, 0.6])
def test_noise_has_its_distribution_and_does_not_depend_on_how_much_is_drawn(truncation):
    noise = np.asarray(latent.noise(KEY, 500, 40, truncation))
    assert noise.shape == (500, 40) and noise.dtype == np.float32
    expected = scipy.stats.norm() if truncation == 1.0 else scipy.stats.truncnorm(-2, 2, scale=truncation)
    assert scipy.stats.kstest(noise.ravel(), expected.cdf).pvalue > 0.01
    assert (np.abs(noise).max() > 3) if truncation == 1.0 else (np.abs(noise).max() <= 2 * truncation)
    np.testing.assert_array_equal(latent.noise(KEY, 7, 40, truncation), noise[:7])
    assert len(np.unique(noise[:, 0])) == 500


@pytest.mark.parametrize("truncation", [0.0, -1.0, 1.5, float("nan")])
def test_a_truncation_out_of_range_is_refused(truncation):
    with pytest.raises(ValueError, match="expected a number above 0 up to 1"):
        latent.noise(KEY, 1, 4, truncation)


@pytest.mark.parametrize("spherical", [True, False])
def test_the_way_between_two_rows(spherical):
    first, second = latent.noise(KEY, 3, 50), latent.noise(jax.random.key(4), 3, 50)
    found = np.asarray(latent.interpolate(first, second, 5, spherical=spherical)).reshape(3, 5, 50)
    np.testing.assert_allclose(found[:, 0], first, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], second, atol=1e-6)
    for way, a, b in zip(found, np.asarray(first, np.float64), np.asarray(second, np.float64), strict=True):
        angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for t, point in zip(np.linspace(0, 1, 5), way, strict=True):
            expected = (1 - t) * a + t * b
            if spherical:
                expected = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
            np.testing.assert_allclose(point, expected, atol=1e-5)


def test_a_spherical_way_stays_on_the_sphere_and_parallel_rows_go_straight():
    first = jnp.asarray([[3.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    second = jnp.asarray([[0.0, 3.0], [3.0, 0.0], [-1.0, -1.0]])
    ways = np.asarray(latent.interpolate(first, second, 3)).reshape(3, 3, 2)
    np.testing.assert_allclose(np.linalg.norm(ways[0], axis=-1), 3.0, rtol=1e-6)
    np.testing.assert_allclose(ways[1], [[1, 0], [2, 0], [3, 0]], atol=1e-6)
    np.testing.assert_allclose(ways[2], [[1, 1], [0, 0], [-1, -1]], atol=1e-6)

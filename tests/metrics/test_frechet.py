"""Pooling against NumPy's means, moments against `np.cov`, the distance against its closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from vision_jax.metrics import frechet


def test_pixels_are_pooled_in_blocks_where_the_side_divides_both():
    images = np.random.default_rng(0).random((3, 4, 6, 2), np.float32)
    blocks = [[images[:, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean((1, 2)) for j in (0, 1)] for i in (0, 1)]
    pooled = np.asarray(frechet.pooled_pixels(jnp.asarray(images), 2))
    assert pooled.shape == (3, 8)
    np.testing.assert_allclose(pooled.reshape(3, 2, 2, 2), np.moveaxis(blocks, 2, 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (4, 7), (7, 4)])
def test_pixels_are_resized_without_aliases_where_it_does_not(shape):
    images = np.random.default_rng(1).random((2, *shape, 3), np.float32)
    expected = jax.image.resize(jnp.asarray(images), (2, 4, 4, 3), "linear", antialias=True)
    np.testing.assert_array_equal(frechet.pooled_pixels(jnp.asarray(images), 4), expected.reshape(2, -1))
    board = jnp.indices((8 * shape[0] + 1, 8 * shape[1] + 1)).sum(0) % 2
    pooled = frechet.pooled_pixels(board[None, :, :, None].astype(jnp.float32), 2)
    np.testing.assert_allclose(pooled, 0.5, atol=0.05)


def test_moments_leave_padding_out_and_make_numpy_s_covariance():
    rng = np.random.default_rng(2)
    features = rng.normal(3.0, 2.0, (40, 5)).astype(np.float32)
    mask = (np.arange(40) < 33).astype(np.float32)
    sums = jax.device_get(frechet.moments(jnp.asarray(features), jnp.asarray(mask)))
    mean, covariance = frechet.gaussian(sums["first"], sums["second"], 33)
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(mean, features[:33].mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(features[:33].T), rtol=1e-4, atol=1e-4)


def test_a_covariance_takes_two_examples():
    mean, covariance = frechet.gaussian(np.array([4.0]), np.array([[10.0]]), 2)  # Of 1 and 3.
    assert mean == [2.0] and covariance == [[2.0]]
    with pytest.raises(ValueError, match="two examples or more; found 1"):
        frechet.gaussian(np.array([1.0]), np.array([[1.0]]), 1)


def test_the_distance_of_independent_gaussians_is_that_of_means_and_deviations():
    mean1, mean2 = np.array([1.0, 2.0, 0.0]), np.array([-1.0, 2.5, 0.0])
    deviation1, deviation2 = np.array([0.1, 2.0, 0.0]), np.array([0.3, 0.5, 0.2])
    expected = ((mean1 - mean2) ** 2).sum() + ((deviation1 - deviation2) ** 2).sum()
    found = frechet.distance(mean1, np.diag(deviation1**2), mean2, np.diag(deviation2**2))
    assert isinstance(found, float) and found == pytest.approx(expected)


def test_the_distance_is_the_formula_with_the_root_of_a_product():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(50, 6)), rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    mean1, mean2, s1, s2 = first.mean(0), second.mean(0), np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(s1 + s2 - 2 * root)
    assert frechet.distance(mean1, s1, mean2, s2) == pytest.approx(expected)
    assert frechet.distance(mean2, s2, mean1, s1) == pytest.approx(expected)
    assert frechet.distance(mean1, s1, mean1, s1) == pytest.approx(0.0, abs=1e-9)


def test_rounding_below_zero_in_singular_covariances_does_no_harm():
    mean, covariance = np.zeros(2), np.diag([1.0, -1e-12])
    assert frechet.distance(mean, covariance, mean, covariance) == pytest.approx(0.0, abs=1e-9)
    assert frechet.distance(mean, covariance, mean, np.diag([-1e-12, 4.0])) == pytest.approx(5.0)


def test_frechet_distance_of_known_gaussians():
    mean, covariance = np.array([1.0, 2.0]), np.diag([4.0, 9.0])
    assert frechet.distance(mean, covariance, mean, covariance) == pytest.approx(0.0, abs=1e-9)
    # Axis-aligned: |dm|^2 + sum (s1 - s2)^2.
    assert frechet.distance(mean, covariance, mean + 3, np.diag([1.0, 1.0])) == pytest.approx(18 + 1 + 4)


def test_frechet_distance_matches_scipy_on_full_covariances():
    scipy = pytest.importorskip("scipy.linalg")
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(50, 6)) @ generator.normal(size=(6, 6)) for _ in range(2))
    s1, s2 = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.sqrtm(s1 @ s2).real)
    assert frechet.distance(a.mean(0), s1, b.mean(0), s2) == pytest.approx(expected, rel=1e-6)


def test_moments_over_masked_batches_are_numpy_s_mean_and_covariance():
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    mask = (np.arange(20) < 15).astype(np.float32)
    sums = jax.device_get(frechet.moments(jnp.asarray(features), jnp.asarray(mask)))
    mean, covariance = frechet.gaussian(sums["first"], sums["second"], 15)
    np.testing.assert_allclose(mean, features[:15].mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(features[:15].T), rtol=1e-4)
    with pytest.raises(ValueError, match="two examples"):
        frechet.gaussian(sums["first"], sums["second"], 1)


@pytest.mark.parametrize("size", [8, 16, 12])
def test_pooling_keeps_the_mean(size):
    images = jnp.asarray(np.random.default_rng(0).random((2, size, size, 3)), jnp.float32)
    pooled = frechet.pooled_pixels(images, 8)
    assert pooled.shape == (2, 192)
    np.testing.assert_allclose(pooled.mean(1), images.mean((1, 2, 3)), rtol=2e-2)

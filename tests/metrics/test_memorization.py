"""Nearest training images against all distances at once; copies are found."""

import weakref

import numpy as np
import pytest

from vision_jax.metrics import memorization

RNG = np.random.default_rng(0)


def images(count, shape=(4, 4, 3)):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("rows_per_block", [1, 7, 1000])
def test_the_nearest_are_those_of_all_distances_whatever_the_block(monkeypatch, rows_per_block):
    monkeypatch.setattr(memorization, "_BLOCK", rows_per_block * 8 * 48)
    samples, training = images(5), images(40)
    indices, distances, found = memorization.nearest(samples, training, 4)
    difference = samples[:, None].astype(float) - training[None]
    expected = np.sqrt((difference**2).sum((2, 3, 4)))
    np.testing.assert_array_equal(indices, np.argsort(expected, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :4], rtol=1e-12)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, training[indices])


def test_of_the_training_images_no_more_than_a_block_and_the_nearest_are_kept(monkeypatch):
    monkeypatch.setattr(memorization, "_BLOCK", 5 * 8 * 48)
    read, living = [], []

    def training():
        for image in images(60):
            read.append(weakref.ref(image))
            living.append(sum(found() is not None for found in read))
            yield image

    memorization.nearest(images(2), training(), 2)
    assert len(living) == 60 and max(living) <= 2 * 5


@pytest.mark.parametrize("rows_per_block", [4, 1000])
def test_copies_are_found_at_distance_zero_and_of_equals_the_first(monkeypatch, rows_per_block):
    monkeypatch.setattr(memorization, "_BLOCK", rows_per_block * 8 * 48)
    training = images(30)
    training[20] = training[3]
    indices, distances, _ = memorization.nearest(training[[20, 9]], training)
    assert indices.dtype == np.int64 and indices[0, :2].tolist() == [3, 20] and indices[1, 0] == 9
    assert distances[0, :2].tolist() == [0, 0] and distances[1, 0] == 0 and distances[0, 2] > 0


def test_features_and_many_samples():
    training = RNG.normal(size=(6, 10)).astype(np.float32)
    samples = training[np.arange(2500) % 6] + np.float32(1e-3)
    indices, distances, _ = memorization.nearest(samples, training, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(2500) % 6)
    np.testing.assert_allclose(distances, 1e-3 * np.sqrt(10), rtol=1e-3)
    assert [found.shape for found in memorization.nearest(samples[:0], training, 2)] == [(0, 2), (0, 2), (0, 2, 10)]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"samples are \[4, 4, 1\], the training images \[4, 4, 3\]"):
        memorization.nearest(images(2, (4, 4, 1)), images(5))
    with pytest.raises(ValueError, match="4 neighbors were asked for; there are 3"):
        memorization.nearest(images(2), images(3), 4)

"""Centroids and distances in a plane, where they can be read off."""

import numpy as np

from vision_jax.analysis import centroids

FEATURES = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [9.0, 0.0], [4.0, 3.0]], np.float32)
LABELS = np.array([0, 0, 1, 0, 1])


def test_centroids_are_means_and_absent_classes_have_none():
    centers = centroids.centroids(FEATURES[:3], LABELS[:3], 3)
    np.testing.assert_array_equal(centers[:2], [[1, 0], [10, 0]])
    assert np.isnan(centers[2]).all()


def test_distances_of_mistakes_to_both_classes():
    centers = np.array([[1.0, 0.0], [10.0, 0.0], [np.nan, np.nan]])
    found = centroids.of_mistakes(FEATURES, LABELS, np.array([0, 0, 1, 1, 0]), centers)
    assert found.rows.tolist() == [3, 4]
    np.testing.assert_allclose(found.true, [8, np.hypot(6, 3)])
    np.testing.assert_allclose(found.predicted, [1, np.hypot(3, 3)])
    assert found.nearer_to_predicted == 1.0
    other = centroids.of_mistakes(FEATURES, LABELS, np.array([0, 1, 0, 2, 0]), centers)
    assert other.rows.tolist() == [1, 2, 4]  # Not the one that is taken for a class without a centroid.
    assert other.nearer_to_predicted == 1 / 3
    assert np.isnan(centroids.of_mistakes(FEATURES, LABELS, LABELS, centers).nearer_to_predicted)

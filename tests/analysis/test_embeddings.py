"""Embeddings keep neighbors together and are the same every time."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from vision_jax.analysis import embeddings


@pytest.mark.parametrize("dimensions", [2, 3])
def test_clusters_stay_apart_and_equal_input_gives_equal_output(dimensions):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 80)) + 6 * rng.normal(size=(3, 80))[labels]
    points = embeddings.tsne(features, dimensions)
    assert points.shape == (60, dimensions) and points.dtype == np.float32
    assert KNeighborsClassifier(3).fit(points[:30], labels[:30]).score(points[30:], labels[30:]) == 1.0
    np.testing.assert_array_equal(points, embeddings.tsne(features, dimensions))


def test_few_examples_and_few_features():
    assert embeddings.tsne(np.random.default_rng(0).normal(size=(5, 1)), 2).shape == (5, 2)
    with pytest.raises(ValueError, match="of 4 examples; it needs 5"):
        embeddings.tsne(np.zeros((4, 3)), 2)


@pytest.mark.parametrize("value", [0.0, 1 / 3])
def test_features_that_are_all_equal_have_an_embedding(value):
    """As those of a network whose units are all dead: there is nothing to see, and the process lives on."""
    points = embeddings.tsne(np.full((60, 16), value), 2)
    assert points.shape == (60, 2) and np.isfinite(points).all()


def test_a_subset_is_drawn_once_and_for_all():
    rows = embeddings.subset(1000, 10)
    assert len(set(rows.tolist())) == 10 and (np.diff(rows) > 0).all() and rows.max() < 1000
    np.testing.assert_array_equal(rows, embeddings.subset(1000, 10))
    assert rows.tolist() != embeddings.subset(1000, 10, seed=1).tolist()
    np.testing.assert_array_equal(embeddings.subset(7, 10), np.arange(7))

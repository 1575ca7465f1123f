"""Planted wrong labels are found."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from vision_jax.analysis import labels


def test_an_example_seems_to_be_of_the_likeliest_class_that_reaches_its_threshold():
    label = np.array([0, 0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.55, 0.45, 0.0], [0.4, 0.6, 0.0]])
    found = labels.disagreements(label, probabilities)  # Thresholds: 0.7 and 0.525; class 2 has none.
    assert found.suggested.tolist() == [0, 0, 1, 1, 1]
    assert found.rows.tolist() == [4, 3, 2, 1, 0]
    assert found.probability.tolist() == [0.9, 0.8, 0.6, 0.45, 0.4]
    assert found.suspects.tolist() == [4]


def test_planted_flips_are_found():
    """5 % of the digits get another label.

    Of these 89, at least 75 % are among the suspects, of which at least 88 % are flips; of the first 89 in the ranking
    at least 90 % are flips, and the first 178 hold at least 95 % of them.
    """
    digits = load_digits()
    rng = np.random.default_rng(0)
    flipped = rng.choice(len(digits.target), len(digits.target) // 20, replace=False)
    given = digits.target.copy()
    given[flipped] = (given[flipped] + rng.integers(1, 10, len(flipped))) % 10
    probabilities = cross_val_predict(KNeighborsClassifier(10), digits.data / 16, given, cv=3, method="predict_proba")
    found = labels.disagreements(given, probabilities)
    hits = np.isin(found.suspects, flipped)
    recall, precision = hits.sum() / len(flipped), hits.mean()
    assert recall >= 0.75 and precision >= 0.88, (recall, precision)
    assert np.isin(found.rows[: len(flipped)], flipped).mean() >= 0.9
    assert np.isin(flipped, found.rows[: 2 * len(flipped)]).mean() >= 0.95
    assert (found.suggested[flipped] == digits.target[flipped]).sum() >= 0.9 * hits.sum()

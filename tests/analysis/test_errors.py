"""Tables of mistakes, counted by hand."""

import numpy as np
import pytest

from vision_jax.analysis import errors

MATRIX = np.array([[7, 2, 1], [0, 9, 1], [4, 0, 6]])


@pytest.fixture
def predictions():
    probabilities = np.array([[0.9, 0.06, 0.04], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.3, 0.36, 0.34]])
    return errors.Predictions(np.array([3, 5, 8, 9]), np.array([0, 2, 2, 1]), np.log(probabilities))


def test_probabilities_and_hits(predictions):
    np.testing.assert_allclose(predictions.probabilities, np.exp(predictions.logits))
    np.testing.assert_allclose(predictions.confidence, [0.9, 0.7, 0.5, 0.36])
    assert predictions.predicted.tolist() == [0, 1, 0, 1] and predictions.hit.tolist() == [True, False, False, True]
    assert predictions.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]


def test_huge_logits_have_probabilities(predictions):
    huge = errors.Predictions(np.array([0]), np.array([1]), np.array([[5000.0, -5000.0]], np.float32))
    assert huge.probabilities.tolist() == [[1.0, 0.0]]


def test_the_surest_mistakes_and_the_most_doubtful_hits_come_first(predictions):
    assert predictions.most_confident_mistakes(9).tolist() == [1, 2]
    assert predictions.most_confident_mistakes(1).tolist() == [1]
    assert predictions.least_confident_hits(9).tolist() == [3, 0]


def test_a_sample_has_as_many_of_each_class_and_is_always_the_same():
    label = np.random.default_rng(1).integers(0, 5, 200)
    rows = errors.sample_per_class(label, 3, 5)
    assert label[rows].tolist() == np.repeat(np.arange(5), 3).tolist() and len(set(rows)) == 15
    assert rows.tolist() == errors.sample_per_class(label, 3, 5).tolist()
    assert not np.array_equal(rows[:3], np.flatnonzero(label == 0)[:3])
    assert len(set(label[errors.sample_per_class(label, 3, 2)])) == 2


def test_pairs_are_counted_in_both_directions():
    first, second, third = errors.confused_pairs(MATRIX)
    assert first == errors.ConfusedPair(2, 0, 4, 1, 5 / 20)  # Third taken for first more often than the reverse.
    assert second == errors.ConfusedPair(0, 1, 2, 0, 2 / 20)
    assert third == errors.ConfusedPair(1, 2, 1, 0, 1 / 20)
    assert errors.confused_pairs(MATRIX, 1) == [first]
    assert errors.confused_pairs(np.diag([3, 4])) == []


def test_who_is_taken_for_whom():
    assert errors.taken_for(MATRIX) == [[(1, 0.2), (2, 0.1)], [(2, 0.1)], [(0, 0.4)]]
    assert errors.taken_for(MATRIX, 1)[0] == [(1, 0.2)]
    assert errors.taken_for(np.zeros((2, 2), int)) == [[], []]


def test_superclasses_are_put_together():
    superclasses = ["b", "a", "b"]
    assert errors.group_order(superclasses).tolist() == [1, 0, 2]
    grouped, names = errors.group_confusion(MATRIX, superclasses)
    assert names == ["a", "b"]
    assert grouped.tolist() == [[9, 0 + 1], [2 + 0, 7 + 1 + 4 + 6]]

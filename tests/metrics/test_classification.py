"""Measures of a confusion matrix against scikit-learn's of the same predictions."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference

from vision_jax.metrics import classification


def predictions(classes, count=200):
    rng = np.random.default_rng(classes)
    return rng.integers(0, classes, count), rng.integers(0, classes, count)


@pytest.mark.parametrize("classes", [2, 7])
def test_counts_accuracy_and_f1_are_scikit_learn_s(classes):
    labels, found = predictions(classes)
    confusion = np.asarray(
        classification.confusion(jnp.asarray(labels), jnp.asarray(found), jnp.ones(len(labels)), classes)
    )
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, found))
    assert classification.accuracy(confusion) == pytest.approx(reference.accuracy_score(labels, found))
    assert classification.macro_f1(confusion) == pytest.approx(reference.f1_score(labels, found, average="macro"))
    rows = classification.per_class(confusion)
    precision, recall, _, count = reference.precision_recall_fscore_support(labels, found)
    np.testing.assert_allclose(rows, np.stack([count, recall, precision], 1))


def test_rows_behind_the_mask_do_not_count():
    labels, found = predictions(3, 10)
    mask = jnp.asarray([1.0] * 6 + [0.0] * 4)
    confusion = classification.confusion(jnp.asarray(labels), jnp.asarray(found), mask, 3)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels[:6], found[:6], labels=range(3)))


def test_a_class_that_is_neither_true_nor_predicted_counts_nothing_and_has_no_rates():
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert classification.macro_f1(confusion) == pytest.approx((6 / 7 + 4 / 5 + 0) / 3)
    assert classification.per_class(confusion) == [(4, 0.75, 1.0), (2, 1.0, pytest.approx(2 / 3)), (0, None, None)]

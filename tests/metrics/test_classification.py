"""Measures of a classifier against scikit-learn's of the same predictions, and against formulas written out."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from vision_jax.metrics import classification


def predictions(classes, count=200):
    rng = np.random.default_rng(classes)
    return rng.integers(0, classes, count), rng.integers(0, classes, count)


def scores(classes, count=500):
    """Labels, and logits of a classifier that is often right and too sure of itself."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, count)
    return labels, (rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]).astype(np.float32) * 2


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 7])
def test_counts_accuracy_and_f1_are_scikit_learn_s(classes):
    labels, found = predictions(classes)
    confusion = np.asarray(
        classification.confusion(jnp.asarray(labels), jnp.asarray(found), jnp.ones(len(labels)), classes)
    )
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, found))
    assert classification.accuracy(confusion) == pytest.approx(reference.accuracy_score(labels, found))
    for average, ours in (("macro", classification.macro_f1), ("weighted", classification.weighted_f1)):
        assert ours(confusion) == pytest.approx(reference.f1_score(labels, found, average=average))
    np.testing.assert_allclose(classification.f1(confusion), reference.f1_score(labels, found, average=None))
    rows = classification.per_class(confusion)
    precision, recall, _, count = reference.precision_recall_fscore_support(labels, found)
    np.testing.assert_allclose(rows, np.stack([count, recall, precision], 1))


def test_rows_behind_the_mask_do_not_count():
    labels, found = predictions(3, 10)
    mask = jnp.asarray([1.0] * 6 + [0.0] * 4)
    confusion = classification.confusion(jnp.asarray(labels), jnp.asarray(found), mask, 3)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels[:6], found[:6], labels=range(3)))
    labels, logits = scores(3, 10)
    arrays = jnp.asarray(logits), jnp.asarray(labels)
    masked, kept = (jnp.asarray([1.0] * n + [0.0] * (10 - n)) for n in (6, 10))
    assert int(classification.top_k_hits(*arrays, masked, 2)) == int(
        classification.top_k_hits(*(x[:6] for x in arrays), kept[:6], 2)
    )
    ours = classification.calibration_sums(*arrays, masked)
    for name, value in classification.calibration_sums(*(x[:6] for x in arrays), kept[:6]).items():
        np.testing.assert_allclose(ours[name], value)
    assert int(ours["bin_examples"].sum()) == 6


def test_a_class_that_is_neither_true_nor_predicted_counts_nothing_and_has_no_rates():
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert classification.macro_f1(confusion) == pytest.approx((6 / 7 + 4 / 5 + 0) / 3)
    assert classification.per_class(confusion) == [(4, 0.75, 1.0), (2, 1.0, pytest.approx(2 / 3)), (0, None, None)]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_scikit_learn_s(k):
    labels, logits = scores(8)
    hits = classification.top_k_hits(jnp.asarray(logits), jnp.asarray(labels), jnp.ones(len(labels)), k)
    expected = reference.top_k_accuracy_score(labels, logits, k=k)
    assert int(hits) / len(labels) == pytest.approx(expected) and 0 < expected < 1


def test_of_equal_logits_the_lower_classes_come_first():
    labels = jnp.asarray([0, 1, 2, 3])
    assert int(classification.top_k_hits(jnp.zeros((4, 4)), labels, jnp.ones(4), 2)) == 2


@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_error_and_reliability(classes):
    labels, logits = scores(classes)
    sums = classification.calibration_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.ones(len(labels)))
    probabilities = softmax(logits)
    confidence, hit = probabilities.max(-1), probabilities.argmax(-1) == labels
    error = 0.0
    accuracy, mean = np.full(15, np.nan), np.full(15, np.nan)
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            accuracy[i], mean[i] = hit[inside].mean(), confidence[inside].mean()
            error += inside.mean() * abs(accuracy[i] - mean[i])
    assert classification.expected_calibration_error(sums) == pytest.approx(error, abs=1e-6)
    assert error > 0.02
    for ours, expected in zip(classification.reliability(sums), (accuracy, mean), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_reliability_of_two_classes_is_scikit_learn_s():
    labels, logits = scores(2)
    probability = softmax(logits)[:, 1]
    sure = probability > 0.5  # Of these, the predicted class is the one whose bins scikit-learn takes.
    theirs, mean = calibration_curve(labels[sure], probability[sure], n_bins=15)
    sums = classification.calibration_sums(
        jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(sure.astype(np.float32))
    )
    for ours, expected in zip(classification.reliability(sums), (theirs, mean), strict=True):
        np.testing.assert_allclose(ours[~np.isnan(ours)], expected, rtol=1e-5)


def test_certainty_and_indifference_have_a_bin():
    logits = jnp.asarray([[500.0, 0.0], [0.0, 0.0]])
    sums = classification.calibration_sums(logits, jnp.asarray([0, 1]), jnp.ones(2), bins=4)
    assert sums["bin_examples"].tolist() == [0, 1, 0, 1] and sums["bin_hits"].tolist() == [0, 0, 0, 1]
    assert classification.expected_calibration_error(sums) == pytest.approx(0.25)


def test_sums_of_parts_are_the_sums_of_the_whole():
    labels, logits = map(jnp.asarray, scores(4, 101))
    whole = classification.calibration_sums(logits, labels, jnp.ones(101))
    parts = [
        classification.calibration_sums(logits[rows], labels[rows], jnp.ones(len(labels[rows])))
        for rows in (slice(0, 37), slice(37, 101))
    ]
    for name, value in whole.items():
        np.testing.assert_allclose(value, parts[0][name] + parts[1][name], rtol=1e-6)


def test_areas_under_the_curve_are_scikit_learn_s():
    labels, logits = scores(5)
    probabilities = softmax(logits)
    areas = classification.roc_auc(labels, probabilities)
    assert areas.mean() == pytest.approx(reference.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert areas.shape == (5,) and areas.min() > 0.5
    areas = classification.roc_auc(np.array([0, 0, 2]), np.eye(3)[[0, 2, 2]])
    np.testing.assert_allclose(areas, [0.75, np.nan, 0.75])

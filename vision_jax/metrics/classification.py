"""Measures of a classifier: from sums that a device can add up, or from the scores of all examples."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

CALIBRATION_BINS = 15  # As in Guo et al. 2017.


def confusion(labels: jax.Array, predicted: jax.Array, mask: jax.Array, classes: int) -> jax.Array:
    """Counts int32 [classes, classes] of (true, predicted) over the rows where `mask` [N] is 1; both are int [N]."""
    return jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(mask.astype(jnp.int32))


def top_k_hits(logits: jax.Array, labels: jax.Array, mask: jax.Array, k: int) -> jax.Array:
    """Number, int32, of rows where `mask` [N] is 1 and the label [N] is among the `k` largest logits of [N, K].

    Of equal logits the lower class comes first, as `argmax` has it: constant logits give no credit for that.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1]) < labels[:, None]
    before = jnp.sum((logits > own) | ((logits == own) & lower), axis=-1)
    return jnp.sum((before < k) & (mask > 0), dtype=jnp.int32)


def calibration_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, bins: int = CALIBRATION_BINS
) -> dict[str, jax.Array]:
    """Sums per bin of confidence, the softmax of the predicted class; `reliability` makes a diagram of them.

    Args:
        logits: float [N, K].
        labels: int [N].
        mask: [N], 1 for rows that count.
        bins: intervals of equal width over [0, 1], closed above: (0, 1/bins], …, (1 - 1/bins, 1].

    Returns:
        'bin_examples' and 'bin_hits', int32 [bins], and 'bin_confidence', float32 [bins], a sum of confidences.
    """
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), axis=-1)
    place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    counted = mask.astype(jnp.int32)
    hits = counted * (jnp.argmax(logits, -1) == labels).astype(jnp.int32)
    none = jnp.zeros(bins, jnp.int32)
    return {
        "bin_examples": none.at[place].add(counted),
        "bin_hits": none.at[place].add(hits),
        "bin_confidence": jnp.zeros(bins, jnp.float32).at[place].add(confidence * counted.astype(jnp.float32)),
    }


def reliability(sums: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns accuracy and mean confidence, float64 [bins], of `calibration_sums`; NaN where a bin is empty."""
    examples = np.asarray(sums["bin_examples"], np.float64)
    some = np.where(examples > 0, examples, np.nan)
    return np.asarray(sums["bin_hits"], np.float64) / some, np.asarray(sums["bin_confidence"], np.float64) / some


def expected_calibration_error(sums: Mapping[str, np.ndarray]) -> float:
    """Returns |accuracy - confidence| averaged over the examples by bin; 0 is calibrated (Guo et al. 2017, eq. 3)."""
    gap = np.abs(np.asarray(sums["bin_hits"], np.float64) - np.asarray(sums["bin_confidence"], np.float64))
    return float(gap.sum() / int(np.sum(sums["bin_examples"])))


def accuracy(confusion: np.ndarray) -> float:
    """Returns the share of hits."""
    return float(np.trace(confusion)) / int(np.sum(confusion))


def f1(confusion: np.ndarray) -> np.ndarray:
    """Returns F1 of each class, float64 [K]; a class neither true nor predicted counts 0, as in scikit-learn."""
    confusion = np.asarray(confusion, np.float64)
    hits, appearances = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    return 2.0 * hits / np.maximum(appearances, 1.0)


def macro_f1(confusion: np.ndarray) -> float:
    """Returns F1 averaged over classes."""
    return float(np.mean(f1(confusion)))


def weighted_f1(confusion: np.ndarray) -> float:
    """Returns F1 averaged over classes, each weighing as many as its true examples."""
    true = np.asarray(confusion).sum(1)
    return float(np.sum(f1(confusion) * true) / true.sum())


def per_class(confusion: np.ndarray) -> list[tuple[int, float | None, float | None]]:
    """Returns count, recall and precision of each class; None where nothing was true, or nothing predicted."""
    confusion = np.asarray(confusion)
    hits, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return [
        (int(t), float(h / t) if t else None, float(h / f) if f else None)
        for h, t, f in zip(hits, true, found, strict=True)
    ]


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the area under the ROC curve of each class against the others, float64 [K].

    Args:
        labels: int [N].
        scores: [N, K], larger where the class is more likely: probabilities, whose scale is the same for all examples.

    Returns:
        By class; NaN for one of which there is no example, or nothing else.
    """
    from sklearn.metrics import roc_auc_score

    areas = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        own = labels == label
        if own.any() and not own.all():
            areas[label] = roc_auc_score(own, scores[:, label])
    return areas

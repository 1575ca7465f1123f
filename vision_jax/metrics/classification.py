"""Measures of a classifier, from its confusion matrix."""

import jax
import jax.numpy as jnp
import numpy as np


def confusion(labels: jax.Array, predicted: jax.Array, mask: jax.Array, classes: int) -> jax.Array:
    """Counts int32 [classes, classes] of (true, predicted) over the rows where `mask` [N] is 1; both are int [N]."""
    return jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(mask.astype(jnp.int32))


def accuracy(confusion: np.ndarray) -> float:
    """Returns the share of hits."""
    return float(np.trace(confusion)) / int(np.sum(confusion))


def macro_f1(confusion: np.ndarray) -> float:
    """Returns F1 averaged over classes; a class neither true nor predicted counts 0, as in scikit-learn."""
    confusion = np.asarray(confusion, np.float64)
    hits, appearances = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    return float(np.mean(2.0 * hits / np.maximum(appearances, 1.0)))


def per_class(confusion: np.ndarray) -> list[tuple[int, float | None, float | None]]:
    """Returns count, recall and precision of each class; None where nothing was true, or nothing predicted."""
    confusion = np.asarray(confusion)
    hits, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return [
        (int(t), float(h / t) if t else None, float(h / f) if f else None)
        for h, t, f in zip(hits, true, found, strict=True)
    ]

"""Which example belongs to which split, and how much each class counts: functions of data and seed alone."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np


def stratified(
    labels: np.ndarray, fractions: Mapping[str, float], seed: int, keys: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Deals examples to the named splits, each class in proportion; what is left is 'train'.

    A split has round(N * fraction) examples; classes share them by largest remainder, and each class keeps at
    least one example in 'train'. A split depends on those named before it alone: with `{"test": 0.2, "val": v}`
    the test split is the same for every `v`. Within a class, the order is that of SHA-256 over seed and key, so
    it holds for every version of NumPy, and where `keys` are given (say, digests of the files' content) it does
    not depend on the order of the examples either.

    Args:
      labels: int [N].
      fractions: part of all examples per split, each in [0, 1), below 1 together.
      seed: any integer.
      keys: one string per example; default: its position.

    Returns:
      For each name in `fractions`, and for 'train', ascending indices, int64.

    Raises:
      ValueError: fractions out of range, or another number of keys than of labels.
    """
    labels = np.asarray(labels)
    wrong = {k: v for k, v in fractions.items() if not 0 <= v < 1}
    if wrong or "train" in fractions or sum(fractions.values()) >= 1:
        raise ValueError(
            f"fractions = {dict(fractions)}: each must be at least 0, all together below 1, and 'train' is what is "
            "left over; for example {'test': 0.2, 'val': 0.1}."
        )
    keys = [str(i) for i in range(len(labels))] if keys is None else keys
    if len(keys) != len(labels):
        raise ValueError(f"there are {len(labels)} labels but {len(keys)} keys; give one key per example.")
    ranks = np.array([hashlib.sha256(f"{seed}/{key}".encode()).digest() for key in keys], dtype="S32")
    # Position breaks ties between equal keys: lexsort's last key is the first criterion.
    order = np.lexsort((np.arange(len(labels)), ranks))
    classes = np.unique(labels)
    queues = [order[labels[order] == c] for c in classes]

    splits = {}
    for name, fraction in fractions.items():
        # Shares refer to all examples of a class, not to those still left, else 'val' would shrink with 'test'.
        sizes = np.array([np.count_nonzero(labels == c) for c in classes])
        counts = _largest_remainder(sizes * fraction, round(len(labels) * fraction), [len(q) - 1 for q in queues])
        taken = [q[:n] for q, n in zip(queues, counts, strict=True)]
        queues = [q[n:] for q, n in zip(queues, counts, strict=True)]
        splits[name] = _ascending(taken)
    splits["train"] = _ascending(queues)
    return splits


def class_weights(labels: np.ndarray, num_classes: int, method: str = "balanced", beta: float = 0.999) -> np.ndarray:
    """Weights for a class-weighted loss, from the labels of the training split.

    Args:
      labels: int [N].
      num_classes: K; every class needs at least one example.
      method: 'balanced': N / (K n_c), scikit-learn's, which gives examples the mean weight 1;
        'effective_number': proportional to (1 - beta) / (1 - beta^n_c) and of sum K, as in Cui et al.,
        "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4.
      beta: of 'effective_number', in [0, 1): 0 weighs all classes alike, toward 1 it is the inverse frequency.

    Returns:
      float32 [K].

    Raises:
      ValueError: a class without an example, an unknown method, or beta out of range.
    """
    counts = np.bincount(np.asarray(labels), minlength=num_classes).astype(np.float64)
    if len(counts) > num_classes or not counts.all():
        raise ValueError(
            f"class weights need at least one example of each of the {num_classes} classes (labels 0 to "
            f"{num_classes - 1}); found {[int(c) for c in counts]} examples for labels 0 to {len(counts) - 1}."
        )
    if method == "balanced":
        weights = counts.sum() / (num_classes * counts)
    elif method == "effective_number":
        if not 0 <= beta < 1:
            raise ValueError(f"beta = {beta}: expected 0 <= beta < 1, for example 0.999.")
        weights = 1 / (1 - beta**counts)  # The factor 1 - beta falls out with the next line.
        weights *= num_classes / weights.sum()
    else:
        raise ValueError(f"class weights by {method!r}: expected 'balanced' or 'effective_number'.")
    return weights.astype(np.float32)


def _ascending(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate(parts)) if len(parts) else np.zeros(0, np.int64)


def _largest_remainder(shares: np.ndarray, total: int, capacities: Sequence[int]) -> np.ndarray:
    """Rounds `shares` to integers of sum `total`, or as near as `capacities` allow; ties go to the lower class."""
    counts = np.minimum(np.floor(shares).astype(np.int64), np.maximum(capacities, 0))
    by_remainder = np.argsort(counts - shares, kind="stable")
    while counts.sum() < total:
        open_classes = [c for c in by_remainder if counts[c] < capacities[c]]
        if not open_classes:
            break
        counts[open_classes[: total - int(counts.sum())]] += 1
    return counts

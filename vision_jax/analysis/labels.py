"""Which labels a network disagrees with, after confident learning (Northcutt et al. 2021, arXiv 1911.00068)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Disagreements:
    """The examples of a split, from the least to the most likely label.

    Attributes:
        rows: of all examples, int [N], by the probability of their label.
        probability: of the label of each example, float64 [N], in the order of the examples.
        suggested: class that each example seems to be of, int [N]; its own where nothing speaks against the label.
    """

    rows: np.ndarray
    probability: np.ndarray
    suggested: np.ndarray
    label: np.ndarray

    @property
    def suspects(self) -> np.ndarray:
        """The rows whose label is probably wrong, the least likely label first."""
        return self.rows[(self.suggested != self.label)[self.rows]]


def disagreements(label: np.ndarray, probabilities: np.ndarray) -> Disagreements:
    """Ranks examples by how little a network believes their label.

    An example seems to be of a class if its probability reaches the mean probability that the class has among the
    examples labelled so: the threshold makes up for classes of which the network is less sure. Of several such classes
    it is the likeliest one. The network must not have been trained on the examples, or it has learned their labels.

    Args:
        label: int [N].
        probabilities: float [N, K].
    """
    rows = np.arange(len(label))
    own = probabilities[rows, label]
    classes = probabilities.shape[1]
    counts = np.bincount(label, minlength=classes)
    thresholds = np.bincount(label, weights=own, minlength=classes) / np.where(counts > 0, counts, np.nan)
    # A class without examples has no threshold (NaN), so that nothing reaches it.
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = np.where(reached.max(1) >= 0, reached.argmax(1), label)
    return Disagreements(np.argsort(own, kind="stable"), own, suggested, label)

"""What a classifier gets wrong: which classes are taken for which, how surely, and how well it knows."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a classifier says of the examples of a split.

    Attributes:
        index: of each example in its split, int [N].
        label: true class, int [N].
        logits: float [N, K].
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(cls, outputs: Mapping[str, np.ndarray]) -> "Predictions":
        """Returns those of an evaluator's outputs (`analysis.record.Record.outputs`)."""
        return cls(outputs["index"], outputs["label"], outputs["logits"])

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 [N, K]."""
        from scipy.special import softmax

        return softmax(self.logits.astype(np.float64), axis=-1)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class, int [N]."""
        return np.argmax(self.logits, axis=-1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the likeliest class, float64 [N]."""
        return self.probabilities.max(-1)

    @property
    def hit(self) -> np.ndarray:
        """Whether that is the true class, bool [N]."""
        return self.predicted == self.label

    @property
    def confusion(self) -> np.ndarray:
        """Counts int [K, K] of (true, predicted)."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.label, self.predicted, labels=np.arange(self.logits.shape[1]))

    def most_confident_mistakes(self, most: int) -> np.ndarray:
        """Returns the rows of the mistakes that it is surest of, the surest first; at most so many."""
        rows = np.flatnonzero(~self.hit)
        return rows[np.argsort(-self.confidence[rows], kind="stable")][:most]

    def least_confident_hits(self, most: int) -> np.ndarray:
        """Returns the rows of the hits that it is least sure of, the least sure first; at most so many."""
        rows = np.flatnonzero(self.hit)
        return rows[np.argsort(self.confidence[rows], kind="stable")][:most]


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are taken for each other.

    Attributes:
        first: class whose examples are more often taken for the other's than the other way round.
        second: the other class.
        first_as_second: examples of the first predicted as the second.
        second_as_first: examples of the second predicted as the first.
        share: both together, of the examples of both classes.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    share: float


def confused_pairs(confusion: np.ndarray, most: int = 20) -> list[ConfusedPair]:
    """Returns the pairs with most mistakes between them, at most so many, of counts int [K, K] of (true, predicted)."""
    between = np.triu(confusion + confusion.T, 1)
    true = confusion.sum(1)
    pairs = []
    for place in np.argsort(-between, axis=None, kind="stable")[:most]:
        first, second = (int(i) for i in np.unravel_index(place, between.shape))
        if not between[first, second]:
            break
        if confusion[second, first] > confusion[first, second]:
            first, second = second, first
        both = int(confusion[first, second]), int(confusion[second, first])
        pairs.append(ConfusedPair(first, second, *both, sum(both) / int(true[first] + true[second])))
    return pairs


def sample_per_class(label: np.ndarray, each: int, classes: int) -> np.ndarray:
    """Returns rows drawn at random, always the same ones: `each` of each class, of at most so many classes; by class.

    Args:
        label: int [N].
        each: rows of a class, where it has as many.
        classes: how many, at most; drawn at random, too.
    """
    random = np.random.default_rng(0)
    present = np.unique(label)
    chosen = np.sort(random.choice(present, min(classes, len(present)), replace=False))
    order = random.permutation(len(label))
    return np.concatenate([order[label[order] == k][:each] for k in chosen])


def taken_for(confusion: np.ndarray, most: int = 3) -> list[list[tuple[int, float]]]:
    """Returns of each class the classes that its examples are most often mistaken for, with the share of examples."""
    found = []
    for label, row in enumerate(np.asarray(confusion)):
        others = [int(k) for k in np.argsort(-row, kind="stable") if k != label and row[k]]
        found.append([(k, float(row[k] / row.sum())) for k in others[:most]])
    return found


def group_order(superclasses: Sequence[str]) -> np.ndarray:
    """Returns the classes ordered by superclass (by name) and, within one, by number, int [K]."""
    return np.array(sorted(range(len(superclasses)), key=lambda k: (superclasses[k], k)), int)


def group_confusion(confusion: np.ndarray, superclasses: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Returns the confusion matrix of the superclasses, int [S, S], and their names in its order."""
    names = sorted(set(superclasses))
    member = np.array([[name == superclass for superclass in superclasses] for name in names], confusion.dtype)
    return member @ confusion @ member.T, names

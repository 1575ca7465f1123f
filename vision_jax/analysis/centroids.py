"""Where features lie relative to the centers of the classes: are mistakes nearer to the class they are taken for?"""

import dataclasses

import numpy as np

from vision_jax.analysis.errors import Predictions
from vision_jax.analysis.record import Record


def centroids(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the mean feature of each class, float64 [K, F], NaN for a class without examples.

    Args:
        features: float [N, F].
        labels: int [N].
        classes: K.
    """
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features)
    counts = np.bincount(labels, minlength=classes)[:, None]
    return sums / np.where(counts > 0, counts, np.nan)


def of_run(record: Record, evaluator: str) -> tuple[np.ndarray, str]:
    """Returns the centroids [K, F] of the classes in a run that kept features, and in words what they are of.

    They are of the training split where its features were kept, else of the evaluator's own hits.
    """
    names = ("train", evaluator) if "train" in record.results["evaluations"] else (evaluator,)
    for name in names:
        outputs = record.outputs(name)
        if "features" not in outputs:
            continue
        predictions = Predictions.of(outputs)
        classes, features = predictions.logits.shape[1], flat(outputs["features"])
        if name == "train":
            return centroids(features, predictions.label, classes), f"{len(features):,} images of the training split"
        hit = predictions.hit
        of = (
            f"the {int(hit.sum()):,} images of {evaluator} that the network gets right (config.eval.train=True would "
            "make them those of the training split)"
        )
        return centroids(features[hit], predictions.label[hit], classes), of
    raise ValueError(f"{record.workdir} kept no features of {evaluator}; config.eval.features=True does.")


def flat(features: np.ndarray) -> np.ndarray:
    """Returns features of any shape as float64 [N, F]."""
    return features.reshape(len(features), -1).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class MistakeDistances:
    """Euclidean distances of the features of mistakes.

    Attributes:
        rows: which examples, int [M].
        true: to the centroid of the true class, float64 [M].
        predicted: to the centroid of the predicted class, float64 [M].
    """

    rows: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    @property
    def nearer_to_predicted(self) -> float:
        """Share of the mistakes that lie nearer to the predicted class; NaN where there are none."""
        return float(np.mean(self.predicted < self.true)) if len(self.rows) else float("nan")


def of_mistakes(
    features: np.ndarray, labels: np.ndarray, predicted: np.ndarray, centers: np.ndarray
) -> MistakeDistances:
    """Returns the distances of the mistakes; those of a class without a centroid are left out.

    Args:
        features: float [N, F].
        labels: true classes, int [N].
        predicted: predicted classes, int [N].
        centers: `centroids`, [K, F].
    """
    known = np.isfinite(centers).all(1)
    rows = np.flatnonzero((labels != predicted) & known[labels] & known[predicted])
    true, found = (np.linalg.norm(features[rows] - centers[of[rows]], axis=1) for of in (labels, predicted))
    return MistakeDistances(rows, true, found)

"""All measures of a set of generated images against real ones, from the features of both, each with its receipt."""

import math
from collections.abc import Collection, Mapping

import numpy as np
from absl import logging
from jaxtyping import ArrayLike

from vision_jax.metrics import frechet, kernel, manifold
from vision_jax.metrics.inception_score import inception_score
from vision_jax.metrics.receipt import Interval, Protocol, Receipt

# What `measure` can find besides the Fréchet distance.
PARTS = ("interval", "infinity", "kernel", "manifold", "score")
_FEWEST = 20  # Kept images below which only the distance is measured: the rest would be noise, or undefined.


class FeatureSet:
    """What is known of the features of a set of images: statistics of all, and a sample of at most `limit` of them.

    The sample is drawn uniformly from all rows (reservoir sampling, Vitter 1985), seeded, and does not depend on batch
    sizes; up to `limit` it holds every row in order.

    Attributes:
        statistics: of all rows.
        limit: of the rows kept.
    """

    def __init__(self, limit: int = 10_000, *, seed: int = 0):
        self.statistics = frechet.Statistics()
        self.limit = limit
        self._generator = np.random.default_rng(seed)
        self._kept: dict[str, list[np.ndarray]] = {}
        self._given: tuple[np.ndarray, np.ndarray, int | None] | None = None

    @classmethod
    def of_gaussian(cls, mean: np.ndarray, covariance: np.ndarray, count: int | None) -> "FeatureSet":
        """Returns a set of which only mean [D] and covariance [D, D] are known, and maybe how many images it has."""
        found = cls(0)
        found._given = (mean, covariance, count)
        return found

    @property
    def count(self) -> int | None:
        """Number of images; None where a file of statistics does not say."""
        return self._given[2] if self._given is not None else self.statistics.count

    @property
    def features(self) -> np.ndarray:
        """The sample, float32 [at most limit, D]."""
        return self._rows("features")

    @property
    def logits(self) -> np.ndarray:
        """Logits of the same images, float32 [at most limit, K]; [0, 0] where the extractor has none."""
        return self._rows("logits")

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean [D] and covariance [D, D], float64; see `frechet.Statistics.gaussian`."""
        return self._given[:2] if self._given is not None else self.statistics.gaussian()

    def add(self, outputs: Mapping[str, ArrayLike]) -> None:
        """Takes in a batch: 'features' [N, D] and, where the extractor has them, 'logits' [N, K].

        Raises:
            ValueError: as `frechet.Statistics.add`; or the set is known by its statistics alone.
        """
        if self._given is not None:
            raise ValueError("Images cannot be added to a set of which only mean and covariance are known.")
        arrays = {name: np.asarray(outputs[name], np.float32) for name in ("features", "logits") if name in outputs}
        before = self.statistics.count
        self.statistics.add(outputs["features"])
        for row in range(len(arrays["features"])):
            number = before + row
            if number < self.limit:
                slot = number
            else:
                slot = int(self._generator.random() * (number + 1))
                if slot >= self.limit:
                    continue
            for name, values in arrays.items():
                kept = self._kept.setdefault(name, [])
                kept[slot : slot + 1] = [values[row].copy()]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all that is known as arrays; `of_arrays` makes the set of them."""
        statistics = self.statistics
        return {
            "count": np.asarray(statistics.count),
            "mean": statistics.mean,
            "scatter": statistics.scatter,
            "features": self.features,
            "logits": self.logits,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FeatureSet":
        """Returns the set of `arrays`, to which no images can be added.

        Raises:
            ValueError: the arrays are not those of a set.
        """
        try:
            count, mean, scatter = int(arrays["count"]), arrays["mean"], arrays["scatter"]
            kept = {name: list(arrays[name]) for name in ("features", "logits") if len(arrays[name])}
        except (KeyError, TypeError) as error:
            raise ValueError(f"These are no arrays of a set of features: {error}") from None
        if count < 2 or mean.ndim != 1 or scatter.shape != 2 * mean.shape:
            raise ValueError(f"Statistics of {count} images, {mean.shape} and {scatter.shape}, make no sense.")
        found = cls.of_gaussian(mean, scatter / (count - 1), count)
        found.statistics.count, found.statistics.mean, found.statistics.scatter = count, mean, scatter
        found._kept = kept
        return found

    def _rows(self, name: str) -> np.ndarray:
        return np.stack(self._kept[name]) if self._kept.get(name) else np.zeros((0, 0), np.float32)


def measure(
    real: FeatureSet,
    fake: FeatureSet,
    protocol: Protocol,
    *,
    parts: Collection[str] = PARTS,
    resamples: int = 50,
    subset: int = 1000,
) -> tuple[dict[str, float], dict[str, Receipt]]:
    """Returns the measures of `parts` and the receipt of each, by the same names.

    The names follow the protocol and the number n of generated images (`Protocol.metric`). For 'fid' and n = 10,000:

    - always `fid10k`, the Fréchet distance; 'interval' adds its confidence interval to the receipt;
    - 'infinity': `fid_infinity_10k`, extrapolated to infinitely many generated images;
    - 'kernel': `kid10k` and `kid_std_10k`, over 100 subsets of `subset` images, or as many as there are;
    - 'manifold': `precision_10k`, `recall_10k` (3 neighbors), `density_10k`, `coverage_10k` (5 neighbors);
    - 'score': `inception_score_10k` and `inception_score_std_10k` of the generated images (10 splits); with another
      network than Inception also `confidence_…` and `rarest_class_…`.

    For 'fd_resnet56' they are `fd_resnet56_10k`, `fd_infinity_resnet56_10k`, `kd_resnet56_10k`,
    `precision_resnet56_10k`, `classifier_score_resnet56_10k` and so on. All but the distance are measured on the rows
    that the sets kept; parts are left out for which there are too few (see `left_out`). A warning is logged where a
    covariance is singular because there are not more images than features.

    Raises:
        ValueError: sets of different features, fewer than two images, or no such part.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"There is no measure {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    reference, (mean, covariance) = real.gaussian(), fake.gaussian()
    if len(mean) != len(reference[0]):
        raise ValueError(
            f"The real images have {len(reference[0])} features and the generated ones {len(mean)}: two extractors."
        )
    _warn_of_few(protocol.prefix, len(mean), {"real": real.count, "generated": fake.count})
    metrics: dict[str, float] = {}
    receipts: dict[str, Receipt] = {}

    def found(stem: str, value: float, settings: Mapping[str, int], interval: Interval | None = None) -> None:
        name = protocol.metric(stem, fake.count)
        metrics[name] = value
        receipts[name] = Receipt(name, value, fake.count, real.count, protocol, dict(settings), interval)

    inception = protocol.prefix.partition("_")[0] == "fid"
    distance, kernel_distance, score = (
        ("fid", "kid", "inception_score") if inception else ("fd", "kd", "classifier_score")
    )
    features, known = fake.features, real.features
    kept, kept_of_both = _kept(generated=fake), _kept(generated=fake, real=real)
    parts = set(parts) - left_out(real, fake, parts).keys()

    value, interval = frechet.distance(*reference, mean, covariance), None
    if "interval" in parts:
        error = frechet.standard_error(features, *reference, resamples=resamples)
        error *= math.sqrt(len(features) / (fake.count or len(features)))  # All vary less than those that were kept.
        interval = Interval(value - 1.96 * error, value + 1.96 * error, resamples, len(features))
    found(distance, value, {}, interval)
    if "infinity" in parts:
        points = min(15, len(features) // 2)
        limit = frechet.extrapolated(features, *reference, points=points)
        found(f"{distance}_infinity", limit, {"points": points, **kept})
    if "kernel" in parts:
        subsets, size = 100, min(subset, len(features), len(known))
        average, deviation = kernel.distance(features, known, subsets=subsets, size=size)
        found(kernel_distance, average, {"subsets": subsets, "size": size, **kept_of_both})
        found(f"{kernel_distance}_std", deviation, {"subsets": subsets, "size": size, **kept_of_both})
    if "manifold" in parts:
        for names, function, neighbors in (
            (("precision", "recall"), manifold.precision_recall, 3),
            (("density", "coverage"), manifold.density_coverage, 5),
        ):
            for stem, share in zip(names, function(known, features, neighbors=neighbors), strict=True):
                found(stem, share, {"neighbors": neighbors, **kept_of_both})
    if "score" in parts:
        average, deviation = inception_score(fake.logits)
        found(score, average, {"splits": 10, **kept})
        found(f"{score}_std", deviation, {"splits": 10, **kept})
        if not inception:  # Whose 1,008 classes are ImageNet's, not those of the images.
            found("confidence", confidence(fake.logits), kept)
            found("rarest_class", rarest_class(fake.logits), kept)
    return metrics, receipts


def left_out(real: FeatureSet, fake: FeatureSet, parts: Collection[str]) -> dict[str, str]:
    """Returns those of `parts` that `measure` leaves out, each with the reason in words.

    Each needs 20 images of which the features are kept, 'kernel' and 'manifold' of either set; 'score' also logits.
    """
    found = {}
    for part in parts:
        sets = {"generated": fake, "real": real} if part in ("kernel", "manifold") else {"generated": fake}
        few = [f"{len(given.features)} {name}" for name, given in sets.items() if len(given.features) < _FEWEST]
        if few:
            found[part] = f"it takes the features of {_FEWEST} images or more; there are {' and '.join(few)} ones"
        elif part == "score" and not len(fake.logits):
            found[part] = "the extractor gives no logits with these features"
    return found


def _kept(**sets: FeatureSet) -> dict[str, int]:
    """Returns how many rows were kept of the sets that did not keep all."""
    return {f"kept_{name}": len(s.features) for name, s in sets.items() if s.count is None or len(s.features) < s.count}


def _warn_of_few(prefix: str, dimension: int, counts: Mapping[str, int | None]) -> None:
    for name, count in counts.items():
        if count is not None and count <= dimension:
            logging.warning(
                "%s: %d %s images are not more than the %d features; their covariance is singular and the distance far "
                "too large. Take more images, or an extractor with fewer features.",
                prefix,
                count,
                name,
                dimension,
            )


def confidence(logits: np.ndarray) -> float:
    """Returns the mean probability that a classifier gives the likeliest class; logits [N, K]."""
    return float(np.exp(logits.max(1) - np.logaddexp.reduce(logits.astype(np.float64), 1)).mean())


def rarest_class(logits: np.ndarray) -> float:
    """Returns the share of images in the class that is found least; 0 where a class is missing; logits [N, K]."""
    return float(np.bincount(logits.argmax(1), minlength=logits.shape[1]).min() / len(logits))

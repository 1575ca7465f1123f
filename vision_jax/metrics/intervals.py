"""How far a measured accuracy can be trusted, and whether two of them differ."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A measured value with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        """Returns it in another unit: 100 makes a share per cent."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)


def wilson(hits: int, examples: int, level: float = 0.95) -> Interval:
    """Returns the share of hits with Wilson's score interval (Wilson 1927), which stays within [0, 1].

    Args:
        hits: how many.
        examples: of how many, above 0; independent of each other.
        level: of confidence.
    """
    from scipy.stats import binomtest

    found = binomtest(hits, examples).proportion_ci(level, method="wilson")
    return Interval(hits / examples, float(found.low), float(found.high))


@dataclasses.dataclass(frozen=True)
class McNemar:
    """The exact McNemar test of two classifiers on the same examples.

    Attributes:
        first_only: examples that the first one gets right and the second one wrong.
        second_only: the other way round.
        p_value: how often chance alone gives a difference as large, if both are equally good; two-sided.
    """

    first_only: int
    second_only: int
    p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Returns the exact test (McNemar 1947, with the binomial distribution) of hits, bool [N], on the same examples."""
    from scipy.stats import binomtest

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    ours, theirs = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return McNemar(ours, theirs, float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0)


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Returns the mean of `first - second` with its percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Args:
        first: float or bool [N], of each example a hit or a share of hits.
        second: the same of the other classifier, on the same examples in the same order.
        resamples: draws of N examples with replacement.
        level: of confidence.
        seed: of the draws.
    """
    from scipy.stats import bootstrap

    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    value = float(difference.mean())
    if np.all(difference == difference[0]):  # As of two classifiers that agree on every example.
        return Interval(value, value, value)
    found = bootstrap(
        (difference,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        batch=max(1, 2_000_000 // len(difference)),  # 16 MB at a time.
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))

"""Intervals and paired tests against closed forms and simulation."""

import math

import numpy as np
import pytest

from vision_jax.metrics import intervals


@pytest.mark.parametrize(("hits", "examples"), [(0, 10), (7, 10), (9_412, 10_000), (359, 359)])
def test_wilson_is_the_closed_form(hits, examples):
    p, z = hits / examples, 1.959963984540054
    center = (p + z**2 / (2 * examples)) / (1 + z**2 / examples)
    half = z / (1 + z**2 / examples) * math.sqrt(p * (1 - p) / examples + z**2 / (4 * examples**2))
    found = intervals.wilson(hits, examples)
    assert found.value == p
    assert (found.low, found.high) == pytest.approx((center - half, center + half), abs=1e-9)
    assert -1e-12 <= found.low <= p <= found.high <= 1 + 1e-12


def test_mcnemar_counts_and_sums_the_binomial_tail():
    first = np.array([1] * 9 + [0] * 2 + [1] * 50 + [0] * 3, bool)
    second = np.array([0] * 9 + [1] * 2 + [1] * 50 + [0] * 3, bool)
    found = intervals.mcnemar(first, second)
    assert (found.first_only, found.second_only) == (9, 2)
    assert found.p_value == pytest.approx(2 * sum(math.comb(11, k) for k in range(3)) / 2**11)
    back = intervals.mcnemar(second, first)
    assert (back.first_only, back.second_only, back.p_value) == (2, 9, pytest.approx(found.p_value))


def test_classifiers_that_agree_do_not_differ():
    hits = np.array([True, False, True])
    assert intervals.mcnemar(hits, hits) == intervals.McNemar(0, 0, 1.0)
    assert intervals.paired_bootstrap(hits, hits) == intervals.Interval(0.0, 0.0, 0.0)


def test_bootstrap_of_pairs_is_narrower_than_that_of_two_independent_shares():
    rng = np.random.default_rng(0)
    easy = rng.random(1000) < 0.8
    first, second = easy | (rng.random(1000) < 0.1), easy | (rng.random(1000) < 0.05)
    found = intervals.paired_bootstrap(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    difference = first.astype(float) - second
    half = 1.96 * difference.std() / math.sqrt(1000)  # The normal approximation, which is good here.
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)
    independent = 1.96 * math.sqrt((first.var() + second.var()) / 1000)
    assert found.high - found.low < independent
    assert intervals.paired_bootstrap(first, second) == found
    assert intervals.paired_bootstrap(first, second, seed=1) != found


def test_shares_of_hits_over_several_runs_are_taken_too():
    shares = np.array([1.0, 0.5, 0.0, 1.0])
    found = intervals.paired_bootstrap(shares, np.zeros(4))
    assert found.value == pytest.approx(0.625) and found.low < 0.625 < found.high <= 1

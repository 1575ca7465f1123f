"""The kernel distance against torch-fidelity on the same features, against its definition, and where it is known."""

import numpy as np
import pytest

from tests.metrics.references import sets, torch_fidelity
from vision_jax.metrics import kernel


def test_the_distance_is_torch_fidelity_s():
    reference = torch_fidelity("metric_kid")
    import torch

    first, second = sets()
    found = reference.kid_features_to_metric(
        torch.from_numpy(first), torch.from_numpy(second), kid_subsets=20, kid_subset_size=50, verbose=False
    )
    mean, deviation = kernel.distance(first, second, subsets=20, size=50)
    assert mean == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-4)
    assert deviation == pytest.approx(found["kernel_inception_distance_std"], rel=1e-4)


def test_it_is_the_definition_over_pairs():
    x, y = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [3.0, -2.0]])

    def k(a, b):
        return (a @ b / 2 + 1) ** 3

    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    expected = within_x + k(y[0], y[1]) - 2 * between
    assert kernel.squared_discrepancy(x, y) == pytest.approx(expected)


def test_it_does_not_depend_on_the_number_of_images():
    rng = np.random.default_rng(0)
    same = [kernel.squared_discrepancy(rng.normal(size=(30, 4)), rng.normal(size=(30, 4))) for _ in range(400)]
    assert min(same) < 0 < max(same)
    assert abs(np.mean(same)) < 4 * np.std(same) / 20


def test_subsets_are_seeded_and_no_larger_than_the_sets():
    first, second = sets()
    assert kernel.distance(first, second, subsets=3, size=40) == kernel.distance(first, second, subsets=3, size=40)
    assert kernel.distance(first, second, subsets=3, size=40, seed=1) != kernel.distance(
        first, second, subsets=3, size=40
    )
    assert kernel.distance(first, second[:120], subsets=2, size=120)[1] == pytest.approx(0.0, abs=1e-9)
    for size in (1, 121):
        with pytest.raises(ValueError, match=f"Subsets of {size} cannot be drawn from 120 and 150"):
            kernel.distance(first, second, size=size)

"""Precision and recall against torch-fidelity, density and coverage against their definition, in blocks of any size."""

import numpy as np
import pytest

from tests.metrics.references import sets, torch_fidelity
from vision_jax.metrics import manifold


def distances(a, b):
    return np.sqrt(((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(-1))


def test_precision_and_recall_are_torch_fidelity_s():
    reference = torch_fidelity("metric_prc")
    import torch

    fake, real = sets()
    found = reference.prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), verbose=False)
    precision, recall = manifold.precision_recall(real, fake)
    assert 0.2 < precision < 1 and 0.2 < recall < 1 and precision != recall
    assert (precision, recall) == pytest.approx((found["precision"], found["recall"]), rel=1e-6)


@pytest.mark.parametrize("neighbors", [1, 4])
def test_density_and_coverage_are_their_definition(neighbors):
    fake, real = sets(width=5)
    radius = np.sort(distances(real, real), axis=1)[:, neighbors]
    inside = distances(real, fake) < radius[:, None]
    found = manifold.density_coverage(real, fake, neighbors=neighbors)
    assert found == pytest.approx((inside.sum() / (neighbors * len(fake)), inside.any(1).mean()))
    np.testing.assert_allclose(manifold.radii(real, neighbors), radius, rtol=1e-9)


def test_blocks_change_nothing():
    # 4,000 rows of 1,500 distances are 46 MiB: many blocks of one, one of 256.
    real, fake = (np.random.default_rng(seed).normal(size=(n, 3)) for seed, n in ((0, 1500), (1, 4000)))
    for measure in (manifold.precision_recall, manifold.density_coverage):
        assert measure(real, fake, mebibytes=1) == measure(real, fake)


def test_equal_and_disjoint_sets():
    x = np.random.default_rng(0).normal(size=(60, 4))
    assert manifold.precision_recall(x, x) == (1.0, 1.0)
    assert manifold.precision_recall(x, x + 100.0) == (0.0, 0.0)
    assert manifold.density_coverage(x, x + 100.0) == (0.0, 0.0)
    # All generated images at one real one: faithful, and covering almost nothing.
    collapsed = np.repeat(x[:1], 60, 0)
    precision, recall = manifold.precision_recall(x, collapsed)
    assert precision == 1.0 and recall == pytest.approx(1 / 60)
    assert manifold.density_coverage(x, collapsed)[1] < 0.5


def test_a_neighbor_has_to_exist():
    with pytest.raises(ValueError, match="The 3th neighbor of 3 features does not exist"):
        manifold.precision_recall(np.eye(3), np.eye(3))

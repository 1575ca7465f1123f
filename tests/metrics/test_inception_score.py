"""The Inception Score against torch-fidelity on the same logits, and where it is known."""

import numpy as np
import pytest

from tests.metrics.references import torch_fidelity
from vision_jax.metrics.inception_score import inception_score


@pytest.mark.parametrize("count", [200, 207])
def test_the_score_is_torch_fidelity_s(count):
    reference = torch_fidelity("metric_isc")
    import torch

    logits = np.random.default_rng(0).normal(0.0, 3.0, (count, 12)).astype(np.float32)
    for shuffle, seed in ((True, 2020), (False, None)):
        found = reference.isc_features_to_metric(torch.from_numpy(logits), shuffle=shuffle)
        expected = found["inception_score_mean"], found["inception_score_std"]
        assert inception_score(logits, seed=seed) == pytest.approx(expected, rel=1e-6)


def test_sure_and_different_answers_score_the_number_of_classes():
    sure = 1e4 * np.tile(np.eye(5, dtype=np.float32), (4, 1))
    assert inception_score(sure, splits=1) == pytest.approx((5.0, 0.0))
    assert inception_score(sure, splits=4, seed=None) == pytest.approx((5.0, 0.0))
    same = np.tile(np.float32([3.0, 1.0, 0.0]), (10, 1))
    assert inception_score(same, splits=2) == pytest.approx((1.0, 0.0))


def test_no_part_is_empty():
    with pytest.raises(ValueError, match="9 images cannot be dealt into 10 parts"):
        inception_score(np.zeros((9, 3), np.float32))

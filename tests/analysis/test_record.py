"""What is read from a run's folder besides rows and outputs: values of every step, pictures of training."""

import json
import math

import numpy as np

from vision_jax.analysis.record import Record


def test_values_of_every_step(tmp_path):
    rows = [
        {"step": 1, "generator_loss": 1.5, "discriminator_loss": 0.5},
        {"step": 2, "generator_loss": "-inf", "discriminator_loss": 0.25},
        {"step": 3, "generator_loss": 7.0},
    ]
    torn = b'{"step": 4, "generator_loss": 1.0'
    (tmp_path / "steps.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + torn)
    found = Record(tmp_path).steps()
    assert list(found) == ["step", "generator_loss", "discriminator_loss"]
    assert found["step"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found["generator_loss"], [1.5, -math.inf, 7.0])
    np.testing.assert_array_equal(found["discriminator_loss"], [0.5, 0.25, math.nan])


def test_a_run_without_them_has_none(tmp_path):
    assert Record(tmp_path).steps() == Record(tmp_path).training_pictures() == Record(tmp_path).pictures("test") == {}

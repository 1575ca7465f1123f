"""What is read from a run's folder besides rows and outputs: values of every step, pictures of training."""

import json
import math

import numpy as np
import pytest

from vision_jax.analysis.record import Record


def test_values_of_every_step(tmp_path):
    lines = [
        {"first": 1, "generator_loss": [1.5, "nan"], "discriminator_loss": [0.5, 0.25]},
        {"first": 3, "discriminator_loss": [2], "generator_loss": ["-inf"]},
        {"first": 4, "generator_loss": [7.0], "penalty": [1.0]},
    ]
    torn = b'{"first": 5, "generator_loss": [1.0'
    (tmp_path / "steps.jsonl").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + torn)
    found = Record(tmp_path).steps()
    assert list(found) == ["step", "generator_loss", "discriminator_loss", "penalty"]
    assert found["step"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(found["generator_loss"], [1.5, math.nan, -math.inf, 7.0])
    np.testing.assert_array_equal(found["discriminator_loss"], [0.5, 0.25, 2.0, math.nan])
    np.testing.assert_array_equal(found["penalty"], [math.nan] * 3 + [1.0])


def test_a_run_without_them_has_none(tmp_path):
    assert Record(tmp_path).steps() == Record(tmp_path).training_pictures() == Record(tmp_path).pictures("test") == {}


def test_rubbish_is_named_and_left_out_and_uneven_lists_are_refused(tmp_path, caplog):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"first": 1, "a": [1]}\n\0\0\n{"a": [1]}\n{"first": 2, "a": 3}\n[]\n{"first": 2, "a": [2]}\n')
    assert Record(tmp_path).steps()["a"].tolist() == [1.0, 2.0]
    assert [f"line {number} " in caplog.text for number in range(1, 7)] == [False, True, True, True, True, False]
    path.write_text('{"first": 1, "a": [1], "b": [1, 2]}\n')
    with pytest.raises(ValueError, match="the lists in line 1 differ in length"):
        Record(tmp_path).steps()

"""Runs side by side: which are one row, what differs, what is refused, and the paired tests."""

import json

import numpy as np
import pytest

from tests import classifier_runs
from vision_jax.analysis import compare
from vision_jax.analysis.record import Record
from vision_jax.metrics import intervals

NAMES = ("a", "b", "c")


@pytest.fixture
def make(tmp_path):
    def run(name, *, seed=0, skill=2.0, options=None, fingerprints=None, features=7, **results):
        splits = {
            "val": classifier_runs.outputs(3, 30, seed=seed, skill=skill, features=features),
            "test": classifier_runs.outputs(3, 80, seed=seed, skill=skill, features=features),
        }
        options = {"seed": seed, **(options or {})}
        return Record(
            classifier_runs.write(
                tmp_path / name, splits, names=NAMES, options=options, fingerprints=fingerprints, **results
            )
        )

    return run


def test_seeds_of_one_config_are_one_row(make):
    wide = {"model.cnn.channels": (8, 16)}
    records = [
        make("b", seed=2),
        make("wide", seed=1, options=wide),
        make("a", seed=1, options={"data.workers": 3}),  # Which changes nothing that is computed.
    ]
    first, second = compare.rows(records)
    assert (first.name, first.seeds, second.name, second.seeds) == ("a", [1, 2], "wide", [1])
    values = [record.results["metrics"]["test/accuracy"] for record in (records[2], records[0])]
    columns = {column.name: column for column in compare.columns([first, second])}
    test = columns["test/accuracy"]
    assert test.values[0] == values and len(test.values[1]) == 1 and "train/accuracy" not in columns
    assert test.share(0).value == pytest.approx(np.mean(values))
    assert compare.differences([first, second]) == {"model.cnn.channels": [None, [8, 16]]}


def test_names_are_as_long_as_it_takes(make):
    records = [make("x/run", seed=1), make("y/run", options={"optimizer.name": "sgd"})]
    assert [row.name for row in compare.rows(records)] == ["x/run", "y/run"]


def test_what_cannot_be_compared_is_refused(make, tmp_path):
    one = make("one")
    with pytest.raises(ValueError, match="is one run to compare"):
        compare.rows([one])
    with pytest.raises(ValueError, match="same config and the same seed"):
        compare.rows([one, make("again")])
    with pytest.raises(ValueError, match="different tasks, classification and gan"):
        compare.rows([one, make("gan", task="gan")])
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(ValueError, match=r"no report/results\.json"):
        compare.rows([one, Record(tmp_path / "unfinished")])
    other = make("other", seed=1, fingerprints={"test": "of another split"})
    with pytest.raises(ValueError, match=r"'test' saw different examples; .*of test.*of another split"):
        compare.classifiers(compare.rows([one, other]))


def test_pairs_are_mcnemar_s_and_the_bootstrap_s_of_the_same_examples(make):
    records = [make("good", skill=3.0), make("bad", seed=1, skill=1.0, options={"optimizer.name": "sgd"})]
    found = compare.classifiers(compare.rows(records))
    hits = [record.outputs("test")["logits"].argmax(-1) == record.outputs("test")["label"] for record in records]
    (pair,) = found.pairs()
    assert (pair.first, pair.second, pair.seeds) == (0, 1, (0, 1))
    assert pair.test == intervals.mcnemar(*hits) and pair.test.p_value < 0.01
    assert pair.difference == intervals.paired_bootstrap(*hits) and pair.difference.low > 0
    accuracy = found.accuracy[0]["test"]
    assert accuracy == intervals.wilson(int(hits[0].sum()), 80)
    rows = found.disagreements(0, 1, 5)
    assert len(rows) == 5 and (hits[0] & ~hits[1])[rows].all()
    label = records[0].outputs("test")["label"]
    recalls = found.recalls()
    np.testing.assert_allclose(recalls[1, 2], hits[1][label == 2].mean())


def test_seeds_are_averaged_by_example(make):
    records = [
        make(f"{name}{seed}", seed=seed, skill=skill, options=options)
        for name, skill, options in (("a", 2.0, {}), ("b", 1.0, {"optimizer.name": "sgd"}))
        for seed in (0, 1)
    ]
    found = compare.classifiers(compare.rows(records))
    hits = [record.outputs("test")["logits"].argmax(-1) == record.outputs("test")["label"] for record in records]
    shares = [(hits[0] / 2 + hits[1] / 2), (hits[2] / 2 + hits[3] / 2)]
    (pair,) = found.pairs()
    assert pair.difference == intervals.paired_bootstrap(*shares)
    assert pair.test == intervals.mcnemar(hits[0], hits[2]) and pair.seeds == (0, 0)
    assert found.accuracy[0]["test"].value == pytest.approx(shares[0].mean())


def test_distances_have_no_scale(make):
    record = make("a", skill=1.0)
    found = compare.distances(record, "test")
    outputs = dict(record.outputs("test"))
    outputs["features"] = 1000 * outputs["features"]
    np.savez(record.workdir / "outputs" / "test.npz", **outputs)
    scaled = compare.distances(record, "test")
    np.testing.assert_allclose(scaled.true, found.true, rtol=1e-4)
    assert scaled.nearer_to_predicted == found.nearer_to_predicted
    assert compare.distances(make("none", features=0), "test") is None


def receipts(value, **protocol):
    return {"test/fd_10k": {"value": value, "interval": [1, 2], "n": 10_000, "resize": "bilinear", **protocol}}


def test_metrics_measured_in_different_ways_stand_in_different_columns(make):
    gan = {"task": "gan"}
    records = [
        make("a", metrics={"test/fd_10k": 5.0}, receipts=receipts(5.0), **gan),
        make("b", metrics={"test/fd_10k": 6.0}, receipts=receipts(6.0), options={"optimizer.name": "sgd"}, **gan),
        make(
            "c",
            metrics={"test/fd_10k": 7.0},
            receipts=receipts(7.0, resize="nearest"),
            options={"optimizer.name": "lion"},
            **gan,
        ),
    ]
    rows = compare.rows(records)
    columns = compare.columns(rows)
    assert [column.values for column in columns] == [{0: [5.0], 1: [6.0]}, {2: [7.0]}]
    assert columns[0].protocol == {"n": 10_000, "resize": "bilinear"}
    (sentence,) = compare.ways(rows, columns)
    assert "(a and b: resize bilinear; c: resize nearest)" in sentence and "10000" not in sentence
    rows = compare.rows(records[:2])
    columns = compare.columns(rows)
    assert len(columns) == 1 and compare.ways(rows, columns) == []


def test_without_receipts_the_examples_are_the_way(make):
    records = [make("a"), make("b", seed=1, fingerprints={"val": "of other images"})]
    rows = compare.rows(records)
    columns = compare.columns(rows)
    assert [column.name for column in columns].count("val/accuracy") == 2
    assert [column.name for column in columns].count("test/accuracy") == 1
    (sentence,) = compare.ways(rows, columns)  # One of all metrics.
    assert sentence.startswith("val/accuracy and val/") and "fingerprint of other images" in sentence


def test_the_comparison_is_strict_json(make):
    rows = compare.rows([make("a"), make("b", seed=1), make("c", options={"optimizer.name": "sgd"}, skill=1.0)])
    found = json.loads(json.dumps(compare.to_json(rows, compare.classifiers(rows)), allow_nan=False))
    assert [row["seeds"] for row in found["rows"]] == [[0, 1], [0]]
    assert found["rows"][0]["seconds_per_step"] == [0.125, 0.125]
    assert found["pairs"][0]["mcnemar"]["seeds"] == [0, 0] and 0 <= found["pairs"][0]["mcnemar"]["p_value"] <= 1
    assert found["rows"][0]["accuracy"]["test"]["low"] < found["rows"][0]["accuracy"]["test"]["value"]
    assert found["differences"] == {"optimizer.name": ["adam", "sgd"]}

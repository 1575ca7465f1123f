"""The page of a comparison, from the files of runs that never were."""

import json
import re

import pytest

from tests import classifier_runs
from vision_jax.analysis import compare
from vision_jax.analysis.record import Record
from vision_jax.metrics.receipt import Protocol, Receipt
from vision_jax.report import compare_page

NAMES = ("cat <b>", "dog", "a bird with a very long name, longer than most")


def text(path):
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", "", path.read_text(), flags=re.S)).split())


@pytest.fixture
def records(tmp_path):
    found = []
    for name, seed, skill, options in (
        ("first", 0, 2.5, {}),
        ("first again", 1, 2.5, {}),
        ("<i>second", 0, 1.0, {"optimizer.name": "sgd"}),
    ):
        splits = {split: classifier_runs.outputs(3, 90, seed=seed, skill=skill) for split in ("train", "val", "test")}
        workdir = classifier_runs.write(tmp_path / name, splits, names=NAMES, options={"seed": seed, **options})
        found.append(Record(workdir))
    return found


def test_everything_is_compared(records, tmp_path):
    path = compare_page.write(tmp_path / "out", records, classifier_runs.images_of)
    shown = text(path)
    for words in (
        "2 configs on toy, 3 runs",
        "p (McNemar)",
        "optimizer.name adam sgd",
        "Recall by class of all runs",
        "Right in first, wrong in &lt;i&gt;second",
        "nearer to the predicted class, %",
        "mean ± standard deviation over the seeds",
        "val/accuracy of all runs",
    ):
        assert words in shown, words
    assert "<i>second" not in path.read_text() and "<script" not in path.read_text()
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["first", "<i>second"]
    first = content["rows"][0]["accuracy"]["test"]
    value, low, high = (100 * first[end] for end in ("value", "low", "high"))
    assert f"{value:.1f} ({low:.1f}–{high:.1f})" in shown and "test/accuracy, %" in shown
    drawn = {file.name for file in path.parent.glob("*.png")}
    assert drawn >= {"accuracies.png", "classes.png", "centroids.png", "curve_0.png", "right_in_0_wrong_in_1.png"}


def test_an_evaluation_that_only_a_later_run_has_is_shown(tmp_path):
    found = []
    for name, splits, optimizer in (("first", ("test",), "adam"), ("second", ("train", "test"), "sgd")):
        arrays = {split: classifier_runs.outputs(3, 90 if split == "test" else 40, features=0) for split in splits}
        options = {"optimizer.name": optimizer}
        found.append(Record(classifier_runs.write(tmp_path / name, arrays, names=NAMES, options=options)))
    rows = compare.rows(found)
    (table,) = compare_page._results(rows, compare.classifiers(rows))
    assert table.header[3:5] == ["train/accuracy, %", "test/accuracy, %"]
    assert table.rows[0][3] is None and table.rows[1][3].value > 0
    assert table.caption.startswith("train n = 40, test n = 90.")


def test_accuracies_of_other_examples_and_of_several_views_have_columns(tmp_path):
    found = []
    for number, examples in enumerate((40, 90)):
        splits = {"val": classifier_runs.outputs(3, examples), "test": classifier_runs.outputs(3, 90)}
        options = {"optimizer.learning_rate": 0.24 / 10**number, "optimizer.weight_decay": 0.016667}
        fingerprints = {"val": f"of {examples}"}
        metrics = {"val/accuracy": 0.7, "test/accuracy_tta2": 0.9, "test/accuracy": 0.8}
        more = {"options": options, "fingerprints": fingerprints, "metrics": metrics}
        found.append(Record(classifier_runs.write(tmp_path / f"{number}", splits, names=NAMES, **more)))
    rows = compare.rows(found)
    table, sentence = compare_page._results(rows, compare.classifiers(rows))
    assert table.header[3:7] == [
        "val/accuracy (way 1), %",
        "val/accuracy (way 2), %",
        "test/accuracy, %",
        "test/accuracy, mean of 2 views, %",
    ]
    assert table.rows[0][4] is None and table.rows[1][3] is None and table.rows[1][6].value == 90
    assert table.caption.startswith("test n = 90. In")
    assert sentence.text.startswith("val/accuracy was measured in different ways") and "examples 40" in sentence.text
    # As they are in the config, not rounded to the decimals of the largest.
    assert "optimizer.learning_rate 0.24 0.024" in text(compare_page.write(tmp_path / "out", found, None))


def test_seeds_have_a_spread_in_every_accuracy_of_the_examples_compared(tmp_path):
    found = []
    for seed in (0, 1):
        splits = {"test": classifier_runs.outputs(3, 90)}
        metrics = {"test/accuracy": 0.8, "test/accuracy_tta2": 0.8 + 0.1 * seed}
        workdir = tmp_path / f"{seed}"
        classifier_runs.write(workdir, splits, names=NAMES, options={"seed": seed}, metrics=metrics)
        found.append(Record(workdir))
    rows = compare.rows(found)
    _, spread = compare_page._results(rows, compare.classifiers(rows))
    assert spread.header[2:] == ("test/accuracy", "test/accuracy, mean of 2 views")
    assert spread.rows == [("0", "0, 1", "80.0 ± 0 %", "85.0 ± 7.1 %")]


def test_probabilities_too_small_to_tell_are_not_zero():
    assert [compare_page._p(value) for value in (0.0, 0.06, 1.7471e-06)] == ["< 1e-15", "0.06", "1.7e-06"]


def test_runs_whose_steps_have_other_lengths_are_drawn_over_epochs(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(compare_page.plots, "curves", lambda path, series, **words: drawn.append((series, words)))
    monkeypatch.setattr(compare_page.page, "picture", lambda *_: None)
    for batch_size, unit, last in ((128, "step", 4), (64, "epoch", 4 * 64 / 80)):
        rows = []
        for name, size, optimizer in (("first", 128, "adam"), ("second", batch_size, "sgd")):
            splits = {split: classifier_runs.outputs(3, 80) for split in ("train", "test")}
            options = {"data.batch_size": size, "optimizer.name": optimizer}
            workdir = classifier_runs.write(tmp_path / unit / name, splits, names=NAMES, options=options)
            rows.append(Record(workdir))
        list(compare_page._curves(tmp_path, compare.rows(rows)))
        series, words = drawn[-1]
        assert words["xlabel"] == unit and series["second"][-1][0] == last


def test_data_that_are_gone_leave_a_sentence(records, tmp_path):
    path = compare_page.write(tmp_path / "out", records, None, "there is no folder '/nowhere'.")
    assert "The images cannot be shown: there is no folder &#x27;/nowhere&#x27;." in text(path)


def test_runs_that_cannot_be_compared_leave_nothing(records, tmp_path):
    splits = {"test": classifier_runs.outputs(3, 90, split_seed=1)}
    other = classifier_runs.write(
        tmp_path / "other", splits, names=NAMES, options={"seed": 5}, fingerprints={"test": "else"}
    )
    with pytest.raises(ValueError, match="saw different examples"):
        compare_page.write(tmp_path / "out", [records[0], Record(other)], None)
    assert not (tmp_path / "out").exists()


def test_other_tasks_have_a_table_of_metrics(tmp_path):
    found = []
    for number, resize in enumerate(("bilinear", "nearest")):
        protocol = Protocol("fd", "a network", "ab12", 64, resize, "toy", "test", "cd34")
        receipt = Receipt("fd", 4.25 + number, 100, 100, protocol).to_json()
        splits = {"test": classifier_runs.outputs(3, 9)}
        workdir = classifier_runs.write(
            tmp_path / f"gan {number}",
            splits,
            names=NAMES,
            options={"optimizer.learning_rate": 0.1 + number},
            task="gan",
            metrics={"test/fd": 4.25 + number},
            receipts={"test/fd": receipt},
        )
        found.append(Record(workdir))
    shown = text(compare_page.write(tmp_path / "out", found, None))
    assert "test/fd (way 1) 4.25 – test/fd (way 2) – 5.25" in shown
    assert "measured in different ways" in shown and "gan 1: resize nearest)" in shown
    assert shown.index("gan 0: test/fd 4.25") < shown.index("gan 1: test/fd 5.25") < shown.index("(way 1)")
    assert "McNemar" not in shown


def test_seeds_of_one_config_are_one_row(tmp_path):
    found = []
    for seed in (0, 1):
        splits = {"test": classifier_runs.outputs(3, 9)}
        workdir = classifier_runs.write(
            tmp_path / f"gan {seed}",
            splits,
            names=NAMES,
            options={"seed": seed},
            task="gan",
            metrics={
                "test/diversity": 0.5,
                "test/psnr_y_x2_shave2": 30 + seed,
                "test/rarest_class_cnn_10k": 0.1 * seed,
            },
            training_seconds=10.0 + 40 * seed,
        )
        found.append(Record(workdir))
    shown = text(compare_page.write(tmp_path / "out", found, None))
    assert "1 config on toy, 2 runs" in shown and "0.5 ± 0" in shown
    for line in ("shave 2) 30.50 ± 0.71 dB", "10k images) 5.0 ± 7.1 %", "training time 30 s"):
        assert line in shown, line

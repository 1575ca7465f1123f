"""Evaluators and constants: what is due when, what is kept of each example, what is in no checkpoint and program."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import untrained_runs
from vision_jax import config as config_lib
from vision_jax import evaluate, train, writers
from vision_jax import run as run_lib
from vision_jax.analysis.record import Record, check_same_examples
from vision_jax.data import datasets
from vision_jax.data.sources import Dataset
from vision_jax.tasks import base
from vision_jax.tasks.classification import Classification
from vision_jax.utils import trees


class Helped(Classification):
    """A classifier whose steps see a network that only helps, and which wants an evaluation of its own."""

    size = 3

    def constants(self):
        return {"helper": {"params": {"shift": np.full((self.size, 5), 0.25, np.float32)}}}

    def train_step(self, state, constants, batch, key):
        state, metrics = super().train_step(state, constants, batch, key)
        return state, metrics | {"helped": jnp.mean(constants["helper"]["params"]["shift"])}

    def helped_step(self, state, constants, batch, key):
        row = jnp.sum(constants["helper"]["params"]["shift"][0]) + batch["label"].astype(jnp.float32)
        return {"total": jnp.sum(row * batch["mask"])}, {"row": row}

    def evaluators(self):
        own = base.Evaluator(
            name="helped",
            split="train",
            every=3,
            limit=10,
            metrics={"mean": True},
            step=self.helped_step,
            summarize=lambda sums: {"mean": float(sums["total"]) / int(sums["count"])},
        )
        return [*super().evaluators(), own]


@pytest.fixture
def helped(monkeypatch):
    """Runs train `Helped` instead of `Classification`."""
    monkeypatch.setattr(run_lib.tasks, "build", Helped)


def smoke(load_config, **options):
    config = load_config("digits_cnn:smoke")
    config.log.tensorboard = False
    for name, value in options.items():
        section, option = name.split("__")
        config[section][option] = value
    return config


def trained(config, workdir):
    with run_lib.build(config, workdir) as run:
        return train.train(run)


def arrays(workdir, name):
    with np.load(workdir / "outputs" / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.usefixtures("no_page")
def test_each_evaluator_has_its_own_interval_and_limit(helped, load_config, tmp_path):
    results = trained(smoke(load_config), tmp_path)  # 13 steps, 'val' every 7.
    rows = writers.read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "helped/mean" in row] == [3, 6, 9, 12, 13]
    assert [row["step"] for row in rows if "val/accuracy" in row] == [7, 13]
    assert not any("test/accuracy" in row for row in rows)
    kept = arrays(tmp_path, "helped")
    np.testing.assert_array_equal(kept["index"], datasets.evenly(results["examples"]["train"], 10))
    with run_lib.build(smoke(load_config), tmp_path) as run:
        labels = run.dataset.splits["train"].labels
    np.testing.assert_array_equal(kept["row"], 1.25 + labels[kept["index"]])
    assert results["metrics"]["helped/mean"] == pytest.approx(kept["row"].mean(), rel=1e-6)
    assert results["evaluations"]["helped"]["examples"] == 10
    assert [step for step in (0, 2, 3, 12, 13) if evaluator(every=3).due(step, last=step == 13)] == [0, 3, 12, 13]
    assert not evaluator(every=0).due(13, last=True)


def evaluator(every):
    return base.Evaluator("a", "val", every, 0, {}, lambda *a: ({}, {}), lambda sums: {})


@pytest.mark.usefixtures("no_page")
def test_train_is_evaluated_at_the_end_if_asked_and_every_further_split_is(load_config, tmp_path, monkeypatch):
    load = datasets.load

    def with_another_test_split(options, **how):
        dataset = load(options, **how)
        splits = {**dataset.splits, "test_again": datasets.limited(dataset.splits["test"], 7)}
        return Dataset(dataset.name, splits, dataset.class_names, dataset.provenance)

    monkeypatch.setattr(datasets, "load", with_another_test_split)
    results = trained(smoke(load_config, eval__train=True, eval__limit=20), tmp_path)
    assert {name: found["examples"] for name, found in results["evaluations"].items()} == {
        "val": 20,
        "train": 20,
        "test": 200,
        "test_again": 7,
    }
    assert {"val/accuracy", "train/accuracy", "test/accuracy", "test_again/accuracy"} <= set(results["metrics"])
    assert json.loads((tmp_path / "report/results.json").read_text()) == results


@pytest.mark.usefixtures("no_page")
def test_outputs_are_the_network_s_and_metrics_follow_from_them(load_config, tmp_path):
    config = smoke(load_config, data__eval_batch_size=64)  # Which does not divide 200.
    results = trained(config, tmp_path)
    with run_lib.build(config, tmp_path) as run:
        state = run.checkpoints.restore(results["checkpoint_step"], run.abstract_state()).state
        source = run.dataset.splits["test"]
        logits, features = jax.device_get(jax.jit(run.task.predict)(state, source.images))
    kept = arrays(tmp_path, "test")
    np.testing.assert_array_equal(kept["index"], np.arange(200))
    np.testing.assert_array_equal(kept["label"], source.labels)
    np.testing.assert_allclose(kept["logits"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept["features"], features, rtol=1e-4, atol=1e-5)
    assert (kept["logits"].argmax(-1) == kept["label"]).mean() == pytest.approx(results["metrics"]["test/accuracy"])
    assert str(kept["fingerprint"]) == results["evaluations"]["test"]["fingerprint"]
    pictures = Record(tmp_path).pictures("test")
    shapes = {name: x.shape[1:] for name, x in pictures.items()}
    assert shapes == {"predicted": (8, 8, 3), "augmented": (8, 8, 1), "filters": (3, 3, 1)}


@pytest.mark.usefixtures("no_page")
def test_features_are_left_out_if_they_are_not_wanted(load_config, tmp_path):
    trained(smoke(load_config, eval__features=False), tmp_path)
    assert set(arrays(tmp_path, "test")) == {"index", "label", "logits", "fingerprint"}


@pytest.mark.usefixtures("no_page")
def test_runs_on_the_same_split_are_compared_row_by_row_and_others_refused(load_config, tmp_path):
    for name, options in {"a": {"seed": 1}, "b": {"seed": 2}, "c": {"seed": 1, "split_seed": 5}}.items():
        config = smoke(load_config, data__split_seed=options.get("split_seed", 0))
        config.seed = options["seed"]
        trained(config, tmp_path / name)
    a, b, c = (Record(tmp_path / name) for name in "abc")
    check_same_examples(a, b, "test")
    first, second = (record.outputs("test") for record in (a, b))
    np.testing.assert_array_equal(first["label"], second["label"])
    assert not np.array_equal(first["logits"], second["logits"])
    with pytest.raises(ValueError, match="saw different examples"):
        check_same_examples(a, c, "test")
    with pytest.raises(ValueError, match="no such evaluation"):
        check_same_examples(a, b, "train")


@pytest.mark.usefixtures("no_page")
def test_constants_are_named_by_their_hash_and_in_no_checkpoint(helped, load_config, tmp_path, monkeypatch):
    saved, sizes, hashes = [], [], []
    for size in (1, 200_000):  # 4 MB.
        monkeypatch.setattr(Helped, "size", size)
        workdir = tmp_path / str(size)
        with run_lib.build(smoke(load_config), workdir) as run:
            results = train.train(run)
            saved.append(jax.tree.map(lambda array: (array.shape, array.dtype), run.checkpoints.description(13)))
        assert any(row.get("train/helped") == 0.25 for row in writers.read_rows(workdir / "metrics.jsonl"))
        hashes.append(results["constants"]["helper"])
        sizes.append(sum(path.stat().st_size for path in (workdir / "checkpoints/13").rglob("*") if path.is_file()))
    assert saved[0] == saved[1]
    assert abs(sizes[1] - sizes[0]) < 100_000  # Orbax's files of equal arrays differ by kilobytes.
    assert hashes[0] != hashes[1] == trees.fingerprint({"params": {"shift": np.full((200_000, 5), 0.25, np.float32)}})


def test_constants_are_an_argument_of_programs(helped, load_config, tmp_path, monkeypatch):
    texts = []
    for size in (1, 200_000):
        monkeypatch.setattr(Helped, "size", size)
        with run_lib.build(smoke(load_config), tmp_path) as run:
            state, evaluation = run.abstract_state(), evaluate.Evaluation(run)
            loader = run.loader("train")
            batch = next(loader.train(run.config.data.batch_size, 0))
            dispatches = train.Dispatches(run, evaluation.constants, loader, start=0)
            shapes = dispatches.sums_shapes(state)
            program = dispatches.steps.program(several=False, out_shardings=None)
            lowered = program.lower(state, shapes, evaluation.constants, loader.data, batch, np.int32(1))
            compiled = lowered.compile()
            texts.append((len(lowered.as_text()), len(compiled.as_text())))
    (small, small_compiled), (large, large_compiled) = texts
    assert abs(large - small) < 1000 and abs(large_compiled - small_compiled) < 10_000


class Gathered:
    """A collector of the rows of `Helped`."""

    def __init__(self):
        self.rows = []

    def add(self, outputs):
        self.rows.append(outputs["row"])

    def metrics(self):
        return {"rows": float(sum(map(len, self.rows)))}

    def final(self):
        pictures = {"drawn": np.full((2, 4, 4, 1), 7, np.uint8)}
        receipts = {"rows": {"value": 1.0, "of": "rows"}}
        return base.Measured(self.metrics(), receipts, pictures, {"apart": np.array([0.5])})


@pytest.mark.usefixtures("no_page")
def test_a_collector_sees_every_row_once_and_adds_metrics_receipts_and_pictures(
    helped, load_config, tmp_path, monkeypatch
):
    evaluators = Helped.evaluators

    def with_collector(self):
        *others, own = evaluators(self)
        return [*others, dataclasses.replace(own, collector=Gathered)]

    monkeypatch.setattr(Helped, "evaluators", with_collector)
    results = trained(smoke(load_config, data__eval_batch_size=4), tmp_path)  # Ten rows: the last batch is padded.
    rows = writers.read_rows(tmp_path / "metrics.jsonl")
    assert [row["helped/rows"] for row in rows if "helped/rows" in row] == [10.0] * 5
    assert results["metrics"]["helped/rows"] == 10.0
    assert results["receipts"] == {"helped/rows": {"value": 1.0, "of": "rows"}}
    pictures = Record(tmp_path).pictures("helped")
    assert pictures["drawn"].shape == (2, 4, 4, 1) and pictures["apart"].tolist() == [0.5]


@pytest.mark.usefixtures("no_page")
def test_another_evaluation_may_pick_the_best_checkpoint(helped, load_config, tmp_path):
    results = trained(smoke(load_config, eval__best_metric="helped/mean"), tmp_path)
    assert results["chosen_by"] == "helped/mean"
    assert results["checkpoint_step"] == 13  # Of equals the last.
    with pytest.raises(run_lib.ConfigError, match=r"'helped/men'; did you mean 'helped/mean'\?; measured during"):
        run_lib.build(smoke(load_config, eval__best_metric="helped/men"), tmp_path)
    with pytest.raises(run_lib.ConfigError, match="'test/accuracy'"):  # Which is read when training has ended.
        run_lib.build(smoke(load_config, eval__best_metric="test/accuracy"), tmp_path)


@pytest.mark.usefixtures("no_page")
def test_results_say_whether_training_had_ended(tmp_path):
    config = config_lib.default()
    config.data.limit, config.model.name, config.model.mlp = 40, "mlp", dict(hidden=(5,))
    config.train.steps = 13
    untrained_runs.write(config, tmp_path, step=7)
    with run_lib.build(config, tmp_path) as run:
        assert not evaluate.final(run, None, evaluate.Evaluation(run))["finished"]
    assert not Record(tmp_path).finished
    untrained_runs.write(config, tmp_path, step=13)
    with run_lib.build(config, tmp_path) as run:
        assert run.finished()


def test_what_a_page_shows_is_read_from_the_folder(load_config, tmp_path):
    trained(smoke(load_config), tmp_path)
    found = Record(tmp_path)
    assert found.best_test() == "test"
    evaluations = found.results["evaluations"]
    evaluations["Set5"] = evaluations.pop("test") | {"split": "Set5"}
    assert found.best_test() == "Set5"
    del evaluations["Set5"]
    assert found.best_test() == "val"
    assert found.results["metrics"]["test/accuracy"] <= 1.0
    assert found.dataset["class_names"] == list("0123456789")
    assert {split: sum(counts) for split, counts in found.dataset["examples_per_class"].items()} == {
        "train": 200,
        "val": 144,
        "test": 200,
    }
    assert found.config["model"]["cnn"]["channels"] == [32, 64]
    assert found.rows()[0]["step"] == 7 and found.environment["process_count"] == 1
    assert not list(pathlib.Path(tmp_path).rglob(".*npz*"))

"""From Python: what is loaded answers as the commands do, and what it cannot do is a sentence."""

import doctest
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import vision_jax
from tests import blank_pages
from vision_jax import config as config_lib
from vision_jax import evaluate, networks, run
from vision_jax.data import datasets


@pytest.fixture(scope="module")
def trained(tmp_path_factory, repository):
    """A folder with a short run on digits in it, and its results."""
    workdir = tmp_path_factory.mktemp("trained") / "digits"
    options = {"train.epochs": 3.0, "log.tensorboard": False}
    with pytest.MonkeyPatch.context() as patch:
        blank_pages.use(patch)
        return workdir, vision_jax.fit(f"{repository}/configs/digits_cnn.py:smoke", workdir, options=options)


def test_the_example_of_the_package_runs(tmp_path, monkeypatch):
    """Configs are found from any folder."""
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(vision_jax)
    assert tried > 5 and not failed


def test_importing_loads_nothing_and_names_what_there_is():
    code = "import sys, vision_jax; assert 'jax' not in sys.modules; print('load' in dir(vision_jax))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        vision_jax.lod  # noqa: B018


def test_training_returns_what_it_writes_and_says_nothing_on_stdout(trained, capsys):
    workdir, results = trained
    assert results == json.loads((workdir / "report/results.json").read_text())
    assert capsys.readouterr().out == ""


def test_a_classifier_is_as_right_as_its_evaluation_was(trained):
    workdir, results = trained
    net = vision_jax.load(workdir)
    config = config_lib.from_dict(json.loads((workdir / "config.json").read_text()))
    test = datasets.load(config.data).splits["test"]
    answers = net.predict(test.images)
    hits = [answer.label == net.class_names[label] for answer, label in zip(answers, test.labels, strict=True)]
    assert np.mean(hits) == pytest.approx(results["metrics"]["test/accuracy"])
    logits = net.logits(test.images)
    np.testing.assert_allclose(net.logits(test.images / 255.0), logits, rtol=1e-4, atol=1e-5)
    head = net.variables["params"]["head"]
    np.testing.assert_allclose(net.features(test.images) @ head["kernel"] + head["bias"], logits, rtol=1e-4, atol=1e-4)


def test_files_folders_and_arrays_are_the_same_pictures(trained, tmp_path):
    net = vision_jax.load(trained[0])
    image = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    by_folder, by_file, by_array = net.predict([tmp_path, tmp_path / "a.png", image[..., None]])
    assert by_folder.predictions == by_file.predictions == by_array.predictions
    (missing,) = net.predict("nowhere.png")
    assert "nowhere.png" in missing.error and missing.label == "" and missing.probability == 0
    assert net.explain(tmp_path / "a.png").shape == (8, 8, 3)


def test_what_a_network_cannot_do_names_what_it_can(trained):
    net = vision_jax.load(trained[0])
    for method in (lambda: net.sample(1), lambda: net.upscale("a.png")):
        with pytest.raises(vision_jax.WrongNetworkError, match=r"is a classifier, which has no .* it has predict"):
            method()
    for wrong in (np.zeros((8, 8, 1), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 1), np.int32)):
        with pytest.raises(ValueError, match=r"Expected images \[N, H, W, 1\]"):
            net.logits(wrong)
    for wrong in (np.full((1, 8, 8, 1), 200.0), np.full((1, 8, 8, 1), -2.0), np.full((1, 8, 8, 1), np.nan)):
        with pytest.raises(ValueError, match=r"Expected float images in \[0, 1\], before normalization"):
            net.logits(wrong)
    assert net.logits(np.full((1, 8, 8, 1), 1.2)).shape == (1, 10)  # What resizing overshoots.
    with pytest.raises(ValueError, match="Expected a picture, uint8"):
        net.predict(np.zeros((8, 8, 3), np.float32))


def test_what_cannot_be_loaded_is_a_sentence(trained, tmp_path):
    with pytest.raises(ValueError, match="neither the folder of a run nor a network; did you mean 'resnet"):
        vision_jax.load("resnet19")
    with pytest.raises(ValueError, match=r"There is no run in .* \(no config\.json\)"):
        vision_jax.load(tmp_path)
    with pytest.raises(ValueError, match="leave `weights` out"):
        vision_jax.load(trained[0], weights="imagenet")
    with pytest.raises(config_lib.ConfigError, match=r"did you mean 'configs/digits_cnn\.py'"):
        vision_jax.fit("experiments/digits_cnn.py", tmp_path)
    with pytest.raises(config_lib.ConfigError, match=r"did you mean 'optimizer\.learning_rate'"):
        vision_jax.fit("digits_cnn:smoke", tmp_path, options={"optimizer.learning_rat": 1})


def test_published_weights_are_loaded_from_a_file(test_data):
    net = networks.load("resnet20", weights=test_data / "weights/resnet20-12fca82f.th")
    assert net.logits(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 10)
    assert net.class_names[3] == "cat"


@pytest.mark.usefixtures("no_page")
def test_other_data_are_evaluated_beside_the_run(trained, tmp_path):
    """A folder with some of the classes, in another order than theirs."""
    workdir, _ = trained
    config = config_lib.from_dict(json.loads((workdir / "config.json").read_text()))
    digits = datasets.load(config.data).splits["test"]
    for label in (7, 2):
        (tmp_path / "mine" / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(digits.labels == label)[:6]:
            rgb = np.broadcast_to(digits.images[i], (8, 8, 3))
            Image.fromarray(rgb).save(tmp_path / "mine" / str(label) / f"{i}.png")
    with pytest.raises(config_lib.ConfigError, match=r"are \[8, 8, 3\], but .* was trained on \[8, 8, 1\]"):
        run.build_for(config, workdir, str(tmp_path / "mine"))
    (workdir / "evaluations/digits").mkdir(parents=True)
    for name in ("config", "dataset", "environment"):  # Of an earlier one.
        (workdir / f"evaluations/digits/{name}.json").write_text("{}")
    with run.build_for(config, workdir, "digits") as built:
        results = evaluate.final(built, built.checkpoints.best(), evaluate.Evaluation(built))
    assert results["examples"] == {"test": 1797} and set(results["evaluations"]) == {"test"}
    written = json.loads((workdir / "evaluations/digits/report/results.json").read_text())
    assert written == results
    assert (workdir / "evaluations/digits/report/index.html").is_file()
    noted = json.loads((workdir / "evaluations/digits/dataset.json").read_text())
    assert noted["name"] == "digits" and "command" in (workdir / "evaluations/digits/environment.json").read_text()
    with pytest.raises(ValueError, match="is no folder and no data set; did you mean 'digits'"):
        run.build_for(config, workdir, "digts")


def test_each_folder_has_an_evaluation_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folders = (".", "..", "../a/b", "a_b", "a b", "a/b", "b", "фото", "图片")
    names = [run._folder_name(data) for data in folders]
    assert len(set(names)) == len(names) and all(re.fullmatch("[A-Za-z0-9_-]+", name) for name in names)
    assert names[0].startswith("here-") and run._folder_name(str(tmp_path / "here")) == names[0]
    assert [run._folder_name(name) for name in ("digits", "tfds:a/b")] == ["digits", "tfds_a_b"]


def test_labels_of_other_data_become_the_network_s(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    options = config_lib.default().data
    found = datasets.for_evaluation(str(tmp_path), options, ("dog", "bird", "cat"))
    source = found.splits["test"]
    assert source.labels.tolist() == [2, 2, 2, 0, 0, 0] and int(source[5]["label"]) == 0
    assert found.class_names == ("dog", "bird", "cat")
    with pytest.raises(ValueError, match="has dog, which the network does not know; its classes are bird, cat"):
        datasets.for_evaluation(str(tmp_path), options, ("bird", "cat"))

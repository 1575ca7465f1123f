"""The page of a classifier, from files alone: what it shows, what it leaves out, and that names stay text."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from tests import classifier_runs
from vision_jax.analysis import centroids
from vision_jax.analysis.record import Record
from vision_jax.report import classification, page, run_page

EVIL = "</script><script>alert(1)</script>"
NAMES = ("cat", EVIL, "dog")


def text(path):
    """What a reader sees."""
    content = re.sub(r"<(script|style).*?</\1>", "", path.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", content).split())


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    splits = {"val": classifier_runs.outputs(3, 20), "test": classifier_runs.outputs(3, 60)}
    pictures = {"filters": np.zeros((4, 3, 3, 3), np.uint8)}
    folder = tmp_path_factory.mktemp("classifier") / "run"
    return classifier_runs.write(folder, splits, names=NAMES, pictures=pictures)


@pytest.fixture(scope="module")
def full(workdir):
    """The page with everything on it."""
    return write(workdir)


def write(workdir):
    return run_page.of_run(Record(workdir), classifier_runs.images_of)


def test_everything_is_shown(full):
    drawn = {file.name for file in full.parent.glob("*.png")}
    assert drawn >= {
        "confusion_matrix.png",
        "mistakes.png",
        "doubtful.png",
        "images.png",
        "reliability.png",
        "classes.png",
        "distribution.png",
        "tsne_2d.png",
        "tsne_3d.png",
        "centroid_scatter.png",
        "centroid_histogram.png",
        "filters.png",
    }
    shown = text(full)
    for words in (
        "Feature space",
        "Mistakes and centroids",
        "ROC-AUC",
        "Expected calibration error",
        "4 kernels of 3×3",
    ):
        assert words in shown
    assert "superclass" not in shown


def test_accuracies_stand_with_their_intervals(full, workdir):
    shown = text(full)
    outputs = Record(workdir).outputs("test")
    hits = int((outputs["logits"].argmax(-1) == outputs["label"]).sum())
    p, z = hits / 60, 1.959964
    center, half = p + z**2 / 120, z * np.sqrt(p * (1 - p) / 60 + z**2 / 14400)
    low, high = ((center + sign * half) / (1 + z**2 / 60) for sign in (-1, 1))
    assert f"{100 * p:.1f} % (n = 60, 95 % interval {100 * low:.1f}–{100 * high:.1f})" in shown
    own = outputs["label"] == 0
    recall = float((outputs["logits"].argmax(-1) == 0)[own].mean())
    assert re.search(rf"cat {own.sum()} {100 * recall:.1f} \(", shown)


def test_a_loss_of_smoothed_labels_says_how_low_it_can_get(workdir):
    record = Record(workdir)
    assert classification.notes(record) == {"loss": "train: each point is the mean since the one before."}
    record.config["train"]["label_smoothing"] = 0.3
    note = classification.notes(record)["loss"]
    entropy = -(0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1))  # Of 3 classes.
    assert "labels smoothed by 0.3" in note and f"the least possible loss is {entropy:.2f}." in note


def test_names_stay_text_everywhere(full):
    content = full.read_text()
    assert EVIL not in content and "alert(1)</script>" not in content
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", content, flags=re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json"', "", ""]
    data = json.loads(scripts[0][1])
    assert any(EVIL in said for said in data["texts"])


def test_points_carry_their_image_and_classes(full, workdir):
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', full.read_text())[1])
    outputs = Record(workdir).outputs("test")
    predicted = outputs["logits"].argmax(-1)
    assert data["group"] == outputs["label"].tolist() and len(data["points"]) == 180
    assert data["wrong"] == (predicted != outputs["label"]).astype(int).tolist()
    assert max(map(abs, data["points"])) == 1000
    wrong = int(np.flatnonzero(predicted != outputs["label"])[0])
    true, said = NAMES[outputs["label"][wrong]], NAMES[predicted[wrong]]
    assert data["texts"][wrong].startswith(f"true: {true}\npredicted: {said}\n")
    assert data["sprites"].startswith("data:image/webp;base64,")


def test_without_features_their_sections_are_left_out(tmp_path):
    splits = {"test": classifier_runs.outputs(3, 30, features=0)}
    path = write(classifier_runs.write(tmp_path / "run", splits, names=NAMES))
    assert not list(path.parent.glob("tsne*")) and not list(path.parent.glob("centroid*"))
    shown = text(path)
    assert "Feature space" not in shown and "centroid" not in shown and "First layer" not in shown
    assert "Reliability diagram" in shown
    assert "application/json" not in path.read_text()


def test_centroids_are_the_training_split_s_where_it_was_kept(tmp_path):
    splits = {"train": classifier_runs.outputs(3, 50, seed=3), "test": classifier_runs.outputs(3, 40)}
    both = Record(classifier_runs.write(tmp_path / "both", splits, names=NAMES))
    alone = Record(classifier_runs.write(tmp_path / "alone", {"test": splits["test"]}, names=NAMES))
    found = {}
    for name, record in {"both": both, "alone": alone}.items():
        found[name] = centroids.of_run(record, "test")
    train = splits["train"]
    np.testing.assert_allclose(found["both"][0][1], train["features"][train["label"] == 1].mean(0), rtol=1e-5)
    assert found["both"][1] == "50 images of the training split"
    test = splits["test"]
    own = (test["label"] == 1) & (test["logits"].argmax(-1) == 1)
    np.testing.assert_allclose(found["alone"][0][1], test["features"][own].mean(0), rtol=1e-5)
    assert "of test that the network gets right" in found["alone"][1]


def test_many_classes_with_superclasses(tmp_path):
    names = [f"class {k}" for k in range(24)]
    superclasses = [f"super {k % 3}" for k in range(24)]
    splits = {"test": classifier_runs.outputs(24, 120)}
    path = write(classifier_runs.write(tmp_path / "run", splits, names=names, superclasses=superclasses))
    assert (path.parent / "confusion_matrix_superclasses.png").exists() and (path.parent / "classes_1.png").exists()
    outputs = splits["test"]
    predicted = outputs["logits"].argmax(-1)
    wrong = predicted != outputs["label"]
    within = int((predicted % 3 == outputs["label"] % 3)[wrong].sum())
    assert f"Of {wrong.sum()} mistakes {within} stay within the superclass." in text(path)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', path.read_text())[1])
    assert data["group"] == (outputs["label"] % 3).tolist()


def test_a_perfect_classifier_has_a_page(tmp_path):
    splits = {"test": classifier_runs.outputs(2, 4, skill=99.0)}  # Too few for t-SNE.
    shown = text(write(classifier_runs.write(tmp_path / "run", splits, names=("a", "b"))))
    assert "There is no mistake in test" in shown and "Most confident mistakes" not in shown


def test_records_of_before_superclasses_have_a_page(tmp_path):
    splits = {"test": classifier_runs.outputs(2, 12, features=0)}
    workdir = classifier_runs.write(tmp_path / "run", splits, names=("a", "b"))
    dataset = json.loads((workdir / "dataset.json").read_text())
    for name in ("superclasses", "examples_per_class"):
        del dataset[name]
    (workdir / "dataset.json").write_text(json.dumps(dataset))
    assert "Examples per class" not in text(write(workdir))


def test_only_the_page_s_own_script_may_run(full, tmp_path):
    content = full.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', content)[1]
    scripts = re.findall(r"<script>(.*?)</script>", content, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    page.write(tmp_path / "plain.html", title="t", sections=[page.Section("s", [page.Text("t")])])
    assert "script-src" not in (tmp_path / "plain.html").read_text()

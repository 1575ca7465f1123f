"""Pictures to classes: from a run and from weights, as table, JSON and CSV, with what cannot be read reported."""

import csv
import io
import json
import pathlib
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image

from tests import forked_commands
from vision_jax import checkpoints, inference, models
from vision_jax.data import decode
from vision_jax.data.transforms import ResizeCenterCrop
from vision_jax.pretrained import port, torch_writer, weights
from vision_jax.tools import predict
from vision_jax.utils import trees

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cnn(**options):
    model = models.build("cnn", **{"num_classes": 10, "channels": (4, 6), "global_pool": True, **options})
    rng = np.random.default_rng(0)
    return model, jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), models.shapes(model, (32, 32, 3))
    )


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Weights of a small network with their record."""
    path = tmp_path_factory.mktemp("weights") / "cnn.safetensors"
    options = {"channels": [4, 6], "global_pool": True}
    preprocessing = weights.published("resnet20").preprocessing
    record = weights.Record("cnn", "a test", options=options, class_names=CIFAR, preprocessing=preprocessing)
    weights.save(path, cnn()[1], record)
    return path


@pytest.fixture(scope="module")
def network(weight_file):
    return inference.pretrained_classifier("cnn", str(weight_file))


def paths(folder):
    return list(inference.picture_files([str(folder)]))


def test_folders_are_walked_for_pictures(pictures):
    names = [path.relative_to(pictures).as_posix() for path in paths(pictures)]
    assert names == ["a.png", "b.jpg", "broken.jpg", "more/c.png", "more/d.JPG", "more/e.jpg"]
    assert list(inference.picture_files(["x/none.jpg", "y.txt"])) == [pathlib.Path("x/none.jpg"), pathlib.Path("y.txt")]


def test_a_file_knows_its_names_and_preprocessing(network):
    assert network.class_names == CIFAR
    assert network.preprocessing == weights.published("resnet20").preprocessing
    assert network.note == ""


def test_a_file_of_unknown_origin_gets_the_published_preprocessing_and_says_so(tmp_path):
    shapes = models.shapes(models.build("resnet20"), (32, 32, 3))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    torch_writer.write_pth(tmp_path / "resnet20.pth", port.to_state_dict("resnet20", zeros))
    network = inference.pretrained_classifier("resnet20", str(tmp_path / "resnet20.pth"))
    assert network.class_names == CIFAR
    assert network.preprocessing == weights.published("resnet20").preprocessing
    assert "does not say its preprocessing" in network.note


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_answers_are_the_networks_whatever_the_batch(network, pictures, batch_size):
    answers = list(inference.predict(network, paths(pictures), top=3, batch_size=batch_size))
    assert [bool(answer.error) for answer in answers] == [False, False, True, False, False, False]
    view = ResizeCenterCrop(32, 32)
    for answer in answers:
        if answer.error:
            assert answer.predictions == []
            assert "broken.jpg" in answer.error
            continue
        image = Image.open(answer.image)
        if answer.image.endswith("e.jpg"):
            image = image.transpose(Image.Transpose.ROTATE_270)  # what its EXIF tag asks for
        image = view({"image": np.asarray(image.convert("RGB"))})["image"]
        x = (image / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        logits = network.model.apply(network.variables, x[None].astype(np.float32), train=False)
        expected = np.asarray(jax.nn.softmax(logits))[0]
        order = np.argsort(-expected)[:3]
        assert [index for _, index, _ in answer.predictions] == order.tolist()
        assert [name for name, _, _ in answer.predictions] == [CIFAR[i] for i in order]
        np.testing.assert_allclose([p for _, _, p in answer.predictions], expected[order], rtol=1e-4)


def test_no_more_classes_than_there_are(network, pictures):
    (answer,) = inference.predict(network, [pictures / "a.png"], top=99, batch_size=2)
    assert len(answer.predictions) == 10
    assert sum(p for _, _, p in answer.predictions) == pytest.approx(1, abs=1e-5)


ANSWERS = [
    inference.Answer("a, b.jpg", [("cat", 3, 0.75), ("dog", 5, 0.25)], explanation="x/0.png"),
    inference.Answer("c.jpg", error="c.jpg: damaged"),
]


def test_csv(capsys):
    assert predict.write(ANSWERS, "csv", True) == (1, 1)
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["class"] for row in rows] == ["cat", "dog", ""]
    assert rows[0] == {
        "image": "a, b.jpg",
        "rank": "1",
        "class": "cat",
        "index": "3",
        "probability": "0.750000",
        "error": "",
        "explanation": "x/0.png",
    }
    assert rows[2]["error"] == "c.jpg: damaged"
    assert "Not read: c.jpg: damaged" in err


def test_json(capsys):
    predict.write(ANSWERS, "json", True)
    first, second = json.loads(capsys.readouterr().out)
    assert first["predictions"][0] == {"class": "cat", "index": 3, "probability": 0.75}
    assert first["explanation"] == "x/0.png"
    assert second == {"image": "c.jpg", "predictions": [], "error": "c.jpg: damaged"}
    predict.write([], "json", False)
    assert json.loads(capsys.readouterr().out) == []


def test_table(capsys):
    predict.write(ANSWERS, "table", False)
    out = capsys.readouterr().out
    assert "a, b.jpg     1  cat    75.00 %" in out
    assert "c.jpg" not in out.replace("b.jpg", "")


# Runs.


def test_a_run_is_used_with_its_own_preprocessing_and_averaged_parameters(run_folder, pictures):
    network = inference.classifier_of_run(run_folder)
    assert network.channels == 1
    assert network.class_names == tuple("0123456789")
    assert (network.preprocessing.resize, network.preprocessing.crop) == (8, 8)
    assert network.preprocessing.mean == (0.3,)
    restored = checkpoints.read(run_folder, 3)
    np.testing.assert_array_equal(
        network.variables["params"]["head"]["bias"], restored.state["networks/model/averaged/head/bias"]
    )
    assert network.open(pictures / "a.png").shape == (8, 8, 1)
    answers = list(inference.predict(network, paths(pictures), top=2, batch_size=8))
    assert [bool(answer.error) for answer in answers] == [False, False, True, False, False, False]


def test_reading_a_run_changes_nothing(run_folder):
    # What an interrupted save leaves behind belongs to a run that may still be writing it.
    unfinished = run_folder / "checkpoints" / "7.orbax-checkpoint-tmp-0"
    unfinished.mkdir()
    before = sorted(path for path in run_folder.rglob("*"))
    inference.open_run(run_folder, "newest")
    assert sorted(path for path in run_folder.rglob("*")) == before
    unfinished.rmdir()


def test_runs_that_are_not_there(run_folder, tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="There are no checkpoints in"):
        inference.open_run(tmp_path)
    with pytest.raises(checkpoints.CheckpointError, match=r"no checkpoint 5 in .*; there are \[3\]"):
        inference.open_run(run_folder, 5)


# Grad-CAM.


def test_grad_cam_is_its_definition(network):
    model, variables = network.model, network.variables
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    classes = np.array([3, 7])
    stage = inference.last_map(model, variables, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert stage == "block2"
    cam = np.asarray(inference.grad_cam(model, variables, x, classes, stage))
    # The network ends in mean pooling and a linear layer, so that the gradient of a logit is the layer's row / (h w).
    _, kept = model.apply(variables, x, train=False, mutable=["intermediates"])
    maps = np.asarray(kept["intermediates"]["block2"][0])
    for i, c in enumerate(classes):
        expected = np.maximum(maps[i] @ variables["params"]["head"]["kernel"][:, c] / maps[i, ..., 0].size, 0)
        np.testing.assert_allclose(cam[i], expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_finds_the_spot_that_decides():
    """A network whose only weight for a class looks at bright places points at the bright place."""
    model, variables = cnn(num_classes=2, channels=(1,))
    x = np.zeros((1, 16, 16, 3), np.float32)
    x[0, 2:6, 10:14] = 1
    variables = jax.tree.map(np.zeros_like, variables)
    for name, leaf in trees.flatten(variables).items():
        if leaf.ndim == 4:
            leaf[1, 1] = 1
        elif name.endswith("head/kernel"):
            leaf[:, 1] = 1
    stage = inference.last_map(model, variables, jax.ShapeDtypeStruct(x.shape, x.dtype))
    cam = np.asarray(inference.grad_cam(model, variables, x, np.array([1]), stage))[0]
    assert np.argwhere(cam == cam.max()).min(0).tolist() == [1, 5]
    assert np.argwhere(cam > 0).max(0).tolist() == [2, 6]
    picture = np.asarray(inference.overlay((x[0] * 255).astype(np.uint8), cam)).astype(int)
    assert picture[4, 12, 0] > picture[4, 12, 2] + 50  # red where it decides
    assert picture[14, 2, 0] <= picture[14, 2, 2]


def test_a_perceptron_cannot_be_explained():
    model = models.build("mlp", num_classes=2, hidden=(4,))
    shapes = models.shapes(model, (4, 4, 1))
    with pytest.raises(ValueError, match="MLP has no feature map"):
        inference.last_map(model, shapes, jax.ShapeDtypeStruct((1, 4, 4, 1), np.float32))


def test_overlay_of_nothing():
    image = np.full((6, 5, 1), 100, np.uint8)
    assert inference.overlay(image, np.zeros((2, 2), np.float32)).size == (5, 6)


def test_explanations_are_written(network, pictures, tmp_path):
    folder = tmp_path / "why" / "so"
    answers = list(inference.predict(network, paths(pictures), top=1, batch_size=4, explain_in=folder))
    written = [answer.explanation for answer in answers if answer.explanation]
    assert sorted(written) == sorted(map(str, folder.iterdir()))
    assert len(written) == 5
    drawn = decode.decode_image(written[0])
    prepared = network.open(paths(pictures)[0]).repeat(7, axis=0).repeat(7, axis=1)
    top = len(drawn) - 224 - 4  # Below the names of both.
    np.testing.assert_array_equal(drawn[top : top + 224, 8 : 8 + 224], np.broadcast_to(prepared, (224, 224, 3)))
    assert drawn.shape[1] == 2 * 232 + 8 and (drawn[:top, 240:] < 128).any()


# The command.


def command(*arguments, cwd):
    return forked_commands.run([sys.executable, "-m", "vision_jax.tools.predict", *map(str, arguments)], cwd=cwd)


def test_the_command(weight_file, pictures, repository):
    arguments = ["--model=cnn", f"--weights={weight_file}", "--format=json", "--top=2"]
    done = command(pictures, pictures / "none.png", *arguments, cwd=repository)
    assert done.returncode == 1, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == 7
    assert [len(answer["predictions"]) for answer in answers] == [2, 2, 0, 2, 2, 2, 0]
    assert "none.png: No such file" in answers[-1]["error"]
    assert "2 of 7 pictures could not be read" in done.stderr


@pytest.mark.parametrize(
    ("paths", "options", "match"),
    [
        ([], {}, "which pictures"),
        (["a.jpg"], {}, "either --workdir of a run or --model"),
        (["a.jpg"], {"workdir": "nowhere", "model": "resnet20"}, "either --workdir of a run or --model"),
        (["a.jpg"], {"model": "resnet19"}, "no network is called 'resnet19'; did you mean"),
        (["a.jpg"], {"model": "srcnn"}, "srcnn has no published weights"),
        (["a.jpg"], {"workdir": "nowhere"}, "There are no checkpoints in"),
    ],
)
def test_what_cannot_be_done_is_refused_in_sentences(paths, options, match, capsys):
    defaults = {"workdir": None, "model": None, "weights": "", "checkpoint": "best"}
    status = predict.run(paths, **(defaults | options), top=1, form="csv", batch_size=1, explain_in=None)
    assert status == 2
    assert match in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "command"), [("gan", "sample {}"), ("super_resolution", "upscale PICTURES OUT --workdir={}")]
)
def test_runs_of_other_tasks_name_their_command(task, command, tmp_path, monkeypatch, capsys):
    restored = types.SimpleNamespace(config={"task": task}, step=3, state={})
    monkeypatch.setattr(checkpoints, "read", lambda workdir, step: restored)
    (tmp_path / "dataset.json").write_text('{"class_names": [], "image_shape": [8, 8, 3]}')
    options = {"model": None, "weights": "", "checkpoint": "best", "top": 1, "form": "csv", "batch_size": 1}
    assert predict.run(["a.jpg"], workdir=str(tmp_path), explain_in=None, **options) == 2
    assert f"`vision-jax {command.format(tmp_path)}`." in capsys.readouterr().err


def test_an_empty_folder_is_an_error(run_folder, tmp_path, capsys):
    status = predict.run(
        [str(tmp_path)],
        workdir=str(run_folder),
        checkpoint="newest",
        model=None,
        weights="",
        top=1,
        form="table",
        batch_size=1,
        explain_in=None,
    )
    assert status == 2
    assert "there is no picture" in capsys.readouterr().err

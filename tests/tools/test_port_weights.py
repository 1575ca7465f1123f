"""Weights both ways: files to files, runs to files, and what PyTorch says to them."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from tests import forked_commands
from tests.torchvision_import import import_torchvision
from vision_jax import inference, models
from vision_jax.checkpoints import CheckpointError
from vision_jax.pretrained import port, torch_file, torch_writer, weights
from vision_jax.tools import port_weights
from vision_jax.utils import trees


def convert(file=None, out=None, **options):
    defaults = {
        "torch": False,
        "model": None,
        "options": {},
        "preprocessing": "",
        "workdir": None,
        "checkpoint": "best",
        "network": "",
    }
    return port_weights.convert(file and str(file), str(out), **(defaults | options))


def random_variables(name, **options):
    shapes = models.shapes(models.build(name, **options), models.entry(name).input_shape)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), shapes)


def assert_same(found, expected):
    found, expected = trees.flatten(found), trees.flatten(expected)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_there_and_back(tmp_path, ending):
    variables = random_variables("resnet20", num_classes=7)
    state = port.to_state_dict("resnet20", variables)
    torch_writer.write_pth(tmp_path / "in.pth", state)
    said = convert(tmp_path / "in.pth", tmp_path / "ours.safetensors", model="resnet20")
    assert "resnet20, 269,527 parameters" in said
    assert_same(weights.load("resnet20", tmp_path / "ours.safetensors")[0], variables)
    # A file of this project knows its network.
    convert(tmp_path / "ours.safetensors", tmp_path / f"back.{ending}", torch=True)
    back = torch_file.state_dict(tmp_path / f"back.{ending}")
    assert back.keys() == state.keys()
    for name in state:
        np.testing.assert_array_equal(back[name], state[name])


def test_a_published_file_is_recognized(test_data, tmp_path):
    convert(test_data / "weights" / "resnet20-12fca82f.th", tmp_path / "ours.safetensors")
    _, record = weights.load("resnet20", tmp_path / "ours.safetensors")
    assert record.class_names[3] == "cat"
    assert record.preprocessing.mean == (0.485, 0.456, 0.406)
    assert record.license == "BSD-2-Clause"
    assert inference.pretrained_classifier("resnet20", str(tmp_path / "ours.safetensors")).note == ""


def test_a_trained_resnet_is_loaded_by_torchvision(tmp_path):
    """What fine-tuning here leaves behind is read by the original with strict=True."""
    torch = pytest.importorskip("torch")
    torchvision = import_torchvision()
    safetensors = pytest.importorskip("safetensors.torch")
    variables = random_variables("resnet18", num_classes=3)
    record = weights.Record("resnet18", "here", class_names=("a", "b", "c"))
    weights.save(tmp_path / "ours.safetensors", variables, record)
    for out in ("for_torch.pth", "for_torch.safetensors"):
        convert(tmp_path / "ours.safetensors", tmp_path / out, torch=True)
        load = safetensors.load_file if out.endswith("safetensors") else torch.load
        theirs = torchvision.models.resnet18(num_classes=3)
        theirs.load_state_dict(load(tmp_path / out), strict=True)
        kernel = theirs.layer4[1].conv2.weight.detach().numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(kernel, trees.flatten(variables)["params/layer4/1/conv2/kernel"])
        np.testing.assert_array_equal(theirs.fc.weight.detach().numpy().T, variables["params"]["fc"]["kernel"])


def test_a_run_becomes_a_file(run_folder, tmp_path):
    run = inference.open_run(run_folder)
    said = convert(None, tmp_path / "run.safetensors", workdir=str(run_folder))
    assert f"from {run_folder}, step 3" in said
    variables, record = weights.load("cnn", tmp_path / "run.safetensors")
    assert_same(variables, run.variables["model"])
    assert record.class_names == tuple("0123456789")
    assert record.input_shape == (8, 8, 1)
    from_file = inference.pretrained_classifier("cnn", str(tmp_path / "run.safetensors"))
    from_run = inference.classifier_of_run(run_folder)
    assert from_file.preprocessing == from_run.preprocessing
    assert from_file.channels == from_run.channels == 1
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1), np.uint8)
    np.testing.assert_allclose(
        from_file.logits(from_file.variables, images), from_run.logits(from_run.variables, images), rtol=1e-6
    )


def test_a_run_becomes_a_file_for_torch(run_folder, tmp_path):
    torch = pytest.importorskip("torch")
    convert(None, tmp_path / "run.pth", workdir=str(run_folder), checkpoint="3", torch=True)
    state = torch.load(tmp_path / "run.pth", weights_only=True)
    assert tuple(state["head.weight"].shape) == (10, 24)
    assert any(name.endswith("running_var") for name in state)


def test_a_file_without_preprocessing_gets_the_published_one_or_that_named(tmp_path):
    torch_writer.write_pth(tmp_path / "w.pth", port.to_state_dict("resnet20", random_variables("resnet20")))
    said = convert(tmp_path / "w.pth", tmp_path / "a.safetensors", model="resnet20")
    assert "does not say its preprocessing; that of akamaster/pytorch_resnet_cifar10 is used, resize 32" in said
    record = weights.load("resnet20", tmp_path / "a.safetensors")[1]
    assert record.preprocessing == weights.published("resnet20").preprocessing
    assert record.note in said
    own = {"resize": 40, "crop": 32, "interpolation": "bicubic", "mean": [0.5], "std": [0.25]}
    said = convert(tmp_path / "w.pth", tmp_path / "b.safetensors", model="resnet20", preprocessing=json.dumps(own))
    assert "does not say" not in said
    assert weights.load("resnet20", tmp_path / "b.safetensors")[1].preprocessing == weights.Preprocessing.of(own)
    convert(tmp_path / "w.pth", tmp_path / "c.safetensors", model="resnet20", preprocessing="resnet18")
    assert weights.load("resnet20", tmp_path / "c.safetensors")[1].preprocessing.crop == 224


def test_which_of_several_networks_is_asked(monkeypatch):
    run = types.SimpleNamespace(variables={"generator": {}, "discriminator": {}})
    monkeypatch.setattr(port_weights.inference, "open_run", lambda workdir, step: run)
    with pytest.raises(ValueError, match="several networks; add --network, one of generator, discriminator"):
        port_weights.from_run("runs/gan", "best", "")


def test_what_cannot_be_done_is_refused_in_sentences(run_folder, tmp_path):
    torch_writer.write_pth(tmp_path / "w.pth", {"a": np.zeros(1, np.float32)})
    torch_writer.write_pth(tmp_path / "tiny.pth", port.to_state_dict("resnet20", random_variables("resnet20")))
    for options, match in (
        ({}, "name one file, or --workdir"),
        ({"file": "a", "workdir": "b"}, "name one file, or --workdir"),
        ({"file": tmp_path / "w.pth"}, "does not say of which network it is; add --model"),
        ({"file": tmp_path / "tiny.pth"}, "its shapes are those of resnet20: add --model=resnet20"),
        ({"file": tmp_path / "tiny.pth", "model": "resnet32"}, "by their shapes they are of resnet20"),
        ({"file": tmp_path / "tiny.pth", "model": "resnet20", "preprocessing": "srcnn"}, "published for srcnn; give"),
        ({"file": tmp_path / "w.pth", "model": "resnet20"}, "do not fit resnet20"),
        ({"file": tmp_path / "w.pth", "model": "resnet20", "out": "x.pth"}, "has to end in .safetensors"),
        ({"workdir": str(run_folder), "network": "generator"}, "has no network 'generator'; it has model"),
        ({"workdir": str(run_folder), "torch": True, "out": "x.onnx"}, "has to end in .pth"),
        ({"workdir": str(tmp_path)}, "There are no checkpoints"),
    ):
        with pytest.raises((ValueError, CheckpointError), match=match):
            convert(**{"out": tmp_path / "x.safetensors", **options})


def test_the_command(tmp_path, repository):
    torch_writer.write_pth(tmp_path / "w.pth", port.to_state_dict("resnet20", random_variables("resnet20")))
    command = [sys.executable, "-m", "vision_jax.tools.port_weights", tmp_path / "w.pth", "--model=resnet20"]
    options = ["--options", json.dumps({"num_classes": 10})]
    done = forked_commands.run([*command, f"--out={tmp_path}/o.safetensors", *options], cwd=repository)
    assert done.returncode == 0, done.stderr
    assert "269,722 parameters" in done.stdout
    done = forked_commands.run([*command, "--out=o.pth"], cwd=repository)
    assert done.returncode == 1
    assert "ERROR: --out=o.pth has to end in .safetensors" in done.stderr

"""A step made again is the recorded one bit for bit, shows what stands out in it, and leaves the run as it is."""

import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import checkpoints, train
from vision_jax import config as config_lib
from vision_jax import run as run_lib
from vision_jax.tasks.classification import Classification
from vision_jax.tools import replay
from vision_jax.utils.options import ConfigError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytestmark = pytest.mark.usefixtures("no_page")
STEPS = 13


def config_of(task="classification"):
    """Rows at 5, 10 and 13, checkpoints at 4, 8, 12 and 13."""
    config = config_lib.default(task)
    config.data.name, config.data.limit, config.data.batch_size = "digits", 50, 8
    config.train.steps, config.log.every_steps, config.eval.every_steps = STEPS, 5, 4
    config.log.tensorboard, config.checkpoint.keep = False, 10
    match task:
        case "classification":
            config.model.name, config.model.mlp = "mlp", dict(hidden=(8,), dropout=0.5)
            config.train.steps_per_dispatch = 3
        case "gan":
            config.model.name, config.gan.latent_dim, config.gan.discriminator_steps = "mlp_gan", 4, 2
            config.model.mlp_gan_generator = config.model.mlp_gan_discriminator = dict(hidden=(8,))
        case "super_resolution":
            config.data.name = "photo_tiles"  # SSIM looks through windows of 11 pixels.
            config.super_resolution.patch_size, config.super_resolution.losses.l1 = 8, 0.5
            config.model.name, config.model.espcn = "espcn", dict(features=(4, 2))
    return config


def trained(config, workdir):
    with run_lib.build(config, workdir) as run:
        train.train(run)
    return workdir


def contents(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and "replay" not in path.parts}


def result_of(page):
    return json.loads((page.parent / "replay.json").read_text())


@pytest.mark.parametrize("task", ["classification", "gan", "super_resolution"])
def test_a_step_is_the_recorded_one_and_the_run_stays(task, tmp_path):
    """From checkpoint 8, which lies within the interval of the row of step 10."""
    workdir = trained(config_of(task), tmp_path)
    before = contents(workdir)
    page = replay.replay(workdir, 10)
    assert contents(workdir) == before
    found = result_of(page)
    assert (found["from_step"], found["differences"]) == (8, [])
    assert found["recorded"] == [*["steps.jsonl, step 10"] * (task == "gan"), "metrics.jsonl, the means up to step 10"]
    assert "These are, bit for bit, the metrics that the run recorded" in page.read_text()
    with np.load(page.parent / "batch.npz") as arrays:
        arrays = dict(arrays)
    assert arrays["image"].shape == (8, 8, 8, 3 if task == "super_resolution" else 1)
    assert arrays["image"].dtype == np.uint8 and len(set(arrays["index"])) > 1
    assert ("label" in arrays) == ("label" in found["examples"][0]) == (task != "super_resolution")
    if task == "gan":
        assert "loss" not in arrays
    else:
        losses = [example["loss"] for example in found["examples"]]
        assert losses == sorted(losses, reverse=True)
        assert np.mean(losses) == pytest.approx(found["metrics"]["loss"], rel=1e-5)
    norms = {"gan": "discriminator_gradient_norm"}.get(task, "gradient_norm")
    network = {"gan": "discriminator"}.get(task, "model")
    layers = [norm for name, norm in found["gradient_norms"].items() if name.startswith(network)]
    assert len(layers) >= 2 and np.linalg.norm(layers) == pytest.approx(found["metrics"][norms], rel=1e-4)
    stages = list(found["activations"])
    assert stages and {name.partition("/")[0] for name in stages} == {
        name.partition("/")[0] for name in found["gradient_norms"]
    }


def test_a_record_that_differs_is_told(tmp_path):
    workdir = trained(config_of(), tmp_path)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["step"] == 5)
    row["train/loss"] = float(np.nextafter(row["train/loss"], 9.0))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = replay.replay(workdir, 2)  # From the initialization.
    found = result_of(page)
    assert found["from_step"] == 0 and len(found["differences"]) == 1
    assert found["differences"][0].startswith("train/loss is ")
    assert "These are not the metrics that the run recorded" in page.read_text()


def test_the_way_through_a_rewind_is_made_again(tmp_path, monkeypatch):
    """From the initialization, past the checkpoint of step 4 to which training went back from step 7."""
    original = Classification.train_step

    def train_step(self, state, constants, batch, key):
        state, metrics = original(self, state, constants, batch, key)
        bad = (state.step == 6) & (metrics["learning_rate"] > 5e-4)
        return state, metrics | {"loss": jnp.where(bad, jnp.nan, metrics["loss"])}

    monkeypatch.setattr(Classification, "train_step", train_step)
    config = config_of()
    config.train.rewinds, config.train.rewind_skip = 1, True
    workdir = trained(config, tmp_path)
    assert checkpoints.read(workdir, "newest").history["rewinds"][0]["to"] == 4
    shutil.rmtree(workdir / "checkpoints" / "4")
    found = result_of(replay.replay(workdir, 7))
    assert found["from_step"] == 0 and found["differences"] == [] and found["recorded"]
    assert found["metrics"]["learning_rate"] == np.float32(5e-4)


def test_a_wrong_label_is_found_as_the_highest_loss(tmp_path):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("bright", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(rng.normal(200 if (name, number) == ("dark", 5) else level, 20, (8, 8, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    config = config_of()
    config.data.name, config.data.root, config.data.image_size = "folder", str(tmp_path / "photos"), 8
    config.data.train_crop, config.data.crop_fraction, config.data.limit = "center", 1.0, 0
    config.data.val_fraction = config.data.test_fraction = 0.2
    config.data.mean, config.data.std = (0.5,), (0.25,)
    config.model.mlp.dropout, config.optimizer.learning_rate = 0.0, 0.02
    config.train.steps, config.train.steps_per_dispatch, config.data.batch_size = 12, 1, 14
    workdir = trained(config, tmp_path / "run")
    page = replay.replay(workdir, 12)
    worst, *others = result_of(page)["examples"]
    second = next(one for one in others if one["index"] != worst["index"])  # It may stand twice where an epoch ends.
    with np.load(page.parent / "batch.npz") as arrays:
        assert arrays["image"][worst["row"]].mean() > 150 and arrays["index"][worst["row"]] == worst["index"]
    assert worst["class"] == "dark" and worst["loss"] > 2.0
    text = page.read_text()
    assert re.search(rf"<td[^>]*>#{worst['index']}</td><td[^>]*>dark</td>", text)
    assert "Gradient norms of the model" in text
    assert worst["loss"] > 2 * second["loss"]


def test_what_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no run in .*nothing"):
        replay.replay(tmp_path / "nothing", 1)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(config_lib.to_dict(config_of())))
    for step in (0, STEPS + 1):
        with pytest.raises(ConfigError, match=rf"There is no step {step} in .*run; its training has the steps 1 to 13"):
            replay.replay(workdir, step)

"""What is recorded about the circumstances of a run."""

import json
import subprocess
import sys

from PIL import Image

from vision_jax import config as config_lib
from vision_jax import environment
from vision_jax.data import folder
from vision_jax.ops import onednn


def test_says_what_ran_where(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "s3cr3t-of-the-test")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "vision_jax.main", "--workdir=my runs"])
    found = environment.collect()
    assert set(found["packages"]) >= {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"}
    assert found["device_count"] >= 1
    assert found["process_count"] == 1
    assert found["onednn"] is onednn.available()
    assert found["command"] == "python -m vision_jax.main '--workdir=my runs'"
    assert found["started"].endswith("+00:00")
    text = json.dumps(found, allow_nan=False)
    assert "s3cr3t-of-the-test" not in text


def test_a_line_says_what_becomes_of_photos(tmp_path):
    for i, size in enumerate([(40, 30), (20, 50), (64, 48)]):
        Image.new("RGB", size, (i, 0, 0)).save(tmp_path / f"{i}.png")
    dataset = folder.load(tmp_path, val_fraction=0.0, test_fraction=0.0, seed=0, classes=False)
    config = config_lib.default("super_resolution")
    config.super_resolution.patch_size = 24
    said = environment._photos(config, dataset)
    assert said == "20×50 to 64×48 pixels; random patches of 24×24, tested whole; 1 smaller than a patch are left out"
    config.data.image_size, config.data.train_crop, config.data.crop_fraction = 35, "center", 1.0
    said = environment._photos(config, dataset)
    assert said == "20×50 to 64×48 pixels; short side resized to 35, middle 35×35 (2 smaller ones enlarged)"


def test_revision_and_changes_of_a_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    source = tmp_path / "vision_jax" / "environment.py"
    source.parent.mkdir()
    source.write_text("1\n")
    monkeypatch.setattr(environment, "__file__", str(source))
    assert environment._git() is None
    git("init")
    assert environment._git() is None  # nothing committed yet
    git("add", ".")
    git("commit", "-m", "first")
    clean = environment._git()
    assert clean is not None
    assert len(clean["revision"]) == 40
    assert not clean["dirty"]
    source.write_text("2\n")
    assert environment._git() == clean | {"dirty": True}


def test_a_machine_without_git_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "vision_jax" / "environment.py"))
    monkeypatch.setenv("PATH", "")
    assert environment._git() is None

"""A run and pictures for the tools to work on."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from tests import untrained_runs
from vision_jax import config as config_lib


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> pathlib.Path:
    """The workdir of a run on 8x8 gray digits with one checkpoint, of its first state."""
    config = config_lib.default("classification")
    config.data.name = "digits"
    config.data.val_fraction = config.data.test_fraction = 0.2
    config.data.limit = 50
    config.data.batch_size = 8
    config.data.mean, config.data.std = (0.3,), (0.5,)
    config.model.name = "cnn"
    config.model.cnn = dict(channels=(4, 6), norm="batch")
    config.optimizer.ema_decay = 0.9
    config.train.epochs = 1.0
    return untrained_runs.write(config, tmp_path_factory.mktemp("digits_run"), step=3)


@pytest.fixture
def pictures(tmp_path) -> pathlib.Path:
    """Five pictures in two folders, one of them gray and one sideways, a broken one, and something else."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, shape in (
        ("a.png", (40, 50, 3)),
        ("b.jpg", (50, 40, 3)),
        ("more/c.png", (33, 33)),
        ("more/d.JPG", (64, 32, 3)),
    ):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(
            folder / name, format=name.split(".")[1].upper().replace("JPG", "JPEG")
        )
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 255, (30, 60, 3), np.uint8)).save(folder / "more" / "e.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture")
    return folder

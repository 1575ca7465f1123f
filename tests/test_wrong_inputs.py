"""Whatever is wrong with what was typed is one sentence: what was found and what to type next, never a traceback."""

import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from tests import forked_commands

MAIN = "vision_jax.main"
TOOLS = "vision_jax.tools."
# Command -> words of its answer. Folders of the fixture `answers` stand in braces.
CASES = {
    f"{MAIN} --config=configs/digits_cn.py": "no config file 'configs/digits_cn.py'; did you mean 'digits_cnn'?",
    f"{MAIN} --config=elsewhere/digits_cnn.py": "did you mean 'configs/digits_cnn.py'?",
    f"{MAIN} --config=nothing_like_it": "`vision-jax list configs` shows",
    f"{MAIN} --config=digits_cnn:smok": "has no variant 'smok'; did you mean 'smoke'?",
    f"{MAIN} --config=resnet18_photos:layer5": "did you mean 'layer4'?",
    f"{MAIN} --config={{broken}}/syntax.py": "syntax.py, line 2: SyntaxError",
    f"{MAIN} --config={{broken}}/fails.py": "fails.py, line 2: ZeroDivisionError: division by zero",
    f"{MAIN} --config={{broken}}/empty.py": "has no function `get_config(variant)`",
    f"{MAIN} --options=resnet19": "did you mean 'resnet1",
    f"{MAIN} --config=digits_cnn --config.data.batch_size=0": "config.data.batch_size is 0, allowed is from 1 upwards",
    f"{MAIN} --config=digits_cnn --config.train.steps=5": "contradict each other",
    f"{MAIN} --config=digits_cnn --config.model.cnn.dropot=0.1": "dropot does not exist; did you mean 'dropout'?",
    f"{MAIN} --config=digits_cnn '--config.data.augment=(\"horizontal_flp\",)'": "horizontal_flip",
    f"{MAIN} --config=digits_cnn --config.optimizer.learning_rat=1": "did you mean 'optimizer.learning_rate'?",
    f"{MAIN} --config=digits_cnn --config.optimizer.learning_rate=fast": "is 'fast' (str), expected float",
    f"{MAIN} --config=digits_cnn --config.gan.latent_dim=3": "is of the task gan",
    f"{MAIN} --config=digits_cnn --checkpoint=x": "--checkpoint=x: invalid literal for int()",
    f"{MAIN} --config=digits_cnn --workdr=x": "Unknown command line flag 'workdr'. Did you mean: workdir",
    f"{MAIN} --config=digits_cnn --mode=evaluate": "value should be one of <train|eval>",
    f"{MAIN} --config=digits_cnn surplus": "Unexpected argument 'surplus'",
    f"{MAIN} --config=digits_cnn --workdir={{broken}}/empty.py": "empty.py is a file; name a folder",
    f"{MAIN} --config=digits_cnn --mode=eval --workdir={{empty}}/new": "train first, with --mode=train",
    f"{MAIN} --mode=eval --workdir={{empty}}": "(no config.json); name its folder, or a config with --config=FILE",
    f"{MAIN} --mode=eval": "Which run?",
    f"{MAIN} --config=digits_cnn --data=mnist": "--data is for --mode=eval",
    f"{MAIN} --config=digits_cnn --config.data.name=mnits": "did you mean 'mnist'?",
    f"{MAIN} --config=mnist_cnn": "vision-jax prepare mnist",
    f"{MAIN} --config=photos_cnn:smoke --config.data.root={{few}}": "2 training images in 2 classes, each of which",
    f"{MAIN} --config=photos_cnn:smoke --config.data.root=nowhere": "there is no folder 'nowhere'",
    f"{MAIN} --config=dcgan_cifar:smoke --config.data.name=folder --config.data.root={{flat}} "
    "--config.data.image_size=32": "Add images, or raise it",
    f"{MAIN} --config=digits_cnn:smoke --config.model.name=resnet18 --config.model.weights=nowhere.pth": "nowhere.pth",
    f"{TOOLS}show_augment --operation=horizontal_flp": "horizontal_flip",
    f"{TOOLS}show_augment --image=nowhere.jpg": "nowhere.jpg",
    f"{TOOLS}show_augment --image={{broken}}/empty.py": "not an image",
    f"{TOOLS}predict": "which pictures?",
    f"{TOOLS}predict a.jpg --model=resnet19": "did you mean 'resnet",
    f"{TOOLS}predict a.jpg --workdir={{empty}}": "is {empty} the --workdir of a run?",
    f"{TOOLS}sample --workdir={{empty}}": "is {empty} the --workdir of a run?",
    f"{TOOLS}compare {{empty}} {{few}}": "is no folder of a run: it has no config.json",
    f"{TOOLS}prepare_data": "Which data set? One of mnist",
    f"{TOOLS}prepare_data cifar11": "did you mean 'cifar1",
    f"{TOOLS}inspect_data": "Name a config",
    f"{TOOLS}inspect_data --config=digits_cn": "did you mean 'digits_cnn'?",
    f"{TOOLS}port_weights nowhere.pth --model=resnet18": "nowhere.pth",
    f"{TOOLS}fid nowhere a.npz": "nowhere",
    f"{TOOLS}replay --step=3": "Give --workdir=RUN and --step=N",
    f"{TOOLS}replay --workdir={{empty}} --step=3": "There is no run in {empty}",
    f"{TOOLS}replay --workdir={{empty}} --step=first": "--step=first: invalid literal for int()",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Command -> the ended process of all cases, and the folders that stand in braces."""
    base = tmp_path_factory.mktemp("wrong")
    folders = {name: base / name for name in ("broken", "empty", "few", "flat")}
    for folder in folders.values():
        folder.mkdir()
    (folders["broken"] / "syntax.py").write_text("def get_config():\n  return (\n")
    (folders["broken"] / "fails.py").write_text("def get_config():\n  return 1 / 0\n")
    (folders["broken"] / "empty.py").write_text("# Nothing.\n")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    for name in ("cat", "dog"):
        (folders["few"] / name).mkdir()
        photo.rotate(90 if name == "cat" else 0).save(folders["few"] / name / "1.png")
    photo.save(folders["flat"] / "1.png")
    ended = {
        command: forked_commands.run([sys.executable, "-m", *shlex.split(command.format(**folders))], cwd=base)
        for command in CASES
    }
    written = {path.name for path in base.iterdir()} - set(folders)
    return ended, folders, written


@pytest.mark.parametrize("command", CASES)
def test_it_is_a_sentence(command, answers):
    found, folders, _ = answers
    stderr = found[command].stderr
    assert found[command].returncode in (1, 2), found[command].stdout
    assert CASES[command].format(**folders) in stderr
    assert "Traceback" not in stderr and "FATAL" not in stderr
    lines = [line for line in stderr.splitlines() if not line.startswith("WARNING")]
    assert len(lines) <= 12, stderr


def test_nothing_was_written(answers):
    assert not answers[2] - {"nowhere"}

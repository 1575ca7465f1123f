"""The command line: what it lists and prints; evaluation makes the very same numbers again."""

import json
import subprocess
import sys

import pytest

from tests import forked_commands
from vision_jax import listing


@pytest.fixture
def command(tmp_path):
    def run(*arguments):
        return forked_commands.run([sys.executable, "-m", "vision_jax.main", *arguments], cwd=tmp_path)

    return run


def test_without_a_config_lists_them_with_their_first_lines(repository, monkeypatch):
    monkeypatch.chdir(repository)
    lines = listing.configs().splitlines()[1:-1]
    assert len(lines) == len(list((repository / "configs").glob("*.py")))
    assert any("configs/digits_cnn.py" in line and "A small CNN" in line for line in lines)
    assert all(len(line.split("  ")[2]) > 20 for line in lines)


def test_train_then_eval_gives_the_very_same_results_and_page(command, repository, tmp_path):
    config = f"--config={repository}/configs/digits_cnn.py:smoke"
    start = [sys.executable, "-W", "error::DeprecationWarning:vision_jax", "-m", "vision_jax.main"]
    result = subprocess.run([*start, config], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "No --workdir given; writing to runs/digits_cnn_smoke" in result.stdout
    assert "Report: " in result.stdout and "accuracy" in result.stdout
    assert "step 13/13 (100%)" in result.stderr and "\r" not in result.stderr
    workdir = tmp_path / "runs/digits_cnn_smoke"
    for name in (
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "report/results.json",
        "report/index.html",
        "report/confusion_matrix.png",
        "report/images.png",
        "report/curve_loss.png",
    ):
        assert (workdir / name).stat().st_size > 0, name
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["packages"]["jax"] and "vision_jax.main" in environment["command"]
    events = b"".join(path.read_bytes() for path in (workdir / "tensorboard").glob("events.out.tfevents.*"))
    for tag in ("train/loss", "val/accuracy", "test/accuracy", "val/predicted", "test/augmented"):
        assert tag.encode() in events, tag
    before = (workdir / "report/results.json").read_text()
    table = result.stdout[result.stdout.index("Checkpoint of step") :]
    (workdir / "report/results.json").unlink()
    again = command("--workdir=runs/digits_cnn_smoke", "--mode=eval")  # It knows its config.
    assert again.returncode == 0, again.stderr
    assert (workdir / "report/results.json").read_text() == before
    assert table in again.stdout
    missing = command(config, "--mode=eval", "--checkpoint=999")  # One beside it is compared.
    assert missing.returncode == 1
    assert "There is no checkpoint 999" in missing.stderr and "Traceback" not in missing.stderr


def test_the_network_is_switched_and_an_option_unset_on_the_command_line(command, repository, tmp_path):
    result = command(
        f"--config={repository}/configs/digits_cnn.py:smoke",
        "--workdir=run",
        "--config.log.tensorboard=False",
        "--config.model.name=fcn_baseline",
        "--config.model.fcn_baseline.hidden=(7,)",
        "--config.model.fcn_baseline.dropout=None",
    )
    assert result.returncode == 0, result.stderr
    model = json.loads((tmp_path / "run/config.json").read_text())["model"]
    assert model["name"] == "fcn_baseline" and model["fcn_baseline"] == {"hidden": [7], "dropout": None}
    assert "cnn" not in model  # Whose options the config file sets.
    assert json.loads((tmp_path / "run/report/results.json").read_text())["parameters"] == 64 * 7 + 7 + 7 * 10 + 10


def test_help_explains_the_flags(command):
    result = command("--helpshort")
    assert "--workdir" in result.stdout and "--mode" in result.stdout and "continues training" in result.stdout


def test_importing_the_package_and_its_loop_loads_nothing_heavy():
    code = (
        "import sys, vision_jax, vision_jax.train, vision_jax.tasks.classification;"
        "print([m for m in ('tensorflow', 'sklearn', 'matplotlib', 'torch', 'wandb') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr

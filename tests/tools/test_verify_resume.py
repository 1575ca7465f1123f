"""Runs that are equal, a task that does not resume exactly, and what the comparison says of each difference."""

import json
import shutil
import subprocess
import sys

import pytest

from tests import blank_pages, forked_commands
from vision_jax.tools import verify_resume

# Training that depends on the process: what a task does that keeps something outside its state.
BROKEN = """
import os, runpy
import jax.numpy as jnp
from vision_jax.tasks.classification import Classification

train_step = Classification.train_step

def broken(self, state, constants, batch, key):
    batch = {**batch, "image": (batch["image"] + jnp.uint8(os.getpid() % 251)).astype(jnp.uint8)}
    return train_step(self, state, constants, batch, key)

Classification.train_step = broken
get_config = runpy.run_path("CONFIG")["get_config"]
"""
LIMITS = ("--config.log.tensorboard=False", "--config.log.every_epochs=0", "--config.log.every_steps=2")


@pytest.fixture(scope="module")
def ended(tmp_path_factory, repository):
    """The folder of a run that has ended."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    command = [sys.executable, "-m", "vision_jax.main", f"--config={repository}/configs/digits_cnn.py:smoke", *LIMITS]
    with pytest.MonkeyPatch.context() as patch:
        blank_pages.use(patch)
        forked_commands.run([*command, f"--workdir={workdir}"], cwd=workdir.parent).check_returncode()
    return workdir


def test_each_difference_is_named(ended, tmp_path):
    other = shutil.copytree(ended, tmp_path / "b")
    assert verify_resume.differences(ended, other) == []
    rows = [json.loads(line) for line in (ended / "metrics.jsonl").read_text().splitlines()]
    changed = [dict(row) for row in rows]
    changed[2]["train/loss"] += 1e-12
    (other / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in changed))
    results = json.loads((other / "report/results.json").read_text())
    results["metrics"]["test/loss"] = 0.5
    (other / "report/results.json").write_text(json.dumps(results))
    picture = min((other / "pictures").rglob("*.png"))
    picture.write_bytes(b"another")
    newest = max((other / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    found = "\n".join(verify_resume.differences(ended, other))
    assert f"metrics.jsonl, step {rows[2]['step']}: train/loss is {rows[2]['train/loss']}" in found
    assert "The final test/loss is" in found and "The last checkpoints are of the steps" in found
    assert f"1 pictures differ, the first is pictures/{picture.relative_to(other / 'pictures')}." in found
    (other / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows[:-1]))
    assert f"metrics.jsonl has {len(rows)} and {len(rows) - 1} rows." in verify_resume.differences(ended, other)


def command(config, out, *options):
    module = [sys.executable, "-m", "vision_jax.tools.verify_resume"]
    return [*module, f"--config={config}", f"--out={out}", *LIMITS, "--config.checkpoint.every_steps=2", *options]


@pytest.mark.full
def test_a_config_is_killed_and_found_equal(tmp_path, repository):
    config = f"{repository}/configs/digits_cnn.py:smoke"
    printed = subprocess.check_output(command(config, tmp_path, "--kills=3"), cwd=tmp_path, text=True)
    assert "Kill 1 of 3: behind the row of step" in printed and "Equal bit for bit" in printed


@pytest.mark.full
def test_a_task_that_does_not_resume_exactly_is_caught(tmp_path, repository):
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN.replace("CONFIG", f"{repository}/configs/digits_cnn.py"))
    found = subprocess.run(
        command(f"{broken}:smoke", tmp_path / "out", "--kills=1", "--seed=1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1, found.stderr
    assert "DIFFERENT: metrics.jsonl, step" in found.stdout and "arrays of checkpoint" in found.stdout


def test_a_run_that_fails_is_said(tmp_path):
    words = command(tmp_path / "missing.py", tmp_path / "out")
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 2 and "The run ended with status 1" in found.stderr

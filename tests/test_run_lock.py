"""One process writes to a run's folder."""

import json
import os
import subprocess
import sys

import pytest

from vision_jax import run_lock
from vision_jax.run_lock import FolderInUse, RunLock

HOLDER = """
import pathlib, sys
from vision_jax.run_lock import RunLock
lock = RunLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_process_that_was_killed_holds_nothing(holder, tmp_path):
    with pytest.raises(FolderInUse, match=f"process {holder.pid} on "):
        RunLock(tmp_path)
    holder.kill()
    holder.wait()
    lock = RunLock(tmp_path)  # At once.
    assert lock.held
    lock.release()
    assert not list(tmp_path.iterdir())


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
    (tmp_path / run_lock.FILE).write_text(json.dumps({**run_lock.this_process(), "started": "1", "token": "a"}))
    RunLock(tmp_path).release()


@pytest.mark.parametrize("content", ['{"machine": "elsewhere", "pid": 1, "host": "node7", "token": "a"}', ""])
def test_a_lock_of_elsewhere_is_stale_when_nobody_touches_it(content, tmp_path):
    path = tmp_path / run_lock.FILE
    path.write_text(content)
    with pytest.raises(FolderInUse, match=f"start again in {run_lock.STALE:.0f} s"):
        RunLock(tmp_path)
    now = path.stat().st_mtime
    os.utime(path, (now - run_lock.STALE - 1, now - run_lock.STALE - 1))
    RunLock(tmp_path).release()


def test_a_lock_that_was_taken_over_is_not_removed(tmp_path):
    lock = RunLock(tmp_path)
    (tmp_path / run_lock.FILE).write_text(json.dumps({"token": "another"}))
    assert not lock.held
    lock.release()
    assert json.loads((tmp_path / run_lock.FILE).read_text()) == {"token": "another"}


def test_a_held_lock_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT", 0.01)
    lock = RunLock(tmp_path)
    os.utime(lock.path, (1, 1))
    while lock.path.stat().st_mtime < 2:
        pass
    lock.release()

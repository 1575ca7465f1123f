"""Checkpoints: strict restore, damage, the best one."""

import errno
import gc
import os
import pathlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.checkpoints import CheckpointError, Checkpoints, DamagedCheckpoint

STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.int32(7), "d": np.ones(4, np.float32)}}


@pytest.fixture
def collected():
    """Of several arrays that cannot be read, Orbax awaits the first and leaves the others to the garbage collector."""
    yield
    gc.collect()


def no_orphans(test):
    """Lets what `collected` finds pass without a warning, and no other test hear of it."""
    ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return ignored(pytest.mark.usefixtures("collected")(test))


def abstract(tree):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path, keep=2, best_metric="val/accuracy", higher_is_better=True)
    made.begin_writing()
    yield made
    made.close()


def save(checkpoints, step, scores, state=STATE):
    """Saves `state` with `step` added; `scores` are the evaluations so far, {step: accuracy}."""
    state = jax.tree.map(lambda x: jnp.asarray(x + np.asarray(step, x.dtype)), state)
    history = {"evaluations": [{"step": s, "val/accuracy": a} for s, a in scores.items()], "seconds": 1.0}
    checkpoints.save(step, state, {"next_batch": step}, history, {"seed": 1})


def test_keeps_the_newest_and_the_best_and_restores_exactly(checkpoints, tmp_path):
    scores = {}
    for step, accuracy in enumerate([0.1, 0.9, 0.3, 0.9, 0.2, 0.4], 1):
        scores[step] = accuracy
        save(checkpoints, step, scores)
    checkpoints.wait()
    assert checkpoints.steps() == [4, 5, 6]
    assert (checkpoints.best(), checkpoints.newest()) == (4, 6)
    again = Checkpoints(tmp_path, keep=2, best_metric="val/accuracy", higher_is_better=True)
    assert (again.best(), again.newest()) == (4, 6)
    restored = again.restore_newest(abstract(STATE))
    assert restored.step == 6 and restored.input_state == {"next_batch": 6} and restored.config == {"seed": 1}
    assert restored.history["evaluations"][-1] == {"step": 6, "val/accuracy": 0.4}
    expected = jax.tree.map(lambda old: old + np.asarray(6, old.dtype), STATE)
    jax.tree.map(np.testing.assert_array_equal, restored.state, expected)
    again.close()


@pytest.mark.parametrize(
    ("lock", "said"), [("", "moved or deleted"), ('{"token": "another"}', "taken over by another")]
)
def test_a_folder_that_is_no_longer_ours_is_not_written_to(lock, said, checkpoints, tmp_path):
    (tmp_path / "lock.json").unlink()
    if lock:
        (tmp_path / "lock.json").write_text(lock)
    with pytest.raises(CheckpointError, match=said):
        save(checkpoints, 1, {})
    assert checkpoints.steps() == []


def test_a_save_that_fails_at_the_end_is_a_sentence_and_frees_the_folder(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.begin_writing()
    manager = checkpoints.manager

    def close():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "history")

    monkeypatch.setattr(manager, "close", close)
    with pytest.raises(CheckpointError, match=r"No checkpoint could be written .* No space left on device: 'history'"):
        checkpoints.close()
    assert not (tmp_path / "lock.json").exists()
    monkeypatch.undo()
    manager.close()


def test_a_kill_while_one_is_deleted_leaves_no_damaged_one(tmp_path, monkeypatch):
    """It has been moved away as a whole by then."""
    checkpoints = Checkpoints(tmp_path, keep=1, best_metric="val/accuracy")
    checkpoints.begin_writing()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_delete", lambda: None)
        for step in (1, 2):
            save(checkpoints, step, {1: 0.1, 2: 0.2})
            checkpoints.wait()
    (deleted,) = (tmp_path / ".deleted").iterdir()
    assert {path.name for path in deleted.iterdir()} >= {"state", "config", "history", "input"}
    checkpoints._manager.close()  # Of the killed process, which still held its lock.
    checkpoints._lock.release()
    shutil.rmtree(deleted / "config")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Checkpoints(tmp_path, keep=1, best_metric="val/accuracy")
        again.begin_writing()
    assert again.steps() == [2] and not list((tmp_path / ".deleted").iterdir())
    again.close()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["checkpoints"]


def test_lower_is_better(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best_metric="val/accuracy", higher_is_better=False)
    checkpoints.begin_writing()
    scores = {}
    for step, score in enumerate([3.0, 1.0, 2.0], 1):
        scores[step] = score
        save(checkpoints, step, scores)
    checkpoints.wait()
    assert checkpoints.best() == 2 and checkpoints.steps() == [2, 3]
    checkpoints.close()


def test_those_that_were_not_evaluated_come_last_the_newest_first(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=4, best_metric="val/accuracy")
    checkpoints.begin_writing()
    for step in (1, 2, 3):
        save(checkpoints, step, {})
    checkpoints.wait()
    assert checkpoints.ranked() == [3, 2, 1] and checkpoints.best() == 3
    save(checkpoints, 4, {1: 0.5, 3: float("nan")})
    checkpoints.wait()
    assert checkpoints.ranked() == [1, 4, 3, 2]
    checkpoints.close()


def _values(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("d/*") if path.is_file()]


def _truncate(folder):
    for path in _values(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove(folder):
    for path in _values(folder):
        path.unlink()


def _flip(folder):
    for path in _values(folder):
        data = bytearray(path.read_bytes())
        for i in range(0, len(data), 7):
            data[i] ^= 0x10
        path.write_bytes(bytes(data))


def _no_history(folder):
    (folder / "history" / "metadata").write_text("{")


@no_orphans
@pytest.mark.parametrize("damage", [_truncate, _remove, _flip, _no_history])
def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(damage, checkpoints, tmp_path):
    for step in (1, 2):
        save(checkpoints, step, {step: 0.5})
    checkpoints.wait()
    damage(tmp_path / "checkpoints/2")
    with pytest.warns(UserWarning, match=r"Checkpoint 2 is damaged .*; moved to .*damaged/2"):
        restored = checkpoints.restore_newest(abstract(STATE))
    assert restored.step == 1
    np.testing.assert_array_equal(restored.state["a"], STATE["a"] + 1)
    assert (tmp_path / "damaged/2").is_dir() and checkpoints.steps() == [1]
    save(checkpoints, 2, {2: 0.6})  # The step can be written again.
    checkpoints.wait()
    assert checkpoints.restore_newest(abstract(STATE)).step == 2


def test_values_that_changed_unnoticed_by_the_file_format_are_damage(checkpoints, monkeypatch):
    """A whole, readable checkpoint whose numbers differ from the saved ones."""
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()
    restore = checkpoints.manager.restore

    def changed(step, args):
        items = restore(step, args=args)
        if "state" in items:
            items["state"]["a"] = items["state"]["a"].at[1, 2].add(1e-6)
        return items

    monkeypatch.setattr(checkpoints.manager, "restore", changed)
    with pytest.raises(DamagedCheckpoint, match="the values of a and 1 arrays in all have changed"):
        checkpoints.restore(1, abstract(STATE))


def test_for_want_of_memory_no_checkpoint_is_damaged(checkpoints, tmp_path, monkeypatch):
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()

    def exhausted(*_, **__):
        raise ValueError("cannot read") from MemoryError("Unable to allocate 1.00 GiB")

    monkeypatch.setattr(checkpoints.manager, "restore", exhausted)
    with pytest.raises(ValueError, match="cannot read"):
        checkpoints.restore_newest(abstract(STATE))
    assert not (tmp_path / "damaged").exists()


def test_all_damaged_is_an_error_and_none_at_all_is_not(checkpoints, tmp_path):
    assert checkpoints.restore_newest(abstract(STATE)) is None
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()
    _remove(tmp_path / "checkpoints/1")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(CheckpointError, match="All checkpoints"):
        checkpoints.restore_newest(abstract(STATE))


def test_another_model_is_refused_with_the_list_of_leaves(checkpoints):
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()
    other = {"a": np.zeros((2, 4), np.float32), "b": {"c": np.float32(0), "e": np.zeros(1, np.float32)}}
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore_newest(abstract(other))
    message = str(error.value)
    assert "missing: b/e float32[1]" in message
    assert "left over: b/d float32[4]" in message
    assert "a is float32[2, 3], expected float32[2, 4]" in message
    assert "b/c is int32[], expected float32[]" in message
    assert checkpoints.steps() == [1]  # Not damaged: nothing is moved away.


def test_a_changed_score_is_damage(checkpoints, tmp_path):
    """The history says which checkpoint is the best."""
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()
    file = tmp_path / "checkpoints/1/history/metadata"
    file.write_text(file.read_text().replace("0.5", "0.9"))
    with pytest.raises(DamagedCheckpoint, match="its input, history or config has changed"):
        checkpoints.restore(1, abstract(STATE))


@no_orphans
@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2))])
def test_any_damaged_file_of_an_old_checkpoint_is_passed_by(first, checkpoints, tmp_path):
    """Each file of it, one after the other, is flipped, gone or empty: the newest is restored, and training goes on."""
    scores = {1: 0.5, 2: 0.6, 3: 0.55}
    for step in (2, 3):
        save(checkpoints, step, {s: scores[s] for s in range(1, step + 1)})
    checkpoints.wait()
    checkpoints.close()
    files = [path for path in (tmp_path / "checkpoints/2").rglob("*") if path.is_file()]
    assert len(files) > 8
    for number, file in enumerate(files):
        workdir = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "checkpoints", workdir / "checkpoints")
        damaged = workdir / file.relative_to(tmp_path)
        content = damaged.read_bytes()
        match (first + number) % 3:
            case 0:
                middle = len(content) // 2
                damaged.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            case 1:
                damaged.unlink()
            case 2:
                damaged.write_bytes(b"")
        again = Checkpoints(workdir, keep=2, best_metric="val/accuracy", higher_is_better=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again.begin_writing()
            assert again.restore_newest(abstract(STATE)).step == 3, file
            assert again.restore_best(abstract(STATE)).step in (2, 3), file
            save(again, 4, scores | {4: 0.7})
            again.wait()
            assert (again.best(), again.newest()) == (4, 4), file
        again.close()


def test_a_damaged_best_checkpoint_is_replaced_by_the_next_best(checkpoints, tmp_path):
    scores = {1: 0.9, 2: 0.5, 3: 0.3}
    for step in scores:
        save(checkpoints, step, {s: scores[s] for s in range(1, step + 1)})
    checkpoints.wait()
    assert checkpoints.ranked() == [1, 2, 3]
    _flip(tmp_path / "checkpoints/1")
    reader = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"Checkpoint 1 is damaged .*; passed over"):
        assert reader.restore_best(abstract(STATE)).step == 2
    assert checkpoints.steps() == [1, 2, 3]  # Who only reads moves nothing.
    reader.close()


def test_a_reader_leaves_an_unfinished_save_alone(checkpoints, tmp_path):
    """Orbax removes it when it opens a folder to write."""
    save(checkpoints, 1, {1: 0.5})
    checkpoints.wait()
    unfinished = tmp_path / "checkpoints/2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints/1", unfinished)
    reader = Checkpoints(tmp_path)
    assert reader.restore_newest(abstract(STATE)).step == 1
    reader.close()
    assert unfinished.is_dir()
    checkpoints.close()
    checkpoints.begin_writing()
    save(checkpoints, 3, {1: 0.5})
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3] and not unfinished.exists()


def test_one_writer_at_a_time(checkpoints, tmp_path):
    other = Checkpoints(tmp_path, keep=2, best_metric="val/accuracy", higher_is_better=True)
    with pytest.raises(CheckpointError, match=r"is written to by process \d+ on .*choose another --workdir"):
        other.begin_writing()
    checkpoints.close()
    other.begin_writing()
    other.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    checkpoints = Checkpoints(tmp_path, keep=2, best_metric="val/accuracy", higher_is_better=True)
    with pytest.raises(CheckpointError, match=r"checkpoints cannot be written to \(File exists\)"):
        checkpoints.begin_writing()
    assert not (tmp_path / "lock.json").exists()

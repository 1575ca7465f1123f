"""Files are there whole or not at all."""

import json
import os
import stat

import pytest

from vision_jax.utils import files


def test_a_file_takes_its_place_when_it_is_complete(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with files.atomic_write(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_what_raises_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), files.atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_others_may_read_it_as_the_mask_says(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / "a.json", {"x": 1.5})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    with files.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("1")
        assert folder.parent == tmp_path and not (tmp_path / "a").exists()
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_a_folder_that_is_not_completed_is_gone(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_there_already_stays(tmp_path):
    """Two processes make the same folder: who is first wins."""
    with pytest.raises(FileExistsError, match="/a is there already"), files.atomic_folder(tmp_path / "a") as slower:
        (slower / "x").write_text("second")
        with files.atomic_folder(tmp_path / "a") as faster:
            (faster / "x").write_text("first")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a" / "x").read_text() == "first"


def test_what_a_dead_process_left_under_a_given_name_is_deleted(tmp_path):
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "stale").touch()
    with files.atomic_folder(tmp_path / "a", temporary=tmp_path / ".partial") as folder:
        assert folder == tmp_path / ".partial"
        assert not os.listdir(folder)
    assert os.listdir(tmp_path) == ["a"]


def test_others_may_enter_a_folder_as_the_mask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with files.atomic_folder(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not os.listdir(tmp_path)

"""Processes of one run notice what becomes of each other; on real ones in `test_ending.py`."""

import json
import os
import types

import pytest

from vision_jax import ending, peers, run_lock

ELSEWHERE = {"index": 1, "host": "node7", "pid": 12, "machine": "elsewhere", "started": "1", "token": "a"}


@pytest.fixture
def clock(monkeypatch):
    """Seconds as the watch reads them; they pass when a test says so."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(peers.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def watch(clock, tmp_path):
    """That of process 0 of two, which looks when a test says so; an earlier process 1 has left its file."""
    show(tmp_path, ELSEWHERE | {"token": "old", "ended": [1, "Long ago."]})
    watch = peers._Watch(tmp_path, 0, 2, lost_after=900.0, apart=3000.0)
    yield watch
    watch.end()


def show(folder, content):
    """Writes process 1's file anew."""
    (folder / "1.json").write_text(json.dumps(content))


def looks(watch, clock, seconds, folder=None):
    """Lets time pass, in which process 1 gives signs of life where a folder is given; returns what was found."""
    found = []
    for _ in range(int(seconds / 10)):
        clock.now += 10
        if folder:
            os.utime(folder / "1.json", (clock.now, clock.now))
        found.append(watch._look())
    return next(filter(None, found), None)


def test_a_process_that_beats_is_well_however_long_it_takes(watch, clock, tmp_path):
    show(tmp_path, ELSEWHERE)
    assert looks(watch, clock, 9000, tmp_path) is None


def test_a_silent_process_is_named_after_the_bound(watch, clock, tmp_path):
    show(tmp_path, ELSEWHERE)
    assert looks(watch, clock, 890) is None
    status, sentence = looks(watch, clock, 40)
    assert status == 1
    assert sentence.startswith("Process 1 of the run (pid 12 on node7) has given no sign of life for 900 s.")


def test_who_slept_itself_blames_nobody(watch, clock, tmp_path):
    show(tmp_path, ELSEWHERE)
    watch._look()
    clock.now += 5000
    assert watch._look() is None and looks(watch, clock, 880) is None
    assert looks(watch, clock, 40)


def test_a_process_that_does_not_come_is_awaited_longer(watch, clock, tmp_path):
    assert looks(watch, clock, 2990) is None
    status, sentence = looks(watch, clock, 20)
    assert status == 1 and f"Process 1 has written nothing to {tmp_path} for 30" in sentence


def test_a_process_that_is_no_more_is_named_at_once(watch, clock, tmp_path):
    show(tmp_path, run_lock.this_process() | {"index": 1, "token": "a"})
    assert looks(watch, clock, 100) is None
    show(tmp_path, run_lock.this_process() | {"index": 1, "token": "a", "started": "1"})
    status, sentence = looks(watch, clock, 20)
    assert status == 1 and f"(pid {os.getpid()} on " in sentence and "was killed or has crashed" in sentence


def test_a_process_that_was_started_again_ends_the_run_of_the_former(watch, clock, tmp_path):
    show(tmp_path, ELSEWHERE)
    looks(watch, clock, 20)
    show(tmp_path, ELSEWHERE | {"token": "b"})
    assert "another was started in its place" in looks(watch, clock, 20)[1]


@pytest.mark.parametrize(
    ("status", "told", "words"),
    [(ending.STOPPED, 75, "was stopped by a signal"), (3, 1, "ended with an error"), ("ERROR: no", 1, "with an error")],
)
def test_word_of_an_end_reaches_the_others(status, told, words, watch, clock, tmp_path):
    other = peers._Watch(tmp_path, 1, 2, lost_after=900.0, apart=3000.0)
    looks(watch, clock, 10)
    other.leave_word(status)
    assert looks(watch, clock, 20) == (told, watch.others[0].known["ended"][1])
    assert words in watch.others[0].known["ended"][1]
    other.end()


def test_what_one_finds_reaches_those_who_do_not_look_there(clock, tmp_path):
    run = [peers._Watch(tmp_path, i, 5, lost_after=900.0, apart=3000.0) for i in range(5)]
    assert [len(one.others) for one in run] == [4, 2, 3, 3, 2]
    run[3].leave_word(3)
    assert looks(run[1], clock, 20) is None
    status, run[0].reason = looks(run[0], clock, 20)
    run[0].leave_word(status)
    assert looks(run[1], clock, 20) == (1, run[0].reason) and "Process 3 of the run" in run[0].reason
    for one in run:
        one.end()


def test_an_end_leaves_nothing_and_an_error_leaves_word(tmp_path):
    with peers.watched(tmp_path, 0, 2, 900.0):
        assert (tmp_path / "processes/0.json").exists()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), peers.watched(tmp_path, 0, 2, 900.0):
        raise ZeroDivisionError
    assert json.loads((tmp_path / "processes/0.json").read_text())["ended"][0] == 1
    with peers.watched(tmp_path / "alone", 0, 1, 900.0):
        assert not (tmp_path / "alone").exists()


def test_a_lost_connection_waits_for_the_name_of_the_lost(tmp_path, monkeypatch):
    left = []
    monkeypatch.setattr(ending, "leave", lambda *how: left.append(how))
    monkeypatch.setattr(peers, "APART", 0.3)
    with pytest.raises(SystemExit), peers.watched(tmp_path, 0, 2, 0.3):
        try:
            raise ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
        except ValueError as error:
            raise SystemExit("ERROR: No checkpoint could be written") from error
    assert left[0][0] == 1 and left[0][1].startswith("ERROR: Process 1 has written nothing to ")

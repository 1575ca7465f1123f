"""How runs end, on the real process: signals at any moment, a second writer, one of two lost, a folder that is
lost, a disk that is full."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import forked_commands

pytestmark = pytest.mark.usefixtures("no_page")

LONG = ("--config.train.epochs=4000", "--config.eval.every_epochs=1000", "--config.log.every_epochs=20")


@pytest.fixture
def start(repository, tmp_path):
    """Starts the smoke run of the digits in `tmp_path/run`; what still runs at the end is killed."""
    started = []

    def start(*options, under=()):
        command = [
            *(sys.executable, "-m", "vision_jax.main", f"--config={repository}/configs/digits_cnn.py:smoke"),
            *("--workdir=run", "--config.log.tensorboard=False", *options),
        ]
        if under:
            pipe = subprocess.PIPE
            process = subprocess.Popen([*under, *command], cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
        else:
            process = forked_commands.Popen(command, cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(path, process):
    """Waits until something is in the file or folder."""
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "file"),
    [
        (signal.SIGTERM, "lock.json"),  # Before the first step, of which the program is compiled.
        pytest.param(signal.SIGINT, "outputs/val.npz", marks=pytest.mark.full),  # After the last.
    ],
)
def test_a_signal_at_any_moment_ends_with_status_75_and_the_same_command_continues(number, file, start, tmp_path):
    process = start()
    wait_for(tmp_path / "run" / file, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 75, errors
    assert "Stopped by a signal." in errors and "Traceback" not in errors
    assert not (tmp_path / "run/lock.json").exists()
    again = start()
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert json.loads((tmp_path / "run/report/results.json").read_text())["metrics"]["test/accuracy"] > 0


def test_a_signal_while_training_saves(start, tmp_path):
    process = start(*LONG)
    wait_for(tmp_path / "run/metrics.jsonl", process)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 75
    saved = [int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()]
    assert len(saved) == 1 and f"after step {saved[0]}; the same command continues from there" in errors


def test_beside_a_training_another_is_refused_and_an_evaluation_does_no_harm(start, tmp_path):
    training = start(*LONG, "--config.checkpoint.every_steps=200")
    wait_for(tmp_path / "run/checkpoints/200", training)
    second, evaluation = start(*LONG), start("--mode=eval", "--allow_config_change")
    _, errors = second.communicate()
    assert second.returncode == 1
    assert f"is written to by process {training.pid} on" in errors and "Traceback" not in errors
    _, errors = evaluation.communicate()
    assert evaluation.returncode == 0, errors
    assert training.poll() is None
    training.terminate()
    _, errors = training.communicate()
    assert training.returncode == 75 and "Traceback" not in errors


@pytest.mark.parametrize(
    ("number", "lost", "words"),
    [
        (signal.SIGKILL, 0, "was killed or has crashed"),  # The one that JAX aborts the others for.
        pytest.param(signal.SIGKILL, 1, "was killed or has crashed", marks=pytest.mark.full),
        pytest.param(signal.SIGSTOP, 1, "has given no sign of life for 8 s", marks=pytest.mark.full),
    ],
)
def test_when_one_of_two_processes_is_lost_the_other_names_it_and_ends(number, lost, words, start, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        together = (f"--coordinator=127.0.0.1:{probe.getsockname()[1]}", "--num_processes=2", "--lost_after=8")
    processes = [start(*LONG, *together, f"--process_id={i}") for i in range(2)]
    wait_for(tmp_path / "run/metrics.jsonl", processes[0])
    processes[lost].send_signal(number)
    _, errors = processes[1 - lost].communicate(timeout=120)
    assert processes[1 - lost].returncode == 1, errors
    sentence = errors.splitlines()[-1]
    assert sentence.startswith(f"ERROR: Process {lost} of the run (pid {processes[lost].pid} on ") and words in sentence
    assert not any(dump in errors for dump in ("Traceback", "Check failure", "coordination"))
    if lost == 1:
        assert not (tmp_path / "run/lock.json").exists()
    processes[lost].send_signal(signal.SIGCONT)
    assert processes[lost].wait(timeout=60) == (1 if number == signal.SIGSTOP else -signal.SIGKILL)


def _moves(run):
    run.rename(run.with_name("moved"))


def _puts_a_file_in_place_of_the_checkpoints(run):
    (run / "checkpoints").rename(run / "moved")
    (run / "checkpoints").touch()


@pytest.mark.full
@pytest.mark.parametrize(
    ("somebody", "said"),
    [(_moves, "was moved or deleted"), (_puts_a_file_in_place_of_the_checkpoints, "No checkpoint could be written")],
)
def test_a_folder_that_is_lost_in_training_is_a_sentence_at_once(somebody, said, start, tmp_path):
    training = start(*LONG, "--config.checkpoint.every_steps=200")
    wait_for(tmp_path / "run/checkpoints/200", training)
    somebody(tmp_path / "run")
    _, errors = training.communicate(timeout=20)
    assert training.returncode == 1
    assert said in errors.splitlines()[-1] and "Traceback" not in errors


@pytest.mark.full
def test_a_disk_that_is_full_is_a_sentence_and_with_room_the_same_command_continues(start, tmp_path):
    """Files may have 20 KiB each: rows of metrics fit, arrays do not."""
    full = start(under=("bash", "-c", 'ulimit -f 20; exec "$@"', "bash"))
    _, errors = full.communicate(timeout=120)
    assert full.returncode == 1
    assert "ERROR: " in errors and "File too large" in errors and "the same command continues" in errors
    assert "Traceback" not in errors
    again = start()
    _, errors = again.communicate()
    assert again.returncode == 0, errors

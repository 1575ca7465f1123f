"""Progress on a terminal and in a file, and the table at the end."""

import os
import re
import select
import sys
import termios

import pytest

from vision_jax import progress


def run_some(total=200):
    with progress.Progress(total, 100, unit_examples=32) as bar:
        for step in range(101, total + 1):
            bar.update(step, {"train/accuracy": step / 400, "train/loss": 0.123456} if step % 50 == 0 else None)
        bar.update(total, {"val/loss": 0.5})
        bar.message("evaluated at step 200")


def test_without_a_terminal_one_plain_line_per_row_of_metrics(capsys):
    run_some()
    first, second, third, message = capsys.readouterr().err.splitlines()
    pattern = r"step 150/200 \(75%\)  \S+ steps/s  \S+ examples/s  ETA \d\d:\d\d  train/accuracy 0.375  "
    assert re.fullmatch(pattern + "train/loss 0.1235", first)
    assert second.startswith("step 200/200 (100%)")
    assert "ETA 00:00" in second
    assert third.endswith("ETA 00:00  val/loss 0.5")
    assert message == "evaluated at step 200"


def test_first_line_has_no_rate_that_would_be_a_guess(capsys):
    with progress.Progress(10) as bar:
        bar.update(1, {"loss": 2})
    assert capsys.readouterr().err == "step 1/10 (10%)  loss 2\n"


def shown_on_terminal(monkeypatch, rows, columns):
    """Returns what `run_some` writes to a terminal of that size."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    with open(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        run_some()
        terminal.flush()
        parts = []
        while select.select([master], [], [], 0.2)[0]:
            parts.append(os.read(master, 1 << 16))
    os.close(master)
    return b"".join(parts).decode()


def test_on_a_terminal_one_bar_with_step_rate_time_left_and_metrics(monkeypatch):
    shown = shown_on_terminal(monkeypatch, 24, 160)
    assert "\r" in shown
    last = shown.replace("\r\n", "\n").replace("\n", "\r").rstrip("\r").split("\r")[-1]
    assert "200/200" in last
    assert "100%" in last
    assert "step/s" in last
    assert "train/accuracy 0.5  train/loss 0.1235" in last and "val/" not in last
    assert "step 200/200  val/loss 0.5" in shown
    assert "evaluated at step 200" in shown


def test_lines_of_evaluations_are_folded_between_metrics():
    metrics = {"val/accuracy": 0.5, "val/loss": 1.25, "val/calibration_error_15_bins": 0.1, "val/macro_f1": 0.25}
    folded = progress._folded(["step 24/140", *progress._parts(metrics)], 40)
    assert folded.split("\n") == [
        "step 24/140  val/accuracy 0.5",
        "  val/loss 1.25",
        "  val/calibration_error_15_bins 0.1",
        "  val/macro_f1 0.25",
    ]
    assert "\n" not in progress._folded(["step 24/140", *progress._parts(metrics)], 160)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 0), (0, 160)])
def test_a_terminal_that_knows_no_size_gets_plain_lines(monkeypatch, rows, columns):
    """As `docker run -t` gives it, where a bar would be nothing but empty lines."""
    lines = shown_on_terminal(monkeypatch, rows, columns).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("step 150/200 (75%)")


@pytest.mark.parametrize("show", [run_some, lambda: progress.print_table(["a"], [[1]])])
def test_other_processes_are_silent(show, monkeypatch, capsys):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    show()
    assert capsys.readouterr() == ("", "")


def test_table(capsys):
    progress.print_table(["metric", "value"], [["test/accuracy", 0.98765432], ["n", 360]])
    assert capsys.readouterr().out == (
        "metric           value\n-------------  -------\ntest/accuracy  0.98765\nn                  360\n"
    )

"""Shows that a config's training survives being killed: kills it at random moments, and compares every bit.

    python -m vision_jax.tools.verify_resume --config=configs/digits_cnn.py:smoke --kills=10 --out=runs/verify_resume

trains twice in folders of `--out`, once undisturbed and once killed (SIGKILL) so many times and continued, and compares
metrics of every row, numbers of every step, pictures, final metrics and the arrays of the last checkpoint. Every other
option goes to `vision_jax.main`. The exit status is 0 if all is equal, 1 if something differs, 2 if a run failed.
"""

import argparse
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax import checkpoints, writers
from vision_jax.analysis.record import Record

Row = Mapping[str, Any]


class RunFailed(RuntimeError):
    """A run ended with an error of its own."""


def differences(first: pathlib.Path, second: pathlib.Path) -> list[str]:
    """Returns what differs between two runs of one config, a sentence each; the earliest row of each file.

    Args:
        first: folder of a run that has ended.
        second: of the other.

    Raises:
        CheckpointError: a checkpoint cannot be read.
    """
    found = []
    for name in (writers.STEPS, writers.METRICS):
        pairs = [writers.read_rows(folder / name) for folder in (first, second)]
        found += _first_other_row(name, *pairs)
    pictures = [_contents(folder / "pictures") for folder in (first, second)]
    if other := _others(*pictures):
        found.append(f"{len(other)} pictures differ, the first is pictures/{min(other)}.")
    metrics = [Record(folder).results["metrics"] for folder in (first, second)]
    for name in _others(*metrics)[:1]:
        found.append(f"The final {name} is {metrics[0].get(name)} and {metrics[1].get(name)}.")
    last = [checkpoints.read(folder, "newest") for folder in (first, second)]
    step = last[0].step
    if step != last[1].step:
        found.append(f"The last checkpoints are of the steps {step} and {last[1].step}.")
    elif other := _others(last[0].state, last[1].state):
        found.append(f"{len(other)} of {len(last[0].state)} arrays of checkpoint {step} differ, first {min(other)}.")
    return found


def _first_other_row(name: str, first: Sequence[Row], second: Sequence[Row]) -> list[str]:
    for ours, theirs in zip(first, second, strict=False):
        for metric in _others(ours, theirs):
            return [f"{name}, step {ours['step']}: {metric} is {ours.get(metric)} and {theirs.get(metric)}."]
    return [f"{name} has {len(first)} and {len(second)} rows."] if len(first) != len(second) else []


def _others(first: Row, second: Row) -> list[str]:
    """Returns the names of the values that differ; NaN equals NaN."""
    names = dict.fromkeys((*first, *second))
    return [name for name in names if not _same(first.get(name), second.get(name))]


def _same(first: object, second: object) -> bool:
    if first is None or second is None:
        return first is second
    a, b = np.asarray(first), np.asarray(second)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verify(options: Sequence[str], out: pathlib.Path, kills: int, seed: int, say: Callable[[str], None]) -> list[str]:
    """Trains twice, once with `kills` kills, and returns what differs.

    Args:
        options: of `vision_jax.main`, without --workdir.
        out: folder for the runs `undisturbed` and `killed`, which are begun anew.
        kills: how many; fewer, if the run ends before.
        seed: of their moments.
        say: gets a sentence for each thing done.

    Raises:
        RunFailed: a run ended with an error, or could not be killed because it ended before.
    """
    undisturbed, killed = out / "undisturbed", out / "killed"
    for folder in (undisturbed, killed):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    process = _start(options, undisturbed)
    while process.poll() is None and not _last_step(undisturbed):
        time.sleep(0.02)
    start_up = time.monotonic() - began
    _finish(process)
    total = _last_step(undisturbed)
    say(f"Undisturbed: {total} steps, the first row after {start_up:.1f} s.")

    generator, done = random.Random(seed), 0
    for target in sorted(generator.uniform(0, total) for _ in range(kills)):
        process = _start(options, killed)
        if _last_step(killed) >= target:  # A kill before it was as late: this one hits the start-up.
            time.sleep(generator.uniform(0.0, start_up))
        while process.poll() is None and _last_step(killed) < target:
            time.sleep(0.01)
        if process.poll() is not None:
            _finish(process)
            break
        process.kill()
        process.wait()
        done += 1
        say(f"Kill {done} of {kills}: behind the row of step {_last_step(killed)}.")
    if not done:
        raise RunFailed("The run ended before it could be killed; train longer.")
    _finish(_start(options, killed))
    say(f"Killed {done} times.")
    return differences(undisturbed, killed)


def _last_step(workdir: pathlib.Path) -> int:
    return max((row["step"] for row in writers.read_rows(workdir / writers.METRICS)), default=0)


def _start(options: Sequence[str], workdir: pathlib.Path) -> subprocess.Popen[bytes]:
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with open(workdir.with_suffix(".log"), "ab") as log:
        command = [sys.executable, "-m", "vision_jax.main", *options, f"--workdir={workdir}"]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if status := process.wait():
        raise RunFailed(f"The run ended with status {status}; its output is in the folder's .log file.")


def main(argv: Sequence[str]) -> int:
    """Verifies the config on the command line."""
    parser = argparse.ArgumentParser(prog="python -m vision_jax.tools.verify_resume", allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=10, help="how often the run is killed")
    parser.add_argument("--out", type=pathlib.Path, default="runs/verify_resume", help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    values, options = parser.parse_known_args(argv)
    try:
        found = verify(options, values.out, values.kills, values.seed, lambda text: print(text, flush=True))
    except (RunFailed, checkpoints.CheckpointError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    for difference in found:
        print(f"DIFFERENT: {difference}")
    if not found:
        print("Equal bit for bit: rows, pictures, final metrics, and the arrays of the last checkpoint.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs a study: several runs, one after the other, and the page that compares them.

    python -m vision_jax.tools.study configs/studies/cifar10.py --out=runs/cifar10
    python -m vision_jax.tools.study configs/studies/garbage.py --out=runs/garbage --config.data.root=~/dataset-resized
    python -m vision_jax.tools.study configs/studies/cifar10.py --out=runs/cifar10 --commands     # for a cluster
    python -m vision_jax.tools.study configs/studies/digits.py --out=runs/digits --search=halving --budget=9

A study is a file with `get_study(variant)`. Its runs lie in OUT/NAME; started again, finished ones are kept and an
unfinished one continues. `--commands` prints one line per run, the N-th for task N of an array job, and does nothing
else; `--compare` makes the page of those that have finished, two or more. `--config.SECTION.OPTION=VALUE` holds for all
runs.

A search draws settings from the study's `space`, each a run: 'random' trains them all, 'halving' (Jamieson & Talwalkar
2016, arXiv 1502.07943) trains them for a part of the length, the best third of them for three times as long from the
beginning, and so on. Both rank by the validation metric that chose each run's checkpoint; the page compares the runs of
the last round, and where that is one, its folder is printed.
"""

import argparse
import json
import math
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vision_jax import command_line, ending, progress
from vision_jax.analysis.record import Record
from vision_jax.study import Run, Study, StudyError, load
from vision_jax.tools import compare
from vision_jax.utils import files

_RECORD = "study.json"  # In a run's folder: what it was started with.
_ETA = 3  # Of successive halving: one setting in three goes on, for three times as long.

Launcher = Callable[[list[str]], int]


def started(command: list[str]) -> int:
    """Runs a command to its end and returns its status. Signals are its to answer: it saves, which takes its time.

    A terminal sends Ctrl-C to it, too; SIGTERM is passed on.
    """
    children: list[subprocess.Popen] = []

    def pass_on(*_: object) -> None:
        for child in children:
            child.terminate()

    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: pass_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        children.append(subprocess.Popen(command))
        return children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def result(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Returns the results of a finished run, None before that."""
    record = Record(workdir)
    return record.results if record.finished else None


def train(run: Run, out: pathlib.Path, more: Sequence[str], launch: Launcher) -> dict[str, Any]:
    """Trains a run, or continues it, or keeps it if it has finished, and returns its results.

    Raises:
        StudyError: it was begun with other options, or it failed.
    """
    workdir, command = out / run.name, run.command(out, more)
    record = {"config": run.config, "arguments": [argument for argument in command[5:]]}
    written = workdir / _RECORD
    if written.is_file() and json.loads(written.read_text()) != record:
        raise StudyError(
            f"{workdir} was begun with other options ({written}). Move it away, or give the study another --out."
        )
    if written.is_file() and (found := result(workdir)) is not None:
        print(f"{run.name}: finished before.", flush=True)
        return found
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(written, record)
    print(f"{run.name}: {shlex.join(command)}", flush=True)
    status = launch(command)
    found = result(workdir)
    if status == ending.STOPPED:
        raise StudyError(f"{run.name} was stopped by a signal and has saved; the same command continues the study.")
    if status or found is None:
        raise StudyError(f"{run.name} failed with status {status}; what it was started with is in {written}.")
    return found


def halvings(count: int, length: float) -> Iterator[tuple[int, float]]:
    """Yields how many settings train, and how long, from the first round of successive halving to the last."""
    rounds = 1 + math.floor(math.log(count, _ETA) + 1e-9)
    for number in range(rounds):
        yield max(count // _ETA**number, 1), length / _ETA ** (rounds - 1 - number)


def search(
    study: Study, kind: str, budget: int, seed: int, out: pathlib.Path, more: Sequence[str], launch: Launcher
) -> list[pathlib.Path]:
    """Trains drawn settings, prints them by score, and returns the folders of the last round, best first."""
    runs = study.drawn(budget, seed)
    if kind == "random":
        rounds: list[tuple[int, float | None]] = [(len(runs), None)]
    elif study.length is None:
        raise StudyError("This study does not say which option is its length; use --search=random.")
    else:
        rounds = list(halvings(len(runs), study.length[1]))
    ranked: list[tuple[float, Run, Run]] = []
    for number, (count, length) in enumerate(rounds):
        runs, ranked = runs[:count], []
        for run in runs:
            shorter = run
            if length is not None and study.length is not None:
                whole = isinstance(study.length[1], int)
                value = max(1, round(length)) if whole else round(length, 3)
                shorter = run.with_options({study.length[0]: value}, f"_round{number}")
            results = train(shorter, out, more, launch)
            metric = results["chosen_by"]
            ranked.append((float(results["metrics"][metric]), run, shorter))
        ranked.sort(key=lambda entry: entry[0], reverse=study.higher_is_better)
        rows = [[f"{value:.4f}", shorter.name, json.dumps(dict(run.options))] for value, run, shorter in ranked]
        progress.print_table((metric, "run", "options"), rows)
        runs = [run for _, run, _ in ranked]
    return [out / shorter.name for _, _, shorter in ranked]


def main(argv: Sequence[str] | None = None, launch: Launcher = started) -> int:
    """Runs the study named on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vision_jax.tools.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", help="FILE or FILE:VARIANT")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the runs and of their comparison")
    parser.add_argument("--commands", action="store_true", help="print one command per run and do nothing else")
    parser.add_argument("--compare", action="store_true", help="compare the runs that have finished, and train none")
    parser.add_argument("--search", choices=("random", "halving"), help="draw settings from the study's space")
    parser.add_argument("--budget", type=int, default=9, help="settings that a search draws (default: 9)")
    parser.add_argument("--seed", type=int, default=0, help="of the search's draws (default: 0)")
    given, more = parser.parse_known_args(argv)
    if wrong := [argument for argument in more if not argument.startswith("--config.")]:
        parser.error(f"unknown: {' '.join(wrong)}; options for all runs are written --config.SECTION.OPTION=VALUE")
    if given.budget < 1:
        parser.error(f"--budget={given.budget}: a search draws one setting or more")
    try:
        study = load(given.study)
        if given.search and given.commands:
            raise StudyError("--commands cannot list a search: which runs go on depends on how others end.")
        if given.search:
            folders = search(study, given.search, given.budget, given.seed, given.out, more, launch)
        elif given.commands:
            for run in study.all_runs():
                print(shlex.join(run.command(given.out, more)))
            return 0
        else:
            print(study.question)
            runs = study.all_runs()
            for run in () if given.compare else runs:
                train(run, given.out, more, launch)
            folders = [given.out / run.name for run in runs if result(given.out / run.name) is not None]
            if not folders:
                raise StudyError(f"None of the {len(runs)} runs in {given.out} has finished.")
        if len(folders) > 1:
            print(f"Comparison: {compare.write(folders, given.out / 'comparison')}")
        else:
            print(f"{'The best run' if given.search else 'The one run that has finished'}: {folders[0]}")
    except (StudyError, ValueError, OSError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

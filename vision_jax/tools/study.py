"""Runs a study: several runs, one after the other, and the page that compares them.

    python -m vision_jax.tools.study configs/studies/cifar10.py --out=runs/cifar10
    python -m vision_jax.tools.study configs/studies/garbage.py --out=runs/garbage --config.data.root=~/dataset-resized
    python -m vision_jax.tools.study configs/studies/cifar10.py --out=runs/cifar10 --commands     # for a cluster
    python -m vision_jax.tools.study configs/studies/digits.py --out=runs/digits --search=halving --budget=9

A study is a file with `get_study(variant)`. Its runs lie in OUT/NAME; started again, finished ones are kept and an
unfinished one continues. `--commands` prints one line per run, the N-th for task N of an array job, and does nothing
else; `--compare` makes the page of those that have finished. `--config.SECTION.OPTION=VALUE` holds for all runs.

A search draws settings from the study's `space`, each a run: 'random' trains them all, 'halving' (Jamieson & Talwalkar
2016, arXiv 1502.07943) trains them for a part of the length, the best third of them for three times as long from the
beginning, and so on. Both rank by the validation metric that chose each run's checkpoint.
"""

import argparse
import dataclasses
import importlib
import itertools
import json
import math
import pathlib
import random
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vision_jax import progress
from vision_jax.utils import files

_STOPPED = 75  # Exit status of a run that a signal stopped, saved and not finished; see train.py.
_RECORD = "study.json"  # In a run's folder: what it was started with.
_ETA = 3  # Of successive halving: one setting in three goes on, for three times as long.

Options = Mapping[str, Any]
Launcher = Callable[[list[str]], int]


class StudyError(Exception):
    """A study that cannot go on; the message says which run and what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: of its folder.
        config: 'FILE' or 'FILE:VARIANT', as --config takes it.
        options: 'section.option' -> value, set after the config.
    """

    name: str
    config: str
    options: Options = dataclasses.field(default_factory=dict)

    def with_options(self, options: Options, suffix: str = "") -> "Run":
        """Returns the run with further options, and a longer name."""
        return Run(self.name + suffix, self.config, {**self.options, **options})

    def command(self, out: pathlib.Path, more: Sequence[str] = ()) -> list[str]:
        """Returns the command that trains it, with `more` arguments at the end."""
        given = [f"--config.{name}={value}" for name, value in self.options.items()]
        workdir = f"--workdir={out / self.name}"
        return [sys.executable, "-m", "vision_jax.main", f"--config={self.config}", workdir, *given, *more]


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` of a search, drawn evenly, or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def draw(self, generator: random.Random) -> float:
        """Returns one of them, with three significant digits."""
        if self.log:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return float(f"{value:.3g}")


@dataclasses.dataclass(frozen=True)
class Study:
    """Several runs and the question that they answer together.

    Attributes:
        question: one sentence.
        runs: the runs.
        grid: 'section.option' -> values; each run is made once for every combination (`seed` is the usual one).
        space: 'section.option' -> values or `Range` that a search draws from.
        length: the option that a search by halving shortens, and its value for a whole run.
        higher_is_better: whether a larger value of the metric that chooses the runs' checkpoints is better.
    """

    question: str
    runs: tuple[Run, ...]
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    space: Mapping[str, Sequence[Any] | Range] = dataclasses.field(default_factory=dict)
    length: tuple[str, float] | None = None
    higher_is_better: bool = True

    def all_runs(self) -> list[Run]:
        """Returns every run of the grid, named by what differs."""
        made = []
        for run, values in itertools.product(self.runs, itertools.product(*self.grid.values())):
            options = dict(zip(self.grid, values, strict=True))
            suffix = "".join(f"_{name.rpartition('.')[2]}={value}" for name, value in options.items())
            made.append(run.with_options(options, suffix.replace("/", "-").replace(" ", "")))
        names = [run.name for run in made]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise StudyError(f"Runs of a study need different names; twice there: {', '.join(twice)}.")
        return made

    def drawn(self, budget: int, seed: int) -> list[Run]:
        """Returns `budget` settings of the space for the study's first run, without repetition where it is discrete."""
        if not self.space:
            raise StudyError("This study has no space to search; leave --search out, or give it one.")
        generator, seen, settings = random.Random(seed), set(), []
        for _ in range(100 * budget):
            drawn = {
                name: values.draw(generator) if isinstance(values, Range) else generator.choice(list(values))
                for name, values in self.space.items()
            }
            if (key := repr(drawn)) not in seen:
                seen.add(key)
                settings.append(drawn)
            if len(settings) == budget:
                break
        return [self.runs[0].with_options(options, f"_trial{number:03}") for number, options in enumerate(settings)]


def load(name: str) -> Study:
    """Returns the study of 'FILE' or 'FILE:VARIANT'; raises `StudyError` when there is none."""
    path, _, variant = name.partition(":")
    if not pathlib.Path(path).is_file():
        raise StudyError(f"There is no study {path}; studies lie in configs/studies.")
    study = runpy.run_path(path).get("get_study", lambda variant: None)(variant)
    if not isinstance(study, Study):
        raise StudyError(f"{path} has no function get_study(variant) that returns a Study.")
    return study


def result(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Returns the results of a finished run, None before that."""
    path = workdir / "report" / "results.json"
    return json.loads(path.read_text()) if path.is_file() else None


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
    if status == _STOPPED:
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


def compare(folders: Sequence[pathlib.Path], out: pathlib.Path) -> None:
    """Writes the page that compares finished runs."""
    module = importlib.import_module("vision_jax.tools.compare")
    print(f"Comparison: {module.write(list(folders), out)}")


def main(argv: Sequence[str] | None = None, launch: Launcher = subprocess.call) -> int:
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
        compare(folders, given.out / "comparison")
    except StudyError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

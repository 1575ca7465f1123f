"""What a study is: several runs, or a space to search, and the question that they answer together.

A file with `get_study(variant)` describes one; `python -m vision_jax.tools.study` runs it.
"""

import dataclasses
import itertools
import math
import pathlib
import random
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Options = Mapping[str, Any]


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

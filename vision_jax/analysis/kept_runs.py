"""The small files that are kept of a run for good, and the table that is made of them.

A folder of kept runs has a folder of each, and `published.json`: for each config (`"cifar10_fcn.py:best"`) which metric
counts, and what others published for the same experiment:

    {"cifar10_fcn.py:best": {"metric": "test/accuracy", "published": "53–55 %"}}

`"beside"` names a metric of the same run that is shown with it, such as that of bicubic interpolation.
"""

import dataclasses
import json
import pathlib
import shlex
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision_jax import writers
from vision_jax.analysis.record import Record
from vision_jax.metrics import words
from vision_jax.utils import files

PUBLISHED = "published.json"
_RESULTS, _RUN = "results.json", "run.json"
_MACHINE = ("cpu", "cpu_count", "backend", "device_kind", "device_count", "process_count", "python", "packages")
# What is shown of a run when its page is not there, if it drew it.
_PICTURES = ("curve_accuracy.png", "confusion_matrix.png", "losses.png", "samples.png", "details_*.png")
HEADER = ("config", "data", "parameters", "metric", "this code", "published", "training", "machine")


def keep(workdir: str | pathlib.Path, folder: str | pathlib.Path, name: str) -> pathlib.Path:
    """Copies what is small and says most of a run that has ended to `folder/name`, which is replaced; returns that.

    Results, rows of metrics, some pictures, and `run.json`: config, options of the command line, git revision and
    machine. Of paths only the last part.

    Raises:
        ValueError: `name` is no name of a folder, the run lies in `folder/name` itself or has not ended, or its command
            names no config.
        OSError: a file cannot be read or written.
    """
    if name in ("", ".", "..") or pathlib.PurePath(name).name != name:
        raise ValueError(f"--name={name} is no name of a folder; name the kept run by one word, such as digits_cnn.")
    record, kept = Record(workdir), pathlib.Path(folder) / name
    lies = record.workdir.resolve()
    if kept.resolve() in (lies, *lies.parents):
        raise ValueError(f"{kept} would be replaced, and the run itself lies there; choose another --name.")
    if not record.finished:
        raise ValueError(
            f"{record.workdir} has no report/{_RESULTS} of a finished run: it is none, or the run has not ended."
        )
    environment = record.environment
    if not record.config_name:
        raise ValueError(f"The run's command names no --config=FILE: {environment['command']}")
    git = environment["git"]
    run = {
        "config": record.config_name,
        "options": _options(environment["command"]),
        "seed": record.config["seed"],
        "revision": git and git["revision"] + (" and changes" if git["dirty"] else ""),
        "machine": {name: environment[name] for name in _MACHINE},
    }
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    report = record.workdir / "report"
    pictures = (path for pattern in _PICTURES for path in report.glob(pattern))
    for path in (record.workdir / writers.METRICS, *pictures):
        shutil.copyfile(path, kept / path.name)
    results = json.loads((report / _RESULTS).read_text(encoding="utf-8"))
    provenance = results.get("provenance", {})
    if "root" in provenance:
        provenance["root"] = pathlib.PurePath(provenance["root"]).name
    files.write_json(kept / _RESULTS, results)
    files.write_json(kept / _RUN, run)
    return kept


def _options(command: str) -> list[str]:
    """Returns the options of the config that a command sets."""
    options = []
    for word in shlex.split(command):
        name, _, value = word.partition("=")
        if name.startswith("--config."):
            options.append(f"{name}={pathlib.PurePath(value).name}" if value.startswith("/") else word)
    return options


@dataclasses.dataclass(frozen=True)
class Kept:
    """A run in a folder of kept runs: its files `results.json` and `run.json`."""

    results: dict[str, Any]
    run: dict[str, Any]


def table(folder: str | pathlib.Path) -> str:
    """Returns the kept runs as a Markdown table; runs that differ in the seed alone are a row, their mean and spread.

    Raises:
        ValueError: `published.json` lacks a config, or names a metric that a run lacks.
        OSError: a file cannot be read.
    """
    folder = pathlib.Path(folder)
    published = json.loads((folder / PUBLISHED).read_text(encoding="utf-8"))
    groups: dict[tuple[str, ...], list[Kept]] = {}
    for path in sorted(folder.glob(f"*/{_RUN}")):
        run = json.loads(path.read_text(encoding="utf-8"))
        results = json.loads((path.parent / _RESULTS).read_text(encoding="utf-8"))
        if run["config"] not in published:
            raise ValueError(
                f"{folder / PUBLISHED} says nothing about {run['config']}, of which {path.parent} is a run."
            )
        options = (option for option in run["options"] if not option.startswith("--config.seed="))
        groups.setdefault((run["config"], *options), []).append(Kept(results, run))
    order = list(published)
    rows = [_row(runs, published[key[0]]) for key, runs in sorted(groups.items(), key=lambda i: order.index(i[0][0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEADER, ["---"] * len(HEADER), *rows)) + "\n"


def _row(runs: Sequence[Kept], published: dict[str, str]) -> list[str]:
    first, metric = runs[0], published["metric"]
    for kept in runs:
        if metric not in kept.results["metrics"]:
            raise ValueError(
                f"A run of {kept.run['config']} has no {metric}; it has {sorted(kept.results['metrics'])}."
            )
    evaluator, _, name = metric.partition("/")
    n = first.results["evaluations"][evaluator]["examples"]
    return [
        f"`{first.run['config']}`",
        first.results["data"],
        f"{first.results['parameters']:,}",
        f"`{name}`, {evaluator}, n = {n:,}",
        _measured(metric, n, runs) + _beside(published.get("beside"), first),
        published["published"],
        _time([kept.results["training_seconds"] for kept in runs]),
        _machine(first.run["machine"]),
    ]


def _measured(metric: str, n: int, runs: Sequence[Kept]) -> str:
    """Returns the metric with its spread over seeds, else with its interval where one is known."""
    values = [kept.results["metrics"][metric] for kept in runs]
    value, share = float(np.mean(values)), words.in_percent(metric)
    shown = f"{100 * value:.1f} %" if share else _number(value)
    if len(values) > 1:
        spread = float(np.std(values, ddof=1))
        return f"{shown} ± {100 * spread if share else spread:.2f} ({len(values)} seeds)"
    receipt = runs[0].results["receipts"].get(metric)
    if "accuracy" in metric:
        return words.short(metric, value, n)
    if receipt and receipt.get("interval"):
        return f"{shown} ({receipt['interval']['low']:.2f}–{receipt['interval']['high']:.2f})"
    return shown


def _beside(metric: str | None, kept: Kept) -> str:
    """Returns ", bicubic 33.66" for 'Set5/bicubic_psnr_y_x2_shave2'."""
    if metric is None:
        return ""
    return f", {metric.partition('/')[2].partition('_')[0]} {_number(kept.results['metrics'][metric])}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _time(seconds: Sequence[float]) -> str:
    mean = float(np.mean(seconds))
    return f"{mean:.0f} s" if mean < 120 else f"{mean / 60:.0f} min" if mean < 7200 else f"{mean / 3600:.1f} h"


def _machine(machine: dict[str, Any]) -> str:
    if machine["backend"] != "cpu":
        return f"{machine['device_count']} × {machine['device_kind']}"
    return f"{machine['cpu_count']} core{'s' if machine['cpu_count'] > 1 else ''}, {machine['cpu']}"


BEGIN, END = "<!-- The table is made by vision_jax.tools.kept_runs. -->\n", "<!-- end of the table -->\n"


def with_table(text: str, new: str) -> str:
    """Returns a Markdown page with the table between its two marks replaced.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The page needs a line {BEGIN.strip()!r} and after it a line {END.strip()!r}.")
    return f"{before}{begin}\n{new}\n{end}{after}"

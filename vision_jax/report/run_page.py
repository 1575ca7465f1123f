"""The page of one run: `report/index.html` with its results, curves, pictures, configuration and circumstances."""

import json
import os
import pathlib
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from vision_jax import config as config_lib
from vision_jax.analysis.record import Record
from vision_jax.metrics import words
from vision_jax.report import classification, gan, page, plots, super_resolution
from vision_jax.report.images import ImagesOf

_SECTIONS = {
    "classification": classification.sections,
    "gan": gan.sections,
    "super_resolution": super_resolution.sections,
}
_LINE = 90  # characters of a command, beyond which it is broken
_NOTES = {"classification": classification.notes}
_PAIRS = (("generator", "discriminator"), ("real", "fake"))  # Beginnings of metrics that are read beside each other.


def of_run(record: Record, images_of: ImagesOf) -> pathlib.Path:
    """Draws the pictures of a run that has ended, writes its page and returns the path of it.

    Args:
        record: the files of the run.
        images_of: gives images of its data set.
    """
    results, apart = record.results, {f"train/{name}" for name in record.steps()}
    return write(
        record.workdir,
        title=f"{record.workdir.resolve().name}: {results['model']} on {_data(record)}",
        headline=_headline(record),
        summary={**_in_words(results), **_facts(record)},
        # What was kept of every step has a chart of its own.
        metrics=[{name: value for name, value in row.items() if name not in apart} for row in record.rows()],
        config=record.config,
        environment=record.environment,
        chosen=results["checkpoint_step"],
        epoch=record.steps_per_epoch,
        sections=_SECTIONS[results["task"]](record, images_of),
        notes=_NOTES[results["task"]](record) if results["task"] in _NOTES else {},
    )


def _data(record: Record) -> str:
    """Returns what people call the data: a folder by its name."""
    root = record.dataset.get("provenance", {}).get("root")
    return pathlib.Path(root).name if root else record.results["data"]


def _headline(record: Record) -> str:
    """Returns the one number: the metric that chose the checkpoint, of the test split where there is one.

    With the number of examples, and the interval and what bicubic interpolation reaches where they are known.
    """
    results, evaluator = record.results, record.best_test()
    metric = _counterpart(evaluator, (results.get("chosen_by") or "").rpartition("/")[2], results)
    if (value := results["metrics"].get(f"{evaluator}/{metric}")) is None:
        return ""
    examples = results["evaluations"][evaluator]["examples"]
    said, known = words.value(metric, value, examples), [f"n = {examples:,}"]
    if interval := results.get("receipts", {}).get(f"{evaluator}/{metric}", {}).get("interval"):
        known.append(f"95 % interval {interval['low']:.4g}–{interval['high']:.4g}")
    if (bicubic := results["metrics"].get(f"{evaluator}/bicubic_{metric}")) is not None:
        known.append(f"bicubic interpolation {words.value(metric, bicubic)}")
    more = "" if "n = " in said else f" ({', '.join(known)})"
    return f"{evaluator.capitalize()}: {words.label(metric)} {said}{more}."


def _counterpart(evaluator: str, metric: str, results: Mapping[str, Any]) -> str:
    """Returns an evaluator's name for another's metric: that of a distance ends in the number of generated images."""

    def without_count(name: str) -> str:
        return re.sub(r"\d+k?$", "", name)

    for name, receipt in results.get("receipts", {}).items():
        of, _, other = name.rpartition("/")
        if of == evaluator and "generated" in receipt and without_count(other) == without_count(metric):
            return other
    return metric


def _in_words(results: Mapping[str, Any]) -> dict[str, page.Cell]:
    """Returns the metrics by 'evaluator, n = 5/what people call it', with units and intervals."""
    found: dict[str, page.Cell] = {}
    for name, value in results["metrics"].items():
        evaluator, _, metric = name.rpartition("/")
        examples = results["evaluations"].get(evaluator, {}).get("examples")
        column = f"{evaluator}, n\u00a0=\u00a0{examples:,}" if examples else evaluator
        found[f"{column}/{words.label(metric)}"] = words.short(metric, value, examples)
    return found


def _facts(record: Record) -> dict[str, page.Cell]:
    """Returns what the numbers are of: the run, its network, its data, where and when."""
    results, environment, provenance = record.results, record.environment, record.dataset.get("provenance", {})
    devices = environment.get("device_count", 1)
    device = environment.get("cpu") if environment.get("backend") == "cpu" else environment.get("device_kind")
    sizes = ", ".join(f"{split} {count:,}" for split, count in results.get("examples", {}).items())
    classes = len(record.dataset.get("class_names", ()))
    facts: dict[str, Any] = {
        "run": record.workdir.resolve().name,
        "config": record.config_name,
        "network": f"{results['model']}, {results['parameters']:,} parameters",
        "weights at the start": record.config.get("model", {}).get("weights") or "random",
        "checkpoint": f"step {results['checkpoint_step']:,}",
        "training time": words.duration(results["training_seconds"]),
        "device": f"{f'{devices} × ' if devices > 1 else ''}{device or ''}",
        "started": environment.get("started", "").replace("T", " ").replace("+00:00", " UTC"),
        "data": f"{_data(record)}: {sizes}{f'; {classes:,} classes' if classes else ''}",
        "source of the data": provenance.get("source") or provenance.get("title") or provenance.get("root"),
        "license of the data": provenance.get("license") or "not stated",
    }
    return {name: value for name, value in facts.items() if value}


def write(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    headline: str = "",
    summary: Mapping[str, page.Cell],
    metrics: Sequence[Mapping[str, float]],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    chosen: int | None = None,
    epoch: float | None = None,
    sections: Sequence[page.Section] = (),
    notes: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Draws the training curves and writes `WORKDIR/report/index.html`.

    Args:
        workdir: folder of the run.
        title: heading of the page.
        headline: the one number, in words.
        summary: the headline results by name; of 'val/loss' and 'test/loss' each split is a column of a table.
        metrics: rows of `metrics.jsonl` (see `writers.read_rows`); 'train/loss' and 'val/loss' share a plot.
        config: the run's options, nested.
        environment: what `environment.collect` returned when the run started.
        chosen: step of the checkpoint that all results are of.
        epoch: steps of one.
        sections: what the task has to show besides.
        notes: what is to be said below a curve, by the metric.

    Returns:
        The path of the page.
    """
    folder = pathlib.Path(workdir) / "report"
    around = [
        page.Section("Results", [*([page.Headline(headline)] if headline else []), *_results(summary)]),
        page.Section("Training curves", list(_curves(folder, metrics, chosen, epoch, notes or {}))),
        *sections,
        page.Section("How to make it again", list(_commands(environment, workdir))),
        page.Section("Options that differ from their defaults", list(_changed(config))),
        page.Section("All options", [page.Code(json.dumps(config, indent=2, default=str))], folded=True),
        page.Section("Environment", [page.KeyValues(config_lib.flatten(environment))], folded=True),
    ]
    path = folder / "index.html"
    page.write(path, title=title, sections=[section for section in around if section.blocks])
    return path


def _results(summary: Mapping[str, page.Cell]) -> Iterator[page.Block]:
    """Shows metrics as a table with a column per split, and below it what belongs to no split."""
    splits = list(dict.fromkeys(name.rpartition("/")[0] for name in summary if "/" in name))
    metrics = list(dict.fromkeys(name.rpartition("/")[2] for name in summary if "/" in name))
    if metrics:
        rows = [[metric, *(summary.get(f"{split}/{metric}") for split in splits)] for metric in metrics]
        measured = any(metric.startswith(("accuracy", "top-5 accuracy")) for metric in metrics)
        yield page.Table(("metric", *splits), rows, caption=words.WILSON if measured else "")
    if rest := {name: value for name, value in summary.items() if "/" not in name}:
        yield page.KeyValues(rest)


def _changed(config: Mapping[str, Any]) -> Iterator[page.Block]:
    """Shows the options that a config sets, beside their defaults; those of a network have theirs in its module."""
    default = config_lib.default(config.get("task", "classification"))
    defaults = config_lib.flatten(config_lib.to_dict(default))
    rows = [
        (name, str(value), "–" if name not in defaults else str(defaults[name]))
        for name, value in config_lib.flatten(config).items()
        if name not in defaults or value != defaults[name]
    ]
    if rows:
        yield page.Table(("option", "value", "default"), rows)


def _curves(
    folder: pathlib.Path,
    metrics: Sequence[Mapping[str, float]],
    chosen: int | None = None,
    epoch: float | None = None,
    notes: Mapping[str, str] | None = None,
) -> Iterator[page.Picture]:
    """Draws one plot per metric over all splits that have it: those of evaluations first, losses before others.

    What is measured of both of a pair (generator and discriminator, real and fake images) shares one, and so does what
    is measured of bicubic interpolation with what the network reaches.
    """
    measured = {key.rpartition("/")[2] for row in metrics for key in row if key != "step"}
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    evaluated = set()  # Plots of more than training.
    for row in metrics:
        for key, value in row.items():
            if key != "step":
                split, _, metric = key.rpartition("/")
                plot, line = _place(split, metric, measured)
                series.setdefault(plot, {}).setdefault(line, []).append((int(row["step"]), value))
                if split not in ("train", ""):
                    evaluated.add(plot)

    def order(plot: str) -> tuple[bool, bool]:
        return plot not in evaluated, not plot.endswith("loss")

    for plot in sorted(series, key=order):
        splits = series[plot]
        path = folder / f"curve_{re.sub('[^A-Za-z0-9_.-]', '_', plot)}.png"
        name = words.label(plot)
        pair = next((pair for pair in _PAIRS if plot.startswith("_and_".join(pair))), None)
        ylabel = words.label(plot.removeprefix(f"{'_and_'.join(pair)}_")) if pair else name
        percent = words.in_percent(plot)
        plots.curves(path, splits, title=name, ylabel=ylabel, chosen=chosen, epoch=epoch, percent=percent)
        last = ", ".join(f"{split} {words.value(plot, float(points[-1][1]))}" for split, points in splits.items())
        alt = f"{name} over the steps of training; at the end: {last}."
        alt += f" Chosen: step {chosen:,}." if chosen is not None else ""
        yield page.Picture(path, alt=alt, caption=(notes or {}).get(plot, ""))


def _place(split: str, metric: str, measured: Collection[str]) -> tuple[str, str]:
    """Returns the plot that a metric of a split is drawn in, and the name of its line there."""
    for pair in _PAIRS:
        first, _, rest = metric.partition("_")
        if first in pair and all(f"{part}_{rest}" in measured for part in pair):
            return f"{pair[0]}_and_{pair[1]}_{rest}", first if split in ("train", "") else f"{first}, {split}"
    if (network := metric.removeprefix("bicubic_")) != metric and network in measured:
        return network, f"bicubic, {split}"
    return metric, split or metric


def _commands(environment: Mapping[str, Any], workdir: str | os.PathLike[str]) -> Iterator[page.Block]:
    """Says how the run was made and how its report is made again from its checkpoint."""
    yield page.Text(f"The run was started in {environment['folder']} with")
    yield page.Code(_broken(environment["command"]))
    yield page.Text("The metrics and this report are made again from the best checkpoint with")
    yield page.Code(f"vision-jax eval {shlex.quote(os.fspath(workdir))}")


def _broken(command: str) -> str:
    """Returns a command that is too long for a line with a line for each flag, as a shell reads it."""
    if len(command) <= _LINE:
        return command
    words_ = shlex.split(command)
    flags = [i for i, word in enumerate(words_) if word.startswith("--")] or [len(words_)]
    return " \\\n    ".join([shlex.join(words_[: flags[0]]), *(shlex.quote(word) for word in words_[flags[0] :])])

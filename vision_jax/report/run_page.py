"""The page of one run: `report/index.html` with its results, curves, pictures, configuration and circumstances."""

import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vision_jax.report import page, plots


def write(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, page.Cell],
    metrics: Sequence[Mapping[str, float]],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    pictures: Sequence[tuple[str, str | os.PathLike[str], str]] = (),
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[page.Cell]]]] = (),
) -> pathlib.Path:
    """Draws the training curves and writes `WORKDIR/report/index.html`.

    Args:
        workdir: folder of the run.
        title: heading of the page.
        summary: the headline results by name; of 'val/loss' and 'test/loss' each split is a column of a table.
        metrics: rows of `metrics.jsonl` (see `writers.read_rows`); 'train/loss' and 'val/loss' share a plot.
        config: the run's options, nested.
        environment: what `environment.collect` returned when the run started.
        pictures: `(title, path of a PNG file, caption)`; the title heads the caption and is the alt text.
        tables: `(title, header, rows)`.

    Returns:
        The path of the page.
    """
    folder = pathlib.Path(workdir) / "report"
    shown = [
        page.Picture(path, alt=heading, caption=f"{heading}. {caption}" if caption else heading)
        for heading, path, caption in pictures
    ]
    sections = [
        page.Section("Results", list(_results(summary))),
        page.Section("Training curves", list(_curves(folder, metrics))),
        page.Section("Pictures", shown),
        *(page.Section(heading, [page.Table(header, rows)]) for heading, header, rows in tables),
        page.Section("How to make it again", list(_commands(environment))),
        page.Section("Configuration", [page.Code(json.dumps(config, indent=2, default=str))], folded=True),
        page.Section("Environment", [page.KeyValues(dict(_flat(environment)))], folded=True),
    ]
    path = folder / "index.html"
    page.write(path, title=title, sections=[section for section in sections if section.blocks])
    return path


def _results(summary: Mapping[str, page.Cell]) -> Iterator[page.Block]:
    """Shows metrics as a table with a column per split, and below it what belongs to no split."""
    splits = list(dict.fromkeys(name.rpartition("/")[0] for name in summary if "/" in name))
    metrics = list(dict.fromkeys(name.rpartition("/")[2] for name in summary if "/" in name))
    if metrics:
        rows = [[metric, *(summary.get(f"{split}/{metric}") for split in splits)] for metric in metrics]
        yield page.Table(("metric", *splits), rows)
    if rest := {name: value for name, value in summary.items() if "/" not in name}:
        yield page.KeyValues(rest)


def _curves(folder: pathlib.Path, metrics: Sequence[Mapping[str, float]]) -> Iterator[page.Picture]:
    """Draws one plot per metric over all splits that have it: those of evaluations first, losses before others."""
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in metrics:
        for key, value in row.items():
            if key != "step":
                split, _, metric = key.rpartition("/")
                series.setdefault(metric, {}).setdefault(split or metric, []).append((int(row["step"]), value))

    def order(item: tuple[str, dict[str, list[tuple[int, float]]]]) -> tuple[bool, bool]:
        metric, splits = item
        return set(splits) <= {"train", metric}, not metric.endswith("loss")

    for metric, splits in sorted(series.items(), key=order):
        path = folder / f"curve_{re.sub('[^A-Za-z0-9_.-]', '_', metric)}.png"
        name = metric.replace("_", " ")
        plots.curves(path, splits, title=name, ylabel=name)
        last = ", ".join(f"{split} {page.show(float(points[-1][1]))}" for split, points in splits.items())
        yield page.Picture(path, alt=f"{name} over the steps of training; at the end: {last}.")


def _commands(environment: Mapping[str, Any]) -> Iterator[page.Block]:
    """Says how the run was made and how its report is made again from its checkpoint."""
    command = environment["command"]
    evaluate = re.sub(r" --mode[= ]\S+", "", command) + " --mode=eval"
    yield page.Text(f"The run was started in {environment['folder']} with")
    yield page.Code(command)
    yield page.Text("The metrics and this report are made again from the best checkpoint with")
    yield page.Code(evaluate)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, page.Cell]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

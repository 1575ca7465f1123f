"""The page that compares any number of runs: what differs between them, which is better, and whether that is chance."""

import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from vision_jax.analysis import compare
from vision_jax.analysis.compare import Classifiers, Column, Row
from vision_jax.analysis.record import Record
from vision_jax.metrics import classification as metrics
from vision_jax.metrics import words
from vision_jax.report import gan, image_plots, page, plots
from vision_jax.report.images import ImagesOf, thumbnails
from vision_jax.utils import files

_CLASSES = 20  # Shown of those that differ most.
_BARS = 6  # Rows of which bars by class are readable.
_SHOWN_PAIRS = 6  # Pairs of which images are shown,
_IMAGES = 14  # so many of each.
_THUMBNAIL = 112  # pixels
_LEAST_P = 1e-15  # Below, the probability is not told.


def write(
    folder: str | os.PathLike[str],
    records: Sequence[Record],
    images_of: ImagesOf | None,
    no_images: str = "",
) -> pathlib.Path:
    """Compares runs and writes `FOLDER/index.html`, with its pictures and `comparison.json` beside it.

    Args:
        folder: where to write.
        records: the runs' files.
        images_of: gives images of the data set that they share; None where it cannot be opened.
        no_images: why not.

    Returns:
        The path of the page.

    Raises:
        ValueError: runs that cannot be compared; the message says why.
    """
    folder = pathlib.Path(folder)
    rows = compare.rows(records)
    task = rows[0].records[0].results["task"]
    compared = compare.classifiers(rows) if task == "classification" else None
    content = compare.to_json(rows, compared)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "comparison.json", content)
    measured = {
        f"{row.name}{f', seed {seed}' if len(row.seeds) > 1 else ''}: {name}": receipt
        for row in rows
        for seed, record in zip(row.seeds, row.records, strict=True)
        for name, receipt in record.results.get("receipts", {}).items()
    }
    sections = [
        page.Section("Distances and how they were measured", list(gan.receipts(measured if task == "gan" else {}))),
        page.Section("Results", list(_results(rows, compared))),
    ]
    if compared is not None:
        sections += [
            page.Section("Accuracy", list(_accuracy_bars(folder, rows))),
            page.Section("Is it chance?", list(_pairs(compared))),
        ]
    sections += [
        page.Section("What differs between the configs", list(_differences(rows))),
        page.Section("Training curves", list(_curves(folder, rows))),
    ]
    if compared is not None:
        sections += [
            page.Section(f"Classes ({compared.evaluator})", list(_classes(folder, compared))),
            page.Section("Mistakes and centroids", list(_centroids(folder, compared))),
            page.Section(
                "Right in one, wrong in the other", list(_disagreements(folder, compared, images_of, no_images))
            ),
        ]
    sections.append(
        page.Section(
            "Runs",
            [
                page.Table(
                    ("run", "seed", "folder"),
                    [
                        (row.name, seed, str(record.workdir))
                        for row in rows
                        for seed, record in zip(row.seeds, row.records, strict=True)
                    ],
                )
            ],
            folded=True,
        )
    )
    path = folder / "index.html"
    configs = "1 config" if len(rows) == 1 else f"{len(rows)} configs"
    title = f"{configs} on {rows[0].records[0].results['data']}, {len(records)} runs"
    page.write(path, title=title, sections=[section for section in sections if section.blocks])
    return path


def _spread(column: Column, row: int) -> str:
    """Returns 'mean ± standard deviation unit' of several seeds; of one its value, of none a dash."""
    metric, values = _metric(column), column.values.get(row, [])
    mean = float(np.mean(values)) if values else np.nan
    number, space, unit = words.value(metric, mean).partition(" ")
    if len(values) < 2 or np.isnan(mean):
        return f"{number}{space}{unit}"
    deviation = (100 if unit == "%" else 1) * np.std(values, ddof=1)
    return f"{number} ± {deviation:.2g}{space}{unit}"


def _training_time(row: Row) -> str:
    """Returns the mean of the runs."""
    return words.duration(float(np.mean([record.results["training_seconds"] for record in row.records])))


def _results(rows: Sequence[Row], compared: Classifiers | None) -> Iterator[page.Block]:
    several = any(len(row.records) > 1 for row in rows)
    seeds = "Several seeds of one config are one row: mean ± standard deviation over the seeds." if several else ""
    measured = compare.columns(rows)
    if compared is not None:
        measured = [  # Several views only of the examples compared: the table is wide enough.
            column
            for column in _accuracies(measured)
            if column.name in (f"{_split(column)}/accuracy", f"{compared.evaluator}/{_metric(column)}")
        ]
        header = ["run", "seeds", "parameters", *(f"{_heading(column, measured)}, %" for column in measured)]
        header += [f"{words.label('macro_f1')} ({compared.evaluator}), %", "ms per step", "training time"]
        table: list[list[page.Cell]] = []
        for number, row in enumerate(rows):
            f1 = np.mean([metrics.macro_f1(one.confusion) for one in compared.predictions[number]])
            steps = [compare.seconds_per_step(record) for record in row.records]
            known = [1000 * step for step in steps if step is not None]
            shares = [column.share(number).times(100) if number in column.values else None for column in measured]
            parameters = row.records[0].results["parameters"]
            step_time = float(np.mean(known)) if known else None
            time = _training_time(row)
            table.append([row.name, len(row.records), parameters, *shares, 100 * float(f1), step_time, time])
        plain = [column for column in measured if _metric(column) == "accuracy" and _alone(column, measured)]
        examples = {_split(column): column.protocol["examples"] for column in plain}
        sizes = ", ".join(f"{name} n = {number:,}" for name, number in examples.items())
        caption = [f"{sizes}." if sizes else "", words.WILSON, _SEEDS if several else ""]
        yield page.Table(header, table, caption=" ".join(filter(None, caption)))
        if several:
            shown = [column for column in measured if _split(column) == compared.evaluator]
            listed = [
                (row.name, ", ".join(map(str, row.seeds)), *(_spread(column, number) for column in shown))
                for number, row in enumerate(rows)
            ]
            yield page.Table(("run", "seeds", *(_heading(column, measured) for column in shown)), listed, caption=seeds)
    for sentence in compare.ways(rows, measured):
        yield page.Text(sentence)
    if compared is None:
        header = ["metric", *(row.name for row in rows)]
        lines: list[list[page.Cell]] = []
        for column in measured:
            cells = [_spread(column, number) for number in range(len(rows))]
            lines.append([_heading(column, measured), *cells])
        lines.append(["parameters", *(page.show(row.records[0].results["parameters"]) for row in rows)])
        lines.append(["training time", *map(_training_time, rows)])
        yield page.Table(header, lines, caption=seeds)


_SEEDS = "The interval of several seeds is that of one run: all see the same examples."
_SPLITS = ("train", "val", "test")  # In this order; other evaluators come after them.


def _accuracies(measured: Sequence[Column]) -> list[Column]:
    """Returns the accuracies by split, that of several views after the plain one."""
    found = [column for column in measured if _metric(column).startswith("accuracy")]
    order = {name: number for number, name in enumerate(_SPLITS)}
    return sorted(found, key=lambda column: (order.get(_split(column), len(order)), column.name))


def _split(column: Column) -> str:
    return column.name.rpartition("/")[0]


def _metric(column: Column) -> str:
    return column.name.rpartition("/")[2]


def _alone(column: Column, measured: Sequence[Column]) -> bool:
    """Returns whether the metric was measured in the same way everywhere."""
    return sum(other.name == column.name for other in measured) == 1


def _heading(column: Column, measured: Sequence[Column]) -> str:
    """Returns 'test/accuracy', and of a metric measured in several ways the number of the way."""
    label = f"{_split(column)}/{words.label(_metric(column))}"
    if _alone(column, measured):
        return label
    same = [other for other in measured if other.name == column.name]
    return f"{label} (way {1 + same.index(column)})"


def _accuracy_bars(folder: pathlib.Path, rows: Sequence[Row]) -> Iterator[page.Block]:
    """Draws the accuracies that all rows have, measured in the same way."""
    measured = _accuracies(compare.columns(rows))
    shown = [column for column in measured if _alone(column, measured) and len(column.values) == len(rows)]
    if not shown:
        return
    found = {
        _heading(column, measured): [column.share(number).times(100) for number in range(len(rows))] for column in shown
    }
    values = {name: [each.value for each in row] for name, row in found.items()}
    ends = {name: [(each.low, each.high) for each in row] for name, row in found.items()}
    path = folder / "accuracies.png"
    title = "Accuracy" if len(values) > 1 else next(iter(values))
    plots.bars(path, values, [row.name for row in rows], title=title, xlabel="accuracy (%)", intervals=ends)
    yield page.picture(path, "Accuracy of all runs", "Whiskers: 95 % interval (Wilson).")


def _pairs(compared: Classifiers) -> Iterator[page.Block]:
    names = [row.name for row in compared.rows]
    table = []
    for pair in compared.pairs():
        points = pair.difference.times(100)
        right = f"{pair.test.first_only:,} : {pair.test.second_only:,}"
        table.append((names[pair.first], names[pair.second], points, right, _p(pair.test.p_value)))
    header = ("run", "other run", "difference in points of %", "only the one : only the other right", "p (McNemar)")
    images = f"On the same {len(compared.predictions[0][0].label):,} images of {compared.evaluator}."
    yield page.Table(
        header,
        table,
        caption=f"{images} In parentheses: 95 % interval (paired bootstrap).",
    )
    text = (
        "p is of the exact McNemar test: how often chance alone makes as large a difference of two equally good runs."
    )
    if any(len(row.records) > 1 for row in compared.rows):
        text += " Of several seeds, it is of the run with the lowest one; the difference is of the means over all."
    if len(table) > 1:
        text += f" One of {len(table)} is easily small by chance: Bonferroni's bound is {0.05 / len(table):.2g}."
    yield page.Text(text)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= _LEAST_P else f"< {_LEAST_P:g}"


def _differences(rows: Sequence[Row]) -> Iterator[page.Block]:
    found = compare.differences(rows)
    if not found:
        yield page.Text("The configs differ in the seed alone.")
        return
    header = ("option", *(row.name for row in rows))
    yield page.Table(
        header, [(name, *("–" if value is None else str(value) for value in values)) for name, values in found.items()]
    )


def _curves(folder: pathlib.Path, rows: Sequence[Row]) -> Iterator[page.Block]:
    """Draws what was measured during training of every run (of several seeds the first), evaluations first.

    Over epochs where a step is not of as many examples in all.
    """
    epochs = [row.records[0].steps_per_epoch for row in rows]
    in_epochs = None not in epochs and len(set(epochs)) > 1
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row, epoch in zip(rows, epochs, strict=True):
        for line in row.records[0].rows():
            x = line["step"] / (epoch if in_epochs and epoch else 1)
            for name, value in line.items():
                if name != "step":
                    series.setdefault(name, {}).setdefault(row.name, []).append((x, value))
    shared = [name for name, of in series.items() if len(of) == len(rows)]
    if rows[0].records[0].results["task"] == "classification":
        shared = [name for name in shared if name.rpartition("/")[2] in ("accuracy", "loss")]
    else:
        shared = [name for name in shared if not name.startswith("train/") or name.endswith("loss")]
    for number, name in enumerate(sorted(shared, key=lambda name: (name.startswith("train/"), name))):
        path = folder / f"curve_{number}.png"
        split, _, metric = name.rpartition("/")
        title = f"{split}/{words.label(metric)}"
        xlabel, percent = "epoch" if in_epochs else "step", words.in_percent(metric)
        plots.curves(path, series[name], title=title, xlabel=xlabel, ylabel=title, percent=percent)
        yield page.picture(path, f"{title} of all runs", "")


def _classes(folder: pathlib.Path, compared: Classifiers) -> Iterator[page.Block]:
    recalls, names = 100 * compared.recalls(), compared.rows[0].records[0].dataset["class_names"]
    range_ = np.nan_to_num(recalls.max(0) - recalls.min(0))
    order = np.argsort(-range_, kind="stable")[:_CLASSES]
    if len(compared.rows) <= _BARS:
        path = folder / "classes.png"
        values = {row.name: recall[order] for row, recall in zip(compared.rows, recalls, strict=True)}
        plots.bars(path, values, [names[k] for k in order], title="Recall by class", xlabel="recall (%)")
        yield page.picture(path, "Recall by class of all runs", "Where they differ most first.")
    header = ("class", "images", *(f"{row.name}, %" for row in compared.rows), "difference, %")
    counts = np.bincount(compared.predictions[0][0].label, minlength=len(names))
    table = [(names[k], int(counts[k]), *map(float, recalls[:, k]), float(range_[k])) for k in order]
    more = f" (the {len(order)} of {len(names)} that differ most)" if len(order) < len(names) else ""
    yield page.Table(header, table, caption=f"Recall of each class{more}; of several seeds the mean")


def _centroids(folder: pathlib.Path, compared: Classifiers) -> Iterator[page.Block]:
    found = {row.name: compare.distances(row.records[0], compared.evaluator) for row in compared.rows}
    some = {name: of for name, of in found.items() if of is not None}
    if not some:
        return
    table = [
        (name, len(of.rows), 100 * of.nearer_to_predicted, float(of.true.mean()), float(of.predicted.mean()))
        for name, of in some.items()
    ]
    header = ("run", "mistakes", "nearer to the predicted class, %", "to the true class", "to the predicted class")
    yield page.Table(
        header,
        table,
        caption="Distances of the features of mistakes to the centroids of two classes, in units of the mean distance "
        "of hits to theirs; of several seeds the first",
    )
    path = folder / "centroids.png"
    plots.histograms(
        path,
        {name: of.true - of.predicted for name, of in some.items()},
        title="How much nearer the predicted class is",
        xlabel="distance to the true class − distance to the predicted class",
        mark=0.0,
    )
    yield page.picture(path, "Differences of the two distances", "Right of the line: nearer to the predicted class.")


def _disagreements(
    folder: pathlib.Path, compared: Classifiers, images_of: ImagesOf | None, no_images: str
) -> Iterator[page.Block]:
    if images_of is None:
        yield page.Text(f"The images cannot be shown: {no_images}")
        return
    names = compared.rows[0].records[0].dataset["class_names"]
    split = compared.rows[0].records[0].results["evaluations"][compared.evaluator]["split"]
    pairs = list(itertools.permutations(range(len(compared.rows)), 2))[: 2 * _SHOWN_PAIRS]
    for first, second in pairs:
        rows = compared.disagreements(first, second, _IMAGES)
        if not len(rows):
            continue
        right, wrong = compared.predictions[first][0], compared.predictions[second][0]
        captions = [
            f"{names[right.label[i]]} → {names[wrong.predicted[i]]}, {100 * wrong.confidence[i]:.0f}\u00a0%"
            for i in rows
        ]
        path = folder / f"right_in_{first}_wrong_in_{second}.png"
        image_plots.image_grid(path, thumbnails(images_of, split, right.index[rows], _THUMBNAIL), captions, columns=7)
        title = f"Right in {compared.rows[first].name}, wrong in {compared.rows[second].name}"
        everything = int((right.hit & ~wrong.hit).sum())
        yield page.picture(
            path, title, f"{len(rows)} of {everything:,}; true class → the other run's, and how sure that is of it."
        )
    if len(pairs) < len(compared.rows) * (len(compared.rows) - 1):
        yield page.Text(f"Shown are the first {len(pairs)} pairs.")

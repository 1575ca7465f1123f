"""Any number of runs side by side: what differs between their configs, how good they are, and whether that is chance.

Runs whose configs differ in the seed alone are one row. Classifiers are compared example by example, and only on the
same examples; of other tasks the metrics are put in a table, two of one name in one column only if both were measured
in the same way.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax import config as config_lib
from vision_jax import writers
from vision_jax.analysis import centroids
from vision_jax.analysis.errors import Predictions
from vision_jax.analysis.record import Record, check_same_examples
from vision_jax.metrics import classification as metrics
from vision_jax.metrics import intervals
from vision_jax.metrics.intervals import Interval
from vision_jax.option_table import OPTIONS

_VALUE_OF_A_RECEIPT = ("value", "interval")  # What a measurement gave; all else in a receipt says how it was made.


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs of one config, of different seeds.

    Attributes:
        name: what they are called on a page: the name of the first one's folder.
        records: their files, by seed.
        options: of their config that may change what it computes, flat, without the seed.
    """

    name: str
    records: list[Record]
    options: dict[str, Any]

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [record.config["seed"] for record in self.records]


def rows(records: Sequence[Record]) -> list[Row]:
    """Returns the runs by config, in the order in which the configs come first; seeds ascending.

    Raises:
        ValueError: fewer than two runs, a run twice or without results, runs of different tasks, or runs of the same
            config and seed.
    """
    if len(records) < 2:
        raise ValueError(f"There {'is one run' if records else 'are no runs'} to compare; name two folders or more.")
    for record in records:
        if not (record.workdir / "report" / "results.json").is_file():
            raise ValueError(
                f"{record.workdir} has no report/results.json: it is no folder of a run, or the run has not ended. "
                "Continue it, or evaluate it with --mode=eval."
            )
    tasks = {record.results["task"] for record in records}
    if len(tasks) > 1:
        raise ValueError(f"The runs are of different tasks, {' and '.join(sorted(tasks))}; compare those of one.")
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(json.dumps(options(record), sort_keys=True), []).append(record)
    names = _names([record for group in groups.values() for record in group])
    found = []
    for key, group in groups.items():
        group = sorted(group, key=lambda record: record.config["seed"])
        for first, second in itertools.pairwise(group):
            if first.config["seed"] == second.config["seed"]:
                raise ValueError(
                    f"{first.workdir} and {second.workdir} are runs of the same config and the same seed; name one."
                )
        found.append(Row(names[id(group[0])], group, json.loads(key)))
    return found


def options(record: Record) -> dict[str, Any]:
    """Returns the options of a run that may change what it computes, flat, without the seed."""
    neutral = {name for name, option in config_lib.walk(OPTIONS) if option.neutral}
    flat = config_lib.flatten(record.config)
    return {name: value for name, value in flat.items() if name != "seed" and name not in neutral}


def _names(records: Sequence[Record]) -> dict[int, str]:
    """Returns the shortest ends of their paths that tell the runs apart, by `id`."""
    parts = {id(record): record.workdir.resolve().parts for record in records}
    for length in itertools.count(1):
        names = {key: os.path.join(*path[-length:]) for key, path in parts.items()}
        if len(set(names.values())) == len(set(parts.values())):
            return names
    raise AssertionError


def differences(found: Sequence[Row]) -> dict[str, list[Any]]:
    """Returns the options that differ between rows, each with its value in every row; None where there is none."""
    names = dict.fromkeys(name for row in found for name in row.options)
    values = {name: [row.options.get(name) for row in found] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


@dataclasses.dataclass(frozen=True)
class Column:
    """A metric measured in one way.

    Attributes:
        name: 'evaluator/metric'.
        protocol: how it was measured, as far as the runs say; {} where they do not.
        values: by the number of the row, one per run of it.
    """

    name: str
    protocol: Mapping[str, Any]
    values: Mapping[int, list[float]]

    def share(self, row: int) -> Interval:
        """Returns the mean of the runs of a row, which is a share of the examples of the protocol.

        The interval is Wilson's of so many examples as one run has: runs of several seeds see the same ones, so that
        their number makes it no narrower.
        """
        mean, examples = float(np.mean(self.values[row])), self.protocol["examples"]
        return dataclasses.replace(intervals.wilson(round(mean * examples), examples), value=mean)


def columns(found: Sequence[Row]) -> list[Column]:
    """Returns the metrics of all runs, one that was not measured in the same way everywhere in a column for each way.

    The ways are what `results['receipts']` says besides value and interval; without receipts, the examples.
    """
    values_of: dict[str, dict[str, dict[int, list[float]]]] = {}
    for number, row in enumerate(found):
        for record in row.records:
            for name, value in record.results["metrics"].items():
                protocol = json.dumps(_protocol(record, name), sort_keys=True)
                values_of.setdefault(name, {}).setdefault(protocol, {}).setdefault(number, []).append(value)
    return [
        Column(name, config_lib.flatten(json.loads(protocol)), values)
        for name, protocols in values_of.items()
        for protocol, values in protocols.items()
    ]


def ways(found: Sequence[Row], measured: Sequence[Column]) -> list[str]:
    """Returns a sentence for all the metrics of several columns whose ways differ alike."""
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys(column.name for column in measured):
        same = [column for column in measured if column.name == name]
        if len(same) == 1:
            continue
        keys = sorted({key for column in same for key in column.protocol})
        differ = [key for key in keys if any(column.protocol.get(key) != same[0].protocol.get(key) for column in same)]
        said = "; ".join(
            f"{' and '.join(found[n].name for n in column.values)}: "
            + ", ".join(
                f"{key.removeprefix('protocol.')} {column.protocol.get(key, 'not said')!s:.40}" for key in differ
            )
            for column in same
        )
        names.setdefault(said, []).append(name)
    return [
        f"{' and '.join(each)} {'was' if len(each) == 1 else 'were'} measured in different ways, which have a column "
        f"each ({said})."
        for said, each in names.items()
    ]


def _protocol(record: Record, metric: str) -> dict[str, Any]:
    receipt = record.results.get("receipts", {}).get(metric)
    if receipt is None:
        evaluation = record.results["evaluations"].get(metric.rpartition("/")[0], {})
        return {"examples": evaluation.get("examples"), "fingerprint": evaluation.get("fingerprint")}
    return {key: value for key, value in receipt.items() if key not in _VALUE_OF_A_RECEIPT}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two rows of classifiers on the same examples.

    Attributes:
        first: number of a row.
        second: number of another one.
        difference: mean accuracy of the first less that of the second, with its paired bootstrap interval over the
            examples; of several seeds each example counts with its share of hits.
        test: exact McNemar test of the first run of each.
        seeds: of these two runs.
    """

    first: int
    second: int
    difference: Interval
    test: intervals.McNemar
    seeds: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Classifiers:
    """What classifiers say of the same examples.

    Attributes:
        evaluator: on which they are compared.
        rows: the runs by config.
        predictions: of each run of each row.
        accuracy: of each row over all its runs, with Wilson's interval, for every evaluator that all its runs have.
    """

    evaluator: str
    rows: list[Row]
    predictions: list[list[Predictions]]
    accuracy: list[dict[str, Interval]]

    @property
    def hits(self) -> list[np.ndarray]:
        """Of each row the share of its runs that get an example right, float64 [N]."""
        return [np.mean([one.hit for one in several], axis=0) for several in self.predictions]

    def recalls(self) -> np.ndarray:
        """Returns the recall of each class in each row, float64 [rows, K], NaN for a class without examples."""
        label = self.predictions[0][0].label
        classes = self.predictions[0][0].logits.shape[1]
        counts = np.bincount(label, minlength=classes)
        some = np.where(counts > 0, counts, np.nan)
        return np.stack([np.bincount(label, weights=hits, minlength=classes) / some for hits in self.hits])

    def pairs(self) -> list[Pair]:
        """Returns the comparison of every two rows."""
        hits = self.hits
        found = []
        for first, second in itertools.combinations(range(len(self.rows)), 2):
            difference = intervals.paired_bootstrap(hits[first], hits[second])
            test = intervals.mcnemar(self.predictions[first][0].hit, self.predictions[second][0].hit)
            seeds = self.rows[first].seeds[0], self.rows[second].seeds[0]
            found.append(Pair(first, second, difference, test, seeds))
        return found

    def disagreements(self, first: int, second: int, most: int) -> np.ndarray:
        """Returns examples that the first run of one row gets right and that of another wrong, at most so many.

        Those come first that are told apart most surely: by the probability of the true class.
        """
        right, wrong = self.predictions[first][0], self.predictions[second][0]
        examples = np.flatnonzero(right.hit & ~wrong.hit)
        own = right.label[examples]
        margin = right.probabilities[examples, own] - wrong.probabilities[examples, own]
        return examples[np.argsort(-margin, kind="stable")][:most]


def classifiers(found: Sequence[Row]) -> Classifiers:
    """Reads what the runs say of their test examples ('val' where one has no test split).

    Raises:
        ValueError: they were evaluated on other examples.
    """
    records = [record for row in found for record in row.records]
    evaluator = "test" if all("test" in record.results["evaluations"] for record in records) else "val"
    for other in records[1:]:
        check_same_examples(records[0], other, evaluator)
    predictions = [[Predictions.of(record.outputs(evaluator)) for record in row.records] for row in found]
    accuracy: list[dict[str, Interval]] = [{} for _ in found]
    for column in columns(found):
        split, _, metric = column.name.rpartition("/")
        for number, values in column.values.items():
            if metric == "accuracy" and len(values) == len(found[number].records):
                accuracy[number][split] = column.share(number)
    return Classifiers(evaluator, list(found), predictions, accuracy)


def seconds_per_step(record: Record) -> float | None:
    """Returns the median time of a training step in seconds, from `timings.jsonl`; None where there is none."""
    rates = [row["steps_per_second"] for row in writers.read_rows(record.workdir / writers.TIMINGS)]
    return 1 / float(np.median(rates)) if rates else None


def distances(record: Record, evaluator: str) -> centroids.MistakeDistances | None:
    """Returns the distances of the mistakes of a run to centroids, in units of the mean distance of its hits to theirs.

    Features of different networks have different scales. None where the run kept no features, or there are no mistakes
    or no hits. The centroids are those of `analysis.centroids.of_run`.
    """
    outputs = record.outputs(evaluator)
    if "features" not in outputs:
        return None
    predictions, features = Predictions.of(outputs), centroids.flat(outputs["features"])
    middle, _ = centroids.of_run(record, evaluator)
    hit, label = predictions.hit, predictions.label
    own = np.linalg.norm(features - middle[label], axis=1)[hit]
    found = centroids.of_mistakes(features, label, predictions.predicted, middle)
    if not len(found.rows) or not np.nansum(own):
        return None
    scale = float(np.nanmean(own))
    return centroids.MistakeDistances(found.rows, found.true / scale, found.predicted / scale)


def to_json(found: Sequence[Row], compared: Classifiers | None) -> dict[str, Any]:
    """Returns the comparison as strict JSON types."""
    measured = columns(found)
    result: dict[str, Any] = {
        "task": found[0].records[0].results["task"],
        "rows": [
            {
                "name": row.name,
                "workdirs": [str(record.workdir) for record in row.records],
                "seeds": row.seeds,
                "parameters": row.records[0].results["parameters"],
                "training_seconds": [record.results["training_seconds"] for record in row.records],
                "seconds_per_step": [seconds_per_step(record) for record in row.records],
            }
            for row in found
        ],
        "differences": differences(found),
        "metrics": [
            {
                "name": column.name,
                "protocol": dict(column.protocol),
                "values": [column.values.get(number) for number in range(len(found))],
            }
            for column in measured
        ],
        "measured_differently": ways(found, measured),
    }
    if compared is not None:
        result["evaluator"] = compared.evaluator
        for row, accuracy, several in zip(result["rows"], compared.accuracy, compared.predictions, strict=True):
            row["accuracy"] = {name: dataclasses.asdict(interval) for name, interval in accuracy.items()}
            row["macro_f1"] = [metrics.macro_f1(one.confusion) for one in several]
        result["pairs"] = [
            {
                "first": found[pair.first].name,
                "second": found[pair.second].name,
                "difference": dataclasses.asdict(pair.difference),
                "mcnemar": {**dataclasses.asdict(pair.test), "seeds": list(pair.seeds)},
            }
            for pair in compared.pairs()
        ]
    return result

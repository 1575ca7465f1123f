"""What the page of a classifier shows: its mistakes by class and by image, calibration, filters, feature space."""

import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.analysis import errors
from vision_jax.analysis.errors import Predictions
from vision_jax.analysis.record import Record
from vision_jax.metrics import classification as metrics
from vision_jax.metrics import intervals, words
from vision_jax.report import feature_space, image_plots, page, plots, prediction_plots
from vision_jax.report.images import ImagesOf, thumbnails

_SAMPLE = 36  # Images drawn at random, as many of each class,
_GALLERY = 27  # and of mistakes and doubtful hits.
_COLUMNS = 9  # Of galleries, at most.
_THUMBNAIL = 160  # pixels
_MANY = 20  # Classes, beyond which bars are of one measure, in pictures of `_PER_PICTURE` classes.
_PER_PICTURE = 50
_PAIRS = 20


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the sections."""
    shown = _Shown(record, images_of)
    return [
        page.Section(f"Confusion ({shown.evaluator})", list(shown.confusion())),
        page.Section(f"Mistakes ({shown.evaluator})", list(shown.mistakes())),
        page.Section(f"Calibration ({shown.evaluator})", list(shown.calibration())),
        page.Section(f"Classes ({shown.evaluator})", list(shown.classes()), folded=len(shown.names) > _MANY),
        page.Section("Examples per class", list(shown.distribution()), folded=len(shown.names) > _MANY),
        *feature_space.sections(record, shown.evaluator, images_of),
        page.Section("First layer", list(shown.filters())),
    ]


def notes(record: Record) -> dict[str, str]:
    """Returns what is to be known of a curve, by the metric."""
    train, data = record.config["train"], record.config["data"]
    smoothing, classes = train["label_smoothing"], len(record.dataset["class_names"])
    changed = ["augmented images"] * bool(data["augment"]) + [f"labels smoothed by {smoothing:g}"] * bool(smoothing)
    changed += ["weighted classes"] * (data["class_weights"] != "none")
    said = "train: each point is the mean since the one before."
    if changed:
        said += f" It is of {' and '.join(changed)}, which the other splits are not, and can lie above them."
    if smoothing and record.config["classification"]["loss"] == "cross_entropy":
        targets = np.full(classes, smoothing / classes)
        targets[0] += 1 - smoothing
        said += f" With such labels the least possible loss is {-(targets * np.log(targets)).sum():.2f}."
    return {"loss": said}


class _Shown:
    """The sections of one evaluator: 'test' where the data had a test split."""

    def __init__(self, record: Record, images_of: ImagesOf):
        self.record, self.folder, self.evaluator = record, record.workdir / "report", record.best_test()
        self.split = record.results["evaluations"][self.evaluator]["split"]
        self.names: list[str] = record.dataset["class_names"]
        # Runs of before have none.
        self.superclasses: list[str] = record.dataset.get("superclasses", [])
        self.images_of = images_of
        self.predictions = Predictions.of(record.outputs(self.evaluator))
        self.matrix = self.predictions.confusion

    def confusion(self) -> Iterator[page.Block]:
        """Shows the matrix, that of the superclasses, who is taken for whom, and the pairs most confused."""
        order = errors.group_order(self.superclasses) if self.superclasses else np.arange(len(self.names))
        path = self.folder / "confusion_matrix.png"
        groups = [self.superclasses[k] for k in order] if self.superclasses else []
        prediction_plots.confusion_matrix(
            path, self.matrix[np.ix_(order, order)], [self.names[k] for k in order], groups
        )
        caption = f"Rows: true class; columns: predicted; {self.matrix.sum():,} images."
        yield page.picture(path, f"Confusion matrix ({self.evaluator})", caption)
        wrong = int(self.matrix.sum() - np.trace(self.matrix))
        if self.superclasses:
            grouped, names = errors.group_confusion(self.matrix, self.superclasses)
            path = self.folder / "confusion_matrix_superclasses.png"
            prediction_plots.confusion_matrix(path, grouped, names, title="Confusion matrix of the superclasses")
            within = int(np.trace(grouped) - np.trace(self.matrix))
            caption = f"Of {wrong:,} mistakes {within:,} stay within the superclass."
            yield page.picture(path, "Confusion matrix of the superclasses", caption)
        if pairs := errors.confused_pairs(self.matrix, _PAIRS):
            rows = [
                (self.names[p.first], self.names[p.second], p.first_as_second, p.second_as_first, 100 * p.share)
                for p in pairs
            ]
            header = ("class", "other class", "taken for the other", "other taken for it", "of both, %")
            together = sum(p.first_as_second + p.second_as_first for p in pairs)
            caption = f"The {len(pairs)} most confused pairs: {together:,} of {wrong:,} mistakes"
            yield page.Table(header, rows, caption=caption)

    def mistakes(self) -> Iterator[page.Block]:
        """Shows the surest mistakes, the most doubtful hits, and a random sample of each class."""
        found = self.predictions
        surest, doubtful = found.most_confident_mistakes(_GALLERY), found.least_confident_hits(_GALLERY)
        if len(surest):
            captions = [
                f"{self.names[found.label[i]]} → {self.names[found.predicted[i]]}, {_percent(found.confidence[i])} "
                f"(true:\u00a0{_percent(found.probabilities[i, found.label[i]])})"
                for i in surest
            ]
            yield self._gallery("mistakes", surest, captions, "Most confident mistakes", "True class → predicted one.")
        if len(doubtful):
            second = np.argsort(found.probabilities[doubtful], axis=-1)[:, -2]
            captions = [
                f"{self.names[found.label[i]]}, {_percent(found.confidence[i])} "
                f"({self.names[k]}: {_percent(found.probabilities[i, k])})"
                for i, k in zip(doubtful, second, strict=True)
            ]
            yield self._gallery(
                "doubtful", doubtful, captions, "Least confident hits", "In parentheses the second class."
            )
        each = max(_SAMPLE // len(self.names), 1)
        drawn = errors.sample_per_class(found.label, each, _SAMPLE)
        captions = [
            self.names[found.predicted[i]]
            if found.hit[i]
            else f"{self.names[found.label[i]]} → {self.names[found.predicted[i]]}"
            for i in drawn
        ]
        some = "each class" if len(self.names) <= _SAMPLE else f"{_SAMPLE} classes"
        how = f"Drawn at random, {each} of {some}; true class → predicted one of mistakes."
        yield self._gallery("images", drawn, captions, "A sample", how, max(_COLUMNS // each, 1) * each)

    def calibration(self) -> Iterator[page.Block]:
        """Shows the reliability diagram."""
        found = self.predictions
        arrays = (jnp.asarray(found.logits), jnp.asarray(found.label), jnp.ones(len(found.label)))
        sums = jax.device_get(jax.jit(metrics.calibration_sums)(*arrays))
        accuracy, confidence = metrics.reliability(sums)
        path = self.folder / "reliability.png"
        prediction_plots.reliability(path, accuracy, confidence, sums["bin_examples"])
        error = metrics.expected_calibration_error(sums)
        sure, right = float(found.confidence.mean()), float(found.hit.mean())
        much = "too sure of itself" if sure > right else "less sure than it could be"
        caption = (
            f"Expected calibration error {100 * error:.1f} % ({len(accuracy)} bins): the network is right in "
            f"{100 * right:.1f} % and on average {100 * sure:.1f} % sure, {much}."
        )
        yield page.picture(path, f"Reliability diagram ({self.evaluator})", caption)

    def classes(self) -> Iterator[page.Block]:
        """Shows bars and a table of recall, precision, F1 and area under the ROC curve of each class."""
        f1 = metrics.f1(self.matrix)
        areas = metrics.roc_auc(self.predictions.label, self.predictions.probabilities)
        counted = metrics.per_class(self.matrix)
        recall, precision = (np.array([np.nan if row[i] is None else row[i] for row in counted]) for i in (1, 2))
        if len(self.names) <= _MANY:
            path = self.folder / "classes.png"
            series = {"recall": 100 * recall, "precision": 100 * precision, "F1": 100 * f1}
            plots.bars(path, series, self.names, title="Classes", xlabel="per cent")
            yield page.picture(path, "Recall, precision and F1 by class", "")
        else:
            order = np.argsort(f1, kind="stable")
            for number, part in enumerate(_parts(order), 1):
                path = self.folder / f"classes_{number}.png"
                title = f"Classes {1 + (number - 1) * _PER_PICTURE} to {(number - 1) * _PER_PICTURE + len(part)}"
                names = [self.names[k] for k in part]
                plots.bars(path, {"F1": 100 * f1[part]}, names, title=f"{title} by F1", xlabel="F1 (%)")
                yield page.picture(path, f"F1 by class, {title.lower()}", "The hardest first.")
        hits = np.diag(self.matrix)
        rows = []
        for k, others in enumerate(errors.taken_for(self.matrix)):
            examples = counted[k][0]
            rate = intervals.wilson(int(hits[k]), examples).times(100) if examples else None
            share = counted[k][2]
            precise = None if share is None else 100 * share
            said = ", ".join(f"{self.names[other]} {_percent(share)}" for other, share in others)
            rows.append((self.names[k], examples, rate, precise, 100 * float(f1[k]), float(areas[k]), said))
        header = ("class", "images", "recall, %", "precision, %", "F1, %", "ROC-AUC", "taken for")
        mean = f"The mean of ROC-AUC, one class against the others, is {np.nanmean(areas):.4f}."
        yield page.Table(header, rows, caption=f"Recall is the accuracy on the class. {words.WILSON} {mean}")

    def distribution(self) -> Iterator[page.Block]:
        """Shows how many examples each split has of each class."""
        counts = self.record.dataset.get("examples_per_class", {})
        rows = [
            (
                split,
                sum(each),
                f"{min(each)} ({self.names[int(np.argmin(each))]})",
                f"{max(each)} ({self.names[int(np.argmax(each))]})",
            )
            for split, each in counts.items()
        ]
        if rows:
            yield page.Table(("split", "images", "fewest of a class", "most of a class"), rows)
        uneven = {split: np.array(each) for split, each in counts.items() if max(each) > min(each) + 1}
        if not uneven:
            return
        share = {split: 100 * each / each.sum() for split, each in uneven.items()}
        if len(self.names) <= _MANY:
            path = self.folder / "distribution.png"
            plots.bars(path, share, self.names, title="Examples per class", xlabel="percent of the split")
            yield page.picture(path, "Examples per class of each split", "")
            return
        order = np.argsort(-next(iter(uneven.values())), kind="stable")
        for (split, each), (number, part) in itertools.product(uneven.items(), enumerate(_parts(order), 1)):
            path = self.folder / f"distribution_{split}_{number}.png"
            labels = [self.names[k] for k in part]
            plots.bars(path, {split: each[part]}, labels, title=f"{split}: examples per class", xlabel="images")
            yield page.picture(path, f"Examples per class in {split}, part {number}", "")

    def filters(self) -> Iterator[page.Block]:
        """Shows the kernels of the first layer, where the run kept them."""
        kept = self.record.pictures(self.evaluator)
        if "filters" in kept:
            path = self.folder / "filters.png"
            image_plots.image_grid(path, kept["filters"])
            number, height, width = kept["filters"].shape[:3]
            caption = f"{number} kernels of {height}×{width} pixels, each scaled by its largest weight; gray is 0."
            yield page.picture(path, "Filters of the first layer", caption)

    def _gallery(
        self,
        name: str,
        rows: np.ndarray,
        captions: Sequence[str],
        title: str,
        caption: str,
        columns: int = _COLUMNS,
    ) -> page.Picture:
        """Draws the images of these rows, mistakes among hits framed."""
        path = self.folder / f"{name}.png"
        small = thumbnails(self.images_of, self.split, self.predictions.index[rows], _THUMBNAIL)
        hit = self.predictions.hit[rows]
        frames = [None if own or not hit.any() else "crimson" for own in hit]  # Where all are mistakes, no frame tells.
        image_plots.image_grid(path, small, captions, colors=frames, columns=min(columns, _COLUMNS, len(rows)))
        return page.picture(path, f"{title} ({self.evaluator})", caption)


def _parts(order: np.ndarray) -> list[np.ndarray]:
    """Returns the classes in parts of which a picture shows one."""
    return [order[start : start + _PER_PICTURE] for start in range(0, len(order), _PER_PICTURE)]


def _percent(share: float) -> str:
    """Returns 'x %' with a space at which no line breaks."""
    return f"{100 * share:.1f}\u00a0%" if share < 0.9995 else "100\u00a0%"

"""What the page of a GAN shows: its losses, generated images beside real ones, how they came about, what they resemble.

Everything is read from files, and what a run did not keep is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vision_jax.analysis.record import Arrays, Record
from vision_jax.report import image_plots, page, plots
from vision_jax.report.images import ImagesOf
from vision_jax.writers import pictures as pictures_lib

_GRID = 8  # Images per row and rows of a grid.
_TILE = 64  # Pixels that a small image is enlarged to, or a large one reduced; two grids stand side by side.
_FILM = 14  # Steps in the film strip, at most.


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the sections."""
    del images_of
    evaluator = record.best_test()
    found = record.pictures(evaluator)
    shown = [
        page.Section("Losses", list(_losses(record))),
        page.Section("Pictures", list(_grids(record, found, evaluator))),
        page.Section("Course of training", list(_film(record))),
        page.Section("Between samples", list(_interpolation(record, found))),
        page.Section("Classes", list(_by_class(record, found))),
        page.Section("Nearest training images", list(_nearest(record, found))),
        page.Section("Distances and how they were measured", list(receipts(record.results.get("receipts", {})))),
    ]
    return [section for section in shown if section.blocks]


def _losses(record: Record) -> Iterator[page.Block]:
    values = record.steps()
    if losses := {name: row for name, row in values.items() if name.endswith("loss")}:
        steps = values["step"]
        window = max(round(len(steps) / 100), min(10, len(steps)))
        path = record.workdir / "report" / "losses.png"
        named = {name.replace("_", " "): row for name, row in losses.items()}
        plots.noisy_curves(
            path,
            steps,
            named,
            window=window,
            title="Losses of every step",
            ylabel="loss",
            chosen=record.results["checkpoint_step"],
            epoch=record.steps_per_epoch,
        )
        yield page.picture(path, "Losses of every step", f"Pale: each step. Bold: the mean of {window} steps.")


def _grids(record: Record, found: Arrays, evaluator: str) -> Iterator[page.Block]:
    folder = record.workdir / "report"
    for name, title, caption in (
        ("samples", "Generated images", "Noise drawn once, not selected."),
        ("real", f"Real images ({evaluator})", "The first images of the split, for comparison."),
    ):
        if name in found:
            path, images = folder / f"{name}.png", found[name][: _GRID**2]
            image_plots.image_grid(path, images, columns=_GRID, scale=_scale(images), gap=2)
            yield page.picture(path, title, caption)
    if "samples" in found:
        path, images = folder / "samples_enlarged.png", found["samples"][:16]
        image_plots.image_grid(path, images, columns=4, scale=_scale(images, 2 * _TILE), gap=2)
        yield page.picture(path, "Generated images, enlarged", "The first of those above.")


def _film(record: Record) -> Iterator[page.Block]:
    """Shows the images of the same noise at several steps, of the first evaluation that drew them at two or more."""
    courses = [paths for name, paths in record.training_pictures().items() if name.endswith("/samples")]
    for paths in courses:
        steps = list(paths)
        # The first, and from the last backwards in equal intervals.
        chosen = sorted({steps[0], *steps[:: -math.ceil(len(steps) / (_FILM - 1))]})
        images = {step: pictures_lib.read(paths[step])[:_GRID] for step in chosen}
        last = images[steps[-1]]
        images = {step: shown for step, shown in images.items() if shown.shape == last.shape}  # Of another config.
        if len(images) > 1:
            path = record.workdir / "report" / "film_strip.png"
            names = [f"{step:,}" for step in images]
            image_plots.image_table(path, np.stack(list(images.values()), axis=1), scale=_scale(last), columns=names)
            yield page.picture(path, "Film strip", "Each row: the same noise after so many steps.")
            return


def _interpolation(record: Record, found: Arrays) -> Iterator[page.Block]:
    if "interpolation" in found:
        path, images = record.workdir / "report" / "interpolation.png", found["interpolation"]
        image_plots.image_grid(path, images, columns=_GRID, scale=_scale(images), gap=2)
        yield page.picture(path, "Interpolation", "Each row: from one noise to another in equal steps.")


def _by_class(record: Record, found: Arrays) -> Iterator[page.Block]:
    if "by_class" in found:
        path, images = record.workdir / "report" / "by_class.png", found["by_class"]
        names = record.dataset["class_names"][: len(images) // _GRID]
        rows = images.reshape(len(names), -1, *images.shape[1:])
        image_plots.image_table(path, rows, scale=_scale(images, _TILE if len(names) <= 20 else _TILE // 2), rows=names)
        yield page.picture(path, "Generated images of each class", "Each row: the class asked for.")


def _nearest(record: Record, found: Arrays) -> Iterator[page.Block]:
    if not {"nearest_samples", "nearest_training"} <= set(found):
        return
    samples = found["nearest_samples"]
    training = found["nearest_training"].reshape(len(samples), -1, *samples.shape[1:])
    images = np.concatenate([samples[:, None], training], axis=1)
    captions: list[list[str]] = []
    if "nearest_distance" in found:
        captions = [["", *(f"{value:.4g}" for value in row)] for row in found["nearest_distance"]]
    path = record.workdir / "report" / "nearest.png"
    image_plots.image_table(
        path,
        images,
        scale=_scale(images[0], 80),
        columns=["sample", *(f"nearest {i}" for i in range(1, images.shape[1]))],
        captions=captions,
        gap=12,
    )
    below = " Below each: its distance to the sample." if captions else ""
    yield page.picture(
        path,
        "Samples and the training images nearest to them",
        f"A generator that repeats its training set shows the same image twice in a row.{below}",
    )


def receipts(named: Mapping[str, Mapping[str, Any]]) -> Iterator[page.Block]:
    """Shows a table for each protocol, because numbers of different protocols are not to be compared."""
    by_protocol: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, receipt in named.items():
        by_protocol.setdefault(json.dumps(receipt["protocol"], sort_keys=True), {})[name] = receipt
    for found in by_protocol.values():
        rows: list[list[page.Cell]] = []
        for name, receipt in found.items():
            interval, settings = receipt["interval"], receipt["settings"]
            known = f"{page.show(interval['low'])} to {page.show(interval['high'])}" if interval else ""
            how = ", ".join(f"{setting} {page.show(value)}" for setting, value in settings.items())
            rows.append([name, f"{receipt['value']:.4g}", known, receipt["generated"], receipt["real"], how])
        yield page.Table(("measure", "value", "95 % interval", "generated", "real", "settings"), rows)
        protocol = next(iter(found.values()))["protocol"]
        yield page.KeyValues({key: value for key, value in protocol.items() if key != "prefix"})


def _scale(images: np.ndarray, wanted: int = _TILE) -> float:
    """Returns the enlargement in whole pixels, or the reduction, to at most `wanted` pixels: images [N, H, W, C]."""
    side = max(images.shape[1:3])
    return float(wanted // side) if side <= wanted else wanted / side

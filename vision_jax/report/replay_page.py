"""The page of a step that was made again: its metrics and their record, its batch, gradients and activations."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.metrics import words
from vision_jax.report import figures, image_plots, page, plots

_SHOWN = 128  # Images of a batch on the page, at most.
_LISTED = 20  # Losses in the table.


def write(folder: pathlib.Path) -> pathlib.Path:
    """Writes `index.html` and its pictures from `replay.json` and `batch.npz` in a folder; returns the page."""
    found = json.loads((folder / "replay.json").read_text())
    with np.load(folder / "batch.npz") as arrays:
        images = arrays["image"]
    sections = [
        _summary(found),
        _batch(folder, found["examples"], images),
        *_gradients(folder, _numbers(found["gradient_norms"])),
        *_activations(found["activations"]),
    ]
    page.write(folder / "index.html", title=f"Step {found['step']} of {found['run']}", sections=sections)
    return folder / "index.html"


def _numbers(values: Mapping[str, float | str]) -> dict[str, float]:
    """Returns numbers, also of those that JSON keeps as texts."""
    return {name: float(value) for name, value in values.items()}


def _cell(value: float) -> page.Cell:
    """NaN is what such a page is about, and not a gap."""
    return value if math.isfinite(value) else str(value)


def _summary(found: Mapping[str, Any]) -> page.Section:
    recorded, differences = " and ".join(found["recorded"]), found["differences"]
    if not recorded:
        verdict = "The run has no record of this step: it ended before the row of its interval was written."
    elif differences:
        verdict = f"These are not the metrics that the run recorded ({recorded}); other devices or versions round "
        verdict += "differently, and after a rewind the newest checkpoint may not know of it."
    else:
        verdict = f"These are, bit for bit, the metrics that the run recorded ({recorded})."
    rows = [[words.label(name), _cell(value)] for name, value in _numbers(found["metrics"]).items()]
    start = f"checkpoint {found['from_step']}" if found["from_step"] else "the initialization"
    return page.Section(
        "Metrics",
        [
            page.Headline(verdict),
            *(page.Text(sentence) for sentence in differences),
            page.Text(f"Made again from {start}."),
            page.Table(("metric of this step", "value"), rows),
        ],
    )


def _batch(folder: pathlib.Path, examples: Sequence[Mapping[str, Any]], images: np.ndarray) -> page.Section:
    def caption(example: Mapping[str, Any]) -> str:
        label = f" {figures.short(example['class'], 16)}" if "class" in example else ""
        loss = f" {float(example['loss']):.4g}" if "loss" in example else ""
        return f"#{example['index']}{label}{loss}"

    shown = examples[:_SHOWN]
    path = folder / "batch.png"
    image_plots.image_grid(path, images[[example["row"] for example in shown]], [caption(one) for one in shown])
    has_losses, has_labels = "loss" in examples[0], "class" in examples[0]
    order = "the highest loss first" if has_losses else "in its order: this task has one loss for all of them"
    parts = ["number in the training split", *["label"] * has_labels, *["loss"] * has_losses]
    text = f"{len(examples)} examples, {order}. Below each: {', '.join(parts)}."
    text += "" if has_labels else " The task has no labels: none."
    text += f" The first {_SHOWN} are shown." if len(examples) > _SHOWN else ""
    blocks: list[page.Block] = [page.Text(text), page.Picture(path, "the images of the batch, before augmentation")]
    if has_losses:
        header = ("example", *["label"] * has_labels, "loss")
        rows = [
            [f"#{one['index']}", *([one["class"]] if has_labels else []), _cell(float(one["loss"]))]
            for one in examples[:_LISTED]
        ]
        blocks.append(page.Table(header, rows, caption="The highest losses"))
    return page.Section("Batch", blocks)


def _gradients(folder: pathlib.Path, norms: Mapping[str, float]) -> list[page.Section]:
    sections = []
    for network in dict.fromkeys(name.partition("/")[0] for name in norms):
        layers = {name.partition("/")[2]: value for name, value in norms.items() if name.startswith(f"{network}/")}
        path, title = folder / f"gradients_{network}.png", f"Gradient norms of the {network}"
        drawn = [value if math.isfinite(value) else math.nan for value in layers.values()]
        plots.bars(path, {"norm": drawn}, list(layers), title=title, xlabel="Euclidean norm of the layer's gradient")
        broken = [name for name, value in layers.items() if not math.isfinite(value)]
        words_of = f"Not finite, and without a bar: {', '.join(broken)}." if broken else ""
        blocks = [page.picture(path, title, words_of)]
        sections.append(page.Section(title, blocks))
    return sections


def _activations(ranges: Mapping[str, Mapping[str, float | str]]) -> list[page.Section]:
    if not ranges:
        return []
    rows = [[stage, *map(_cell, _numbers(figures_of).values())] for stage, figures_of in ranges.items()]
    header = ("stage", "min", "max", "mean absolute", "share of zeros")
    return [page.Section("Activations", [page.Table(header, rows, "What each stage gave in this step's passes")])]

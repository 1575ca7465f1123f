"""What the page of a super-resolution network shows: figures beside bicubic interpolation's, pictures, details, errors.

Everything is read from files.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from vision_jax.analysis.record import Arrays, Record
from vision_jax.metrics import words
from vision_jax.report import image_plots, page, slider
from vision_jax.report.images import ImagesOf
from vision_jax.writers import pictures as pictures_lib

_VERSIONS = {"low_resolution": "low resolution", "bicubic": "bicubic", "restored": "network", "original": "original"}
_CHANNELS = {
    "y": "luma (y) of ITU-R BT.601 in [16, 235], peak 255",
    "rgb": "all values (rgb), peak 255",
    "gray": "gray, peak 255",
}
_MEASURED = {"bicubic": "bicubic_", "restored": ""}  # Version -> beginning of its metrics.
_DETAIL = 48  # Side in pixels of the details, which are enlarged.
_STEPS = 7  # Shown of the course of training, at most.
_BRIGHTEST = 32.0  # Error in 8-bit values that is drawn white.


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the sections."""
    del images_of
    evaluations = list(record.results["evaluations"])
    tested = [name for name in evaluations if name not in ("train", "val")] or evaluations
    shown = [page.Section("Beside bicubic interpolation", list(_figures(record)))]
    for name in tested:
        found = record.pictures(name)
        if found:
            shown.append(page.Section(f"Pictures: {name}", list(_pictures(record, name, found))))
    shown.append(page.Section("Course of training", list(_course(record))))
    return [section for section in shown if section.blocks]


def _figures(record: Record) -> Iterator[page.Block]:
    """A row per evaluation and measure, and how they were measured."""
    metrics = record.results["metrics"]
    rows: list[list[page.Cell]] = []
    protocol: dict[str, Any] = {}
    channels: dict[str, None] = {}  # In order.
    for name, value in metrics.items():
        evaluator, _, metric = name.partition("/")
        bicubic = metrics.get(f"{evaluator}/bicubic_{metric}")
        if bicubic is not None:
            examples = record.results["evaluations"][evaluator]["examples"]
            figures = (words.value(metric, number) for number in (bicubic, value, value - bicubic))
            rows.append([evaluator, examples, words.label(metric), *figures])
        if receipt := record.results.get("receipts", {}).get(name):
            protocol = receipt["protocol"]
            channels[_CHANNELS[protocol["channel"]]] = None
    if rows:
        yield page.Table(("evaluation", "pictures", "measure", "bicubic", "network", "difference"), rows)
    if protocol:
        yield page.KeyValues(
            {
                "low resolution": f"1/{protocol['scale']} of the sides; {protocol['reduction']}; "
                + ("rounded to 8 bits" if protocol["rounded"] else "not rounded"),
                "measured on": " and ".join(channels)
                + (", which is reduced and restored as a picture of its own" if protocol["planes"] else ""),
                "cut off": f"{protocol['shave']} pixels at each border",
            }
        )


def _pictures(record: Record, evaluator: str, found: Arrays) -> Iterator[page.Block]:
    folder = record.workdir / "report"
    order = _hardest_first(found)
    found = {name: found[name][order] for name in _VERSIONS}
    versions = dict(found)
    captions = [_captions(record, evaluator, len(order))[number] for number in order]
    corners = [texture(original, found["bicubic"][i], _DETAIL) for i, original in enumerate(found["original"])]
    details = {name: _cut(images, corners) for name, images in versions.items()}
    path = folder / f"details_{evaluator}.png"
    image_plots.image_table(
        path,
        np.stack(list(details.values()), 1),
        scale=_scale(details["original"], 230),
        columns=list(_VERSIONS.values()),
        captions=captions,
        gap=10,
    )
    measured = " Below: PSNR and SSIM of the whole picture." if any(map(any, captions)) else ""
    yield page.picture(
        path,
        f"Details ({evaluator})",
        f"Where bicubic interpolation errs most, of the first pictures, the hardest on top.{measured}",
    )
    path = folder / f"errors_{evaluator}.png"
    errors = {
        name: _drawn(np.abs(details[name].astype(np.float32) - details["original"])) for name in ("bicubic", "restored")
    }
    image_plots.image_table(
        path,
        np.stack(list(errors.values()), 1),
        scale=_scale(details["original"], 230),
        columns=[f"error of {_VERSIONS[name]}" for name in errors],
        gap=10,
    )
    yield page.picture(
        path, f"Errors of these details ({evaluator})", f"Black is none; white is {_BRIGHTEST:g} of 255 or more."
    )
    pair = found["bicubic"][0], found["restored"][0]
    yield slider.block(
        *pair,
        ("bicubic", "network"),
        label=f"Move between bicubic interpolation and the network on a picture of {evaluator}",
        width=min(max(pair[0].shape[1], 480), 900),
    )
    path = folder / f"comparison_{evaluator}.png"
    rows = zip(*versions.values(), strict=True)
    image_plots.comparison(path, [dict(zip(_VERSIONS.values(), row, strict=True)) for row in rows])
    yield page.picture(path, f"Side by side ({evaluator})", "The first pictures of the split, or their middles.")


def _hardest_first(found: Arrays) -> np.ndarray:
    """Returns the order of pictures by how much bicubic interpolation errs in their worst detail, int [N]."""
    errors = []
    for original, bicubic in zip(found["original"], found["bicubic"], strict=True):
        y, x = texture(original, bicubic, _DETAIL)
        window = np.s_[y : y + _DETAIL, x : x + _DETAIL]
        errors.append(np.mean((original[window].astype(np.float64) - bicubic[window]) ** 2))
    return np.argsort(-np.array(errors), kind="stable")


def _captions(record: Record, evaluator: str, count: int) -> list[list[str]]:
    """What was measured of each version of the first pictures, PSNR and SSIM."""
    outputs = record.outputs(evaluator)
    names = [name for name in outputs if name.startswith(("psnr", "ssim")) and "_rgb_" not in name]
    texts = []
    for number in range(count):
        row = np.flatnonzero(outputs["index"] == number)
        said = {
            version: ", ".join(_shown(name, float(outputs[prefix + name][row[0]])) for name in names)
            for version, prefix in _MEASURED.items()
            if len(row)
        }
        texts.append([said.get(version, "") for version in _VERSIONS])
    return texts


def _shown(name: str, value: float) -> str:
    return f"{value:.2f} dB" if name.startswith("psnr") else f"{value:.4f}"


def _course(record: Record) -> Iterator[page.Block]:
    """The details of the first pictures after several steps."""
    courses = record.training_pictures()
    for name, paths in courses.items():
        evaluator, _, kind = name.rpartition("/")
        if kind != "restored" or f"{evaluator}/original" not in courses:
            continue
        steps = list(paths)
        chosen = sorted({steps[0], *steps[:: -max(math.ceil(len(steps) / (_STEPS - 1)), 1)]})
        originals = pictures_lib.read(list(courses[f"{evaluator}/original"].values())[-1])
        bicubic = pictures_lib.read(list(courses[f"{evaluator}/bicubic"].values())[-1])
        corners = [texture(original, bicubic[i], _DETAIL) for i, original in enumerate(originals)]
        images = {f"{step:,}": pictures_lib.read(paths[step]) for step in chosen}
        images = {step: found for step, found in images.items() if found.shape == originals.shape}  # Of this config.
        images |= {"original": originals}
        if len(images) > 2:
            path = record.workdir / "report" / "course.png"
            details = np.stack([_cut(found, corners) for found in images.values()], 1)
            image_plots.image_table(path, details, scale=_scale(details[0], 130), columns=list(images))
            yield page.picture(path, f"Details after so many steps ({evaluator})", "")
            return


def texture(original: np.ndarray, bicubic: np.ndarray, side: int) -> tuple[int, int]:
    """Returns the upper left corner of the window of `side` pixels in which the squared error is largest.

    Args:
        original: uint8 [H, W, C].
        bicubic: the same.
        side: in pixels; of smaller pictures, the shorter side.
    """
    error = ((original.astype(np.float64) - bicubic) ** 2).sum(-1)
    side = min(side, *error.shape)
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    row, column = np.unravel_index(np.argmax(windows), windows.shape)
    return int(row), int(column)


def _cut(images: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    """The windows of images [N, H, W, C] at corners."""
    side = min(_DETAIL, *images.shape[1:3])
    windows = [image[y : y + side, x : x + side] for image, (y, x) in zip(images, corners, strict=True)]
    return np.stack(windows)


def _drawn(errors: np.ndarray) -> np.ndarray:
    """Errors in 8-bit values [N, H, W, C], of all channels together, as gray uint8 [N, H, W, 1]."""
    return np.clip(errors.mean(-1, keepdims=True) * (255.0 / _BRIGHTEST), 0.0, 255.0).astype(np.uint8)


def _scale(images: np.ndarray, wanted: int) -> float:
    """The enlargement in whole pixels to about `wanted`."""
    return float(max(wanted // max(images.shape[1:3]), 1))

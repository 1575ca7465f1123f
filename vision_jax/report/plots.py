"""The pictures of a report as PNG files: curves, bars, confusion matrices, grids of images.

Matplotlib is used through its objects alone (no pyplot, no display, nothing global) and is loaded by the first plot.
Equal input gives equal files. Names of classes and metrics are shown as they are, never read as formulas. What color
tells, a second sign tells too: line style and marker, hatching, or words.
"""

import contextlib
import itertools
import math
import os
import pathlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vision_jax.utils import files

_DPI = 150  # of charts; a page shows them at 96 per inch, so that they stay crisp on dense screens
_WIDTH = 5.4  # inches of curves and bars; a page shows two of them side by side
_SPLITS = ("train", "val", "test")  # look the same in all plots
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # told apart by all eyes
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\")
_TEXT = 13  # pixels, below and above images
_GAP = 8

PathLike = str | os.PathLike[str]


def curves(
    path: PathLike,
    series: Mapping[str, Sequence[tuple[int, float]]],
    *,
    title: str,
    ylabel: str,
    xlabel: str = "step",
    yscale: Literal["linear", "log"] = "linear",
) -> None:
    """Draws lines over common axes.

    Args:
        path: the PNG file to write.
        series: points `(x, y)` in order, by the name in the legend. Points that cannot be shown (NaN and infinities;
            y ≤ 0 on a log scale) leave a gap.
        title: heading of the plot.
        ylabel: what y is, with its unit.
        xlabel: what x is.
        yscale: 'linear' or 'log'.
    """
    with _chart(path, _WIDTH, 3.3, title) as ax:
        from matplotlib.ticker import MaxNLocator

        ax.set_xlabel(xlabel, parse_math=False)
        ax.set_ylabel(ylabel, parse_math=False)
        ax.set_yscale(yscale)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        ax.grid(color="#dddddd", linewidth=0.8)
        lines = []
        others = itertools.count(len(_SPLITS) if set(_SPLITS) & set(series) else 0)
        for name, points in series.items():
            i = _SPLITS.index(name) if name in _SPLITS else next(others)
            x, y = np.asarray(points, np.float64).reshape(-1, 2).T
            shown = np.isfinite(y) & (y > 0 if yscale == "log" else True)
            sparse = len(x) <= 40
            lines += ax.plot(
                x,
                np.where(shown, y, np.nan),
                color=_COLORS[i % len(_COLORS)],
                linestyle=_LINES[i % len(_LINES)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=4,
                markevery=1 if sparse else max(len(x) // 12, 1),
                linewidth=1.5,
            )
        _legend(ax, lines, list(series), loc="best")


def noisy_curves(
    path: PathLike,
    steps: np.ndarray,
    series: Mapping[str, np.ndarray],
    *,
    window: int,
    title: str,
    ylabel: str,
) -> None:
    """Draws values of every step, thin and pale, and their running mean, bold, over common axes.

    However many steps there are, the highest and the lowest value of each stretch are drawn, so that no spike is lost.

    Args:
        path: the PNG file to write.
        steps: int [N], ascending.
        series: values [N] by the name in the legend; those that cannot be shown (NaN and infinities) leave a gap.
        window: steps of the running mean, which is centered.
        title: heading of the plot.
        ylabel: what the values are.
    """
    with _chart(path, 2 * _WIDTH, 3.6, title) as ax:
        from matplotlib.ticker import MaxNLocator

        ax.set_xlabel("step")
        ax.set_ylabel(ylabel, parse_math=False)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        ax.grid(color="#dddddd", linewidth=0.8)
        lines = []
        for i, (name, values) in enumerate(series.items()):
            if len(values) != len(steps):
                raise ValueError(f"Series {name!r} has {len(values)} values for {len(steps)} steps.")
            color, line = _COLORS[i % len(_COLORS)], _LINES[i % len(_LINES)]
            shown = np.where(np.isfinite(values), values, np.nan)
            ax.plot(*_extremes(steps, shown), color=color, linewidth=0.5, alpha=0.4)
            # Above all that is pale, on white, where the two meet.
            mean = (steps, running_mean(shown, window))
            ax.plot(*mean, color="white", linewidth=3.2, zorder=3, alpha=0.9)
            lines += ax.plot(*mean, color=color, linestyle=line, linewidth=1.8, zorder=4)
        _legend(ax, lines, [f"{name}, mean of {window} steps" for name in series], loc="upper right")


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the mean of the `window` values around each, fewer at the ends and where there is NaN: float64 [N]."""
    kernel = np.ones(min(window, len(values)))
    known = np.isfinite(values)
    sums, counts = (
        np.convolve(row, kernel, "same") for row in (np.where(known, values, 0.0), known.astype(np.float64))
    )
    return np.where(counts > 0.5, sums / np.maximum(counts, 1.0), np.nan)


def _extremes(x: np.ndarray, y: np.ndarray, stretches: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Returns points of the lowest and the highest value in each of `stretches` parts; all of them if there are few."""
    if len(x) <= 2 * stretches:
        return x, y
    starts = np.arange(stretches) * len(x) // stretches
    both = np.stack([np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)], axis=-1)
    return x[starts].repeat(2), both.reshape(-1)


def bars(
    path: PathLike,
    values: Mapping[str, Sequence[float] | np.ndarray],
    labels: Sequence[str],
    *,
    title: str,
    xlabel: str,
) -> None:
    """Draws horizontal bars, one group per label from top to bottom, one bar in each group per series.

    Args:
        path: the PNG file to write.
        values: by the name of the series, one value per label.
        labels: names of the groups.
        title: heading of the plot.
        xlabel: what the values are, with their unit.
    """
    for name, row in values.items():
        if len(row) != len(labels):
            raise ValueError(f"Series {name!r} has {len(row)} values for {len(labels)} labels.")
    height = 0.8 / len(values)
    with _chart(path, _WIDTH, 1.2 + len(labels) * max(0.17 * len(values), 0.24), title) as ax:
        groups = []
        for i, row in enumerate(values.values()):
            drawn = ax.barh(
                np.arange(len(labels)) + (i - (len(values) - 1) / 2) * height,
                row,
                height,
                color=_COLORS[i % len(_COLORS)],
                hatch=_HATCHES[i % len(_HATCHES)],
                edgecolor="white",
            )
            groups.append(drawn)
            if len(values) == 1:
                ax.bar_label(drawn, fmt="%.4g", padding=3, fontsize=9)
        ax.set_yticks(np.arange(len(labels)), labels, parse_math=False, fontsize=10)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.margins(x=0.12)
        ax.set_xlabel(xlabel, parse_math=False)
        ax.grid(axis="x", color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        if len(values) > 1:
            _legend(ax.figure, groups, list(values), loc="outside lower center", ncols=len(values))


def confusion_matrix(path: PathLike, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draws a confusion matrix: rows are true classes, columns predicted ones.

    Shades show the part of each true class; up to 20 classes the counts are written as well.

    Args:
        path: the PNG file to write.
        matrix: counts, int [K, K].
        class_names: K names.
    """
    k = len(class_names)
    if matrix.shape != (k, k):
        raise ValueError(f"The confusion matrix is {list(matrix.shape)}, expected [{k}, {k}] for {k} class names.")
    part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [textwrap.shorten(name, 24, placeholder="…") for name in class_names]
    longest = max(map(len, names))
    cell = min(max(4.2 / k, 0.115), 1.0)  # inches; at the lower end the names of 100 classes still fit
    size = min(10.0, cell * 72 * 0.75)  # points; a letter is about 0.62 of it wide
    upright = longest * 0.62 * size > cell * 72 * 0.95
    side = k * cell + 0.9 + longest * 0.62 * size / 72
    with _chart(path, side + 0.9, side, "Confusion matrix") as ax:
        from matplotlib.colors import PowerNorm

        # The root makes the few errors of a good classifier visible beside its diagonal.
        shown = ax.imshow(part, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
        ax.set_xticks(np.arange(k), names, rotation=90 if upright else 0, fontsize=size, parse_math=False)
        ax.set_yticks(np.arange(k), names, fontsize=size, parse_math=False)
        ax.tick_params(length=2)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.04, pad=0.02, ticks=(0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1))
        bar.set_label("part of the true class")
        if k > 20:
            return
        fit = min(size, cell * 72 * 0.9 / 0.62 / len(str(matrix.max())))
        for row, column in np.argwhere(matrix):
            color = "white" if part[row, column] > 0.3 else "black"
            ax.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=fit, color=color)


def image_grid(
    path: PathLike,
    images: np.ndarray,
    captions: Sequence[str] | None = None,
    colors: Sequence[str | None] | None = None,
    *,
    columns: int | None = None,
    scale: float | None = None,
    gap: int = _GAP,
) -> None:
    """Draws images in rows, each with its caption below.

    Args:
        path: the PNG file to write.
        images: uint8 [N, H, W, C], C = 1 or 3.
        captions: N texts; what matters about an image, an error for one, is to be said here in words.
        colors: N colors of frames that draw the eye; None draws no frame.
        columns: images per row; unset: as many as a page has room for.
        scale: enlargement in whole pixels, or a reduction; unset: small images become about 100 pixels wide, large ones
            are reduced.
        gap: pixels between images.
    """
    _check_images(images)
    for name, given in (("captions", captions), ("colors", colors)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"There are {len(given)} {name} for {len(images)} images.")
    height, width = images.shape[1:3]
    factor = scale or _factor(max(height, width), 112 if captions else 72)
    tiles = [_resize(image, round(height * factor), round(width * factor)) for image in images]
    cell = max(tiles[0].shape[1], 112 if captions else 0) + gap
    columns = columns or max(min(1000 // cell, math.ceil(math.sqrt(2 * len(tiles))), len(tiles)), 1)
    rows = [slice(i, i + columns) for i in range(0, len(tiles), columns)]
    _mosaic(
        path,
        [tiles[row] for row in rows],
        below=[list(captions[row]) for row in rows] if captions else None,
        frames=[list(colors[row]) for row in rows] if colors else None,
        cell=cell,
        gap=gap,
    )


def image_table(
    path: PathLike,
    images: np.ndarray,
    *,
    scale: float,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    gap: int = 2,
) -> None:
    """Draws images in rows and columns that mean something.

    Args:
        path: the PNG file to write.
        images: uint8 [R, K, H, W, C], C = 1 or 3.
        scale: enlargement in whole pixels, or a reduction.
        columns: names above the K columns, if any.
        rows: names to the left of the R rows, if any.
        captions: texts below the images, R times K, if any.
        gap: pixels between images.
    """
    _check_images(images.reshape(-1, *images.shape[2:]))
    height, width = (max(round(side * scale), 1) for side in images.shape[2:4])
    none = [""] * images.shape[1]
    _mosaic(
        path,
        [[_resize(image, height, width) for image in row] for row in images],
        cell=width + gap,
        above=[list(columns), *[none] * (len(images) - 1)] if columns else None,
        below=captions or None,
        labels=[textwrap.shorten(name, 24, placeholder="…") for name in rows],
        gap=gap,
    )


def comparison(path: PathLike, rows: Sequence[Mapping[str, np.ndarray]], *, scale: int | None = None) -> None:
    """Draws versions of the same image side by side, one row per image, with the versions' names above.

    Args:
        path: the PNG file to write.
        rows: by its name, each version as uint8 [H, W, C], C = 1 or 3. Smaller versions, like the low resolution, are
            enlarged to the largest of their row by repeating pixels, and so show their pixels.
        scale: enlargement in whole pixels; unset: small images become about 220 pixels wide.
    """
    if len({tuple(row) for row in rows}) != 1:
        raise ValueError(f"All rows need the same names in the same order; found {[list(row) for row in rows]}.")
    names = list(rows[0])
    tiles = []
    for row in rows:
        for image in row.values():
            _check_images(image[None])
        height, width = (max(image.shape[axis] for image in row.values()) for axis in (0, 1))
        factor = scale or _factor(max(height, width), 220)
        tiles.append([_resize(image, round(height * factor), round(width * factor)) for image in row.values()])
    cell = max(tile.shape[1] for row in tiles for tile in row) + _GAP
    above = [names] + [[""] * len(names)] * (len(rows) - 1)
    _mosaic(path, tiles, above=above, cell=cell)


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            f"Images are {images.dtype}{list(images.shape)}, expected uint8[N, H, W, C] with N ≥ 1 and C = 1 or 3."
        )


def _factor(side: int, wanted: int) -> float:
    """Returns a whole enlargement of small images to at least about `wanted` pixels, a reduction of large ones."""
    return max(round(wanted / side), 1) if side <= 1.5 * wanted else 1.5 * wanted / side


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns uint8 [height, width, 3]: pixels repeated where it is enlarged, averaged where it is reduced."""
    from PIL import Image

    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    enlarged = height >= image.shape[0] and width >= image.shape[1]
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX))


def _mosaic(
    path: PathLike,
    tiles: Sequence[Sequence[np.ndarray]],
    *,
    cell: int,
    above: Sequence[Sequence[str]] | None = None,
    below: Sequence[Sequence[str]] | None = None,
    frames: Sequence[Sequence[str | None]] | None = None,
    labels: Sequence[str] = (),
    gap: int = _GAP,
) -> None:
    """Draws rows of tiles, pixel for pixel, each in the middle of a cell and with texts above, below or left of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    characters = max(int(cell / (0.62 * _TEXT)), 4)
    line = round(_TEXT * 1.3)

    def wrap(texts: Sequence[str]) -> list[list[str]]:
        return [textwrap.wrap(text, characters) for text in texts]

    page: list[np.ndarray] = []  # slabs of pixels from top to bottom
    lines: list[tuple[float, float, str]] = []  # x and y of the middle, text
    margin = round(0.62 * _TEXT * max(map(len, labels))) + _GAP if labels else 0
    width = margin + cell * max(map(len, tiles)) + gap
    y = 0

    def slab(height: int) -> np.ndarray:
        nonlocal y
        page.append(np.full((height, width, 3), 255, np.uint8))
        y += height
        return page[-1]

    def write(texts: Sequence[str]) -> None:
        wrapped = wrap(texts)
        top = y
        slab(max(map(len, wrapped)) * line)
        for column, words in enumerate(wrapped):
            x = margin + gap / 2 + (column + 0.5) * cell
            lines.extend((x, top + (number + 0.5) * line, word) for number, word in enumerate(words))

    slab(gap)
    for number, row in enumerate(tiles):
        if above:
            write(above[number])
        band = slab(max(tile.shape[0] for tile in row) + gap)
        if labels:
            lines.append((margin / 2, y - len(band) / 2, labels[number]))
        for column, tile in enumerate(row):
            height, wide = tile.shape[:2]
            left = margin + gap // 2 + column * cell + (cell - wide) // 2
            top = gap // 2
            if frames and (color := frames[number][column]):
                edge = np.array([round(255 * part) for part in to_rgb(color)], np.uint8)
                band[: height + gap, left - gap // 2 : left + wide + gap // 2] = edge
            band[top : top + height, left : left + wide] = tile
        if below:
            write(below[number])
            slab(gap)
    canvas = np.concatenate(page)
    dpi = 96
    figure = Figure(figsize=(canvas.shape[1] / dpi, canvas.shape[0] / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    figure.figimage(canvas)
    for x, y_text, text in lines:
        figure.text(
            x / width,
            1 - y_text / len(canvas),
            text,
            ha="center",
            va="center",
            fontsize=_TEXT * 72 / dpi,
            parse_math=False,
        )
    _save(figure, path)


@contextlib.contextmanager
def _chart(path: PathLike, width: float, height: float, title: str) -> Iterator[Any]:
    """Yields the axes of a figure of `width` × `height` inches and writes it to `path` afterwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.set_title(title, parse_math=False, fontsize=12)
    ax.spines[["top", "right"]].set_visible(False)
    yield ax
    _save(figure, path, colors=128)


def _legend(owner: Any, handles: Sequence[Any], names: Sequence[str], **place: Any) -> None:
    """Puts a legend into `owner`, axes or a figure, whatever the names look like."""
    for text in owner.legend(handles, names, fontsize=10, framealpha=0.85, **place).get_texts():
        text.set_parse_math(False)


def _save(figure: Any, path: PathLike, colors: int | None = None) -> None:
    """Writes the figure, in few `colors` if given, as a PNG that holds no date and no version, whole or not at all."""
    from PIL import Image

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    if colors:  # a third of the size, to the eye the same
        picture = picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with files.atomic_write(path) as file:
        picture.save(file, format="png", optimize=True, dpi=(figure.dpi, figure.dpi))

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
_NAME = 24  # characters of a class's name in a plot

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


def bars(
    path: PathLike,
    values: Mapping[str, Sequence[float] | np.ndarray],
    labels: Sequence[str],
    *,
    title: str,
    xlabel: str,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """Draws horizontal bars, one group per label from top to bottom, one bar in each group per series.

    Args:
        path: the PNG file to write.
        values: by the name of the series, one value per label; NaN draws no bar.
        labels: names of the groups.
        title: heading of the plot.
        xlabel: what the values are, with their unit.
        intervals: by the name of the series, ends of the error bar of each value.
    """
    for name, row in values.items():
        if len(row) != len(labels):
            raise ValueError(f"Series {name!r} has {len(row)} values for {len(labels)} labels.")
    height = 0.8 / len(values)
    labels = [_short(label) for label in labels]
    with _chart(path, _WIDTH, 1.2 + len(labels) * max(0.17 * len(values), 0.24), title) as ax:
        groups = []
        for i, (name, row) in enumerate(values.items()):
            places = np.arange(len(labels)) + (i - (len(values) - 1) / 2) * height
            color, hatch = _COLORS[i % len(_COLORS)], _HATCHES[i % len(_HATCHES)]
            drawn = ax.barh(places, row, height, color=color, hatch=hatch, edgecolor="white")
            groups.append(drawn)
            if intervals is not None:
                ends = np.abs(np.asarray(intervals[name], np.float64).T - np.asarray(row, np.float64))
                ax.errorbar(row, places, xerr=ends, fmt="none", ecolor="black", elinewidth=1, capsize=2)
            elif len(values) == 1:
                ax.bar_label(drawn, fmt="%.4g", padding=3, fontsize=9)
        ax.set_yticks(np.arange(len(labels)), labels, parse_math=False, fontsize=10)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.margins(x=0.12)
        ax.set_xlabel(xlabel, parse_math=False)
        ax.grid(axis="x", color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        if len(values) > 1:
            _legend(ax.figure, groups, list(values), loc="outside lower center", ncols=len(values))


def confusion_matrix(
    path: PathLike,
    matrix: np.ndarray,
    class_names: Sequence[str],
    groups: Sequence[str] = (),
    *,
    title: str = "Confusion matrix",
) -> None:
    """Draws a confusion matrix: rows are true classes, columns predicted ones.

    Shades show the part of each true class; up to 20 classes the counts are written as well.

    Args:
        path: the PNG file to write.
        matrix: counts, int [K, K].
        class_names: K names.
        groups: the group of each class, whose classes stand together: lines separate the groups, and their names stand
            on the other sides.
        title: heading of the plot.
    """
    k = len(class_names)
    if matrix.shape != (k, k):
        raise ValueError(f"The confusion matrix is {list(matrix.shape)}, expected [{k}, {k}] for {k} class names.")
    part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [_short(name) for name in class_names]
    longest = max(map(len, names))
    cell = min(max(4.2 / k, 0.115), 1.0)  # inches; at the lower end the names of 100 classes still fit
    size = min(10.0, cell * 72 * 0.75)  # points; a letter is about 0.62 of it wide
    upright = longest * 0.62 * size > cell * 72 * 0.95
    side = k * cell + 0.9 + longest * 0.62 * size / 72
    spans = [(name, len(list(members))) for name, members in itertools.groupby(groups)]
    called = [_short(name, 32) for name, _ in spans]
    margin = 0.62 * 8 / 72 * max(map(len, called), default=0)
    with _chart(path, side + 1.1 + 1.2 * margin, side + margin, title, colors=256) as ax:
        from matplotlib.colors import PowerNorm

        # The root makes the few errors of a good classifier visible beside its diagonal.
        shown = ax.imshow(part, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
        ax.set_xticks(np.arange(k), names, rotation=90 if upright else 0, fontsize=size, parse_math=False)
        ax.set_yticks(np.arange(k), names, fontsize=size, parse_math=False)
        ax.tick_params(length=2)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        if spans:
            ends = np.cumsum([0, *(number for _, number in spans)]) - 0.5
            for end in ends[1:-1]:
                ax.axhline(end, color="#888888", linewidth=0.6)
                ax.axvline(end, color="#888888", linewidth=0.6)
            middles = (ends[:-1] + ends[1:]) / 2
            for side_axis, turned in ((ax.secondary_xaxis("top").xaxis, 90), (ax.secondary_yaxis("right").yaxis, 0)):
                side_axis.set_ticks(middles, called, fontsize=8, rotation=turned, parse_math=False)
                side_axis.set_tick_params(length=2)
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.03, pad=0.01, ticks=(0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1))
        bar.set_label("part of the true class")
        if k > 20:
            return
        fit = min(size, cell * 72 * 0.9 / 0.62 / len(str(matrix.max())))
        for row, column in np.argwhere(matrix):
            color = "white" if part[row, column] > 0.3 else "black"
            ax.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=fit, color=color)


def reliability(path: PathLike, accuracy: np.ndarray, confidence: np.ndarray, examples: np.ndarray) -> None:
    """Draws a reliability diagram (Guo et al. 2017): accuracy in bins of confidence, and how many fall into each.

    Args:
        path: the PNG file to write.
        accuracy: of the examples of each bin, float [bins], NaN where it is empty; bins divide [0, 1] evenly.
        confidence: mean of the examples of each bin, float [bins], NaN likewise.
        examples: in each bin, int [bins].
    """
    edges = np.linspace(0, 1, len(accuracy) + 1)
    with _figure(path, _WIDTH, 4.6) as figure:
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for one in (ax, below):
            one.spines[["top", "right"]].set_visible(False)
            one.grid(color="#dddddd", linewidth=0.8)
            one.set_axisbelow(True)
        ax.set_title("Reliability diagram", fontsize=12)
        width = edges[1] * 0.92
        bars = ax.bar((edges[:-1] + edges[1:]) / 2, accuracy, width, color=_COLORS[0], edgecolor="white")
        (line,) = ax.plot((0, 1), (0, 1), color="black", linestyle="--", linewidth=1)
        (points,) = ax.plot(confidence, accuracy, linestyle="", marker="o", markersize=4, color=_COLORS[1])
        ax.set_ylabel("accuracy")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        names = ["accuracy in the bin", "calibrated", "at the mean confidence of the bin"]
        _legend(figure, [bars, line, points], names, loc="outside lower center", ncols=2)
        below.bar((edges[:-1] + edges[1:]) / 2, examples, width, color=_COLORS[0], edgecolor="white")
        below.set_ylabel("examples")
        below.set_xlabel("confidence: probability of the predicted class")


def class_colors(number: int) -> list[str]:
    """Returns a color for each of so many classes or superclasses, '#rrggbb', as different as that many can be."""
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb, to_hex

    if number <= 20:
        palette = colormaps["tab10" if number <= 10 else "tab20"].colors  # type: ignore[attr-defined]
        return [to_hex(color) for color in palette[:number]]
    hues = [(k * 0.618034) % 1 for k in range(number)]  # Neighbors in number are far apart in hue.
    return [
        to_hex(tuple(hsv_to_rgb((hue, (0.95, 0.55)[k % 2], (0.6, 0.85)[k // 2 % 2])))) for k, hue in enumerate(hues)
    ]


def embedding(
    path: PathLike,
    points: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    wrong: np.ndarray,
    *,
    title: str,
    turns: Sequence[float] = (0.0,),
) -> None:
    """Draws points, of which color is the class, a dot a hit and a cross a mistake.

    Args:
        path: the PNG file to write.
        points: float [N, 2], or [N, 3], of which a view is drawn for each of `turns`.
        groups: the class of each point, int [N].
        names: of the classes. Up to 20 stand in a legend, up to 10 in two dimensions at the median of their points.
        wrong: which points are mistakes, bool [N].
        title: heading of the plot.
        turns: in three dimensions, angles in degrees about the vertical axis.
    """
    colors = np.array(class_colors(len(names)))[groups]
    few = len(names) <= 20
    side = 3.4 if len(turns) > 1 else 6.2
    labels = ["hit", "mistake", *(map(_short, names) if few else ())]
    width = side * len(turns) + 0.1
    columns = min(4, len(labels), int(width / (0.6 + 0.086 * max(map(len, labels)))))
    with _figure(path, width, side + 0.4 + 0.22 * math.ceil(len(labels) / columns)) as figure:
        from matplotlib.lines import Line2D
        from matplotlib.patheffects import withStroke

        figure.suptitle(title, fontsize=12, parse_math=False)
        for ax, turn in zip(np.atleast_1d(figure.subplots(1, len(turns))), turns, strict=True):
            ax.set(xticks=[], yticks=[])
            flat, depth = (points, np.zeros(len(points))) if points.shape[1] == 2 else _turned(points, turn)
            middle, reach = (flat.max(0) + flat.min(0)) / 2, 0.52 * np.ptp(flat, axis=0).max() or 1.0
            ax.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
            ax.set_box_aspect(1)
            order = np.argsort(depth, kind="stable")
            size = 14 if len(points) <= 500 else 7
            for marker, chosen in (("o", order[~wrong[order]]), ("x", order[wrong[order]])):
                style = {"linewidths": 0} if marker == "o" else {"linewidths": 1}
                scale = size if marker == "o" else 2.5 * size
                ax.scatter(*flat[chosen].T, s=scale, c=colors[chosen], marker=marker, alpha=0.75, **style)
            if len(turns) > 1:
                ax.set_xlabel(f"turned by {turn:g}°")
            if points.shape[1] == 2 and len(names) <= 10:
                for k in np.unique(groups):
                    x, y = np.median(flat[groups == k], axis=0)
                    halo = [withStroke(linewidth=2.5, foreground="white")]
                    text = ax.text(x, y, _short(names[k]), ha="center", va="center", fontsize=9, path_effects=halo)
                    text.set_parse_math(False)
        handles = [Line2D([], [], linestyle="", marker=marker, color="#555555", markersize=5) for marker in ("o", "x")]
        if few:
            handles += [Line2D([], [], linestyle="", marker="o", color=color) for color in class_colors(len(names))]
        _legend(figure, handles, labels, loc="outside lower center", ncols=columns)


def _turned(points: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N, 3] seen from a little above after a turn about the vertical axis: [N, 2], and depth, near last."""
    turn, tilt = np.radians(degrees), np.radians(20)
    x, y, z = (points - points.mean(0)).T
    across, away = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    return np.stack([across, z * np.cos(tilt) + away * np.sin(tilt)], 1), z * np.sin(tilt) - away * np.cos(tilt)


def centroid_scatter(path: PathLike, true: np.ndarray, predicted: np.ndarray) -> None:
    """Draws of each mistake the distances of its feature to the centroids of its true and its predicted class, [M]."""
    with _chart(path, _WIDTH, 4.2, "Mistakes in feature space") as ax:
        nearer = predicted < true
        handles = []
        for chosen, color, marker in ((nearer, _COLORS[1], "o"), (~nearer, _COLORS[0], "^")):
            points = ax.scatter(true[chosen], predicted[chosen], s=14, c=color, marker=marker, alpha=0.6, linewidths=0)
            handles.append(points)
        ends = [0.95 * min(true.min(), predicted.min()), 1.05 * max(true.max(), predicted.max())]
        handles += ax.plot(ends, ends, color="black", linestyle="--", linewidth=1)
        ax.set(xlim=ends, ylim=ends, xlabel="distance to the true class", ylabel="distance to the predicted class")
        ax.set_aspect("equal")
        ax.grid(color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        names = ["nearer to the predicted class", "nearer to the true class", "as near to both"]
        _legend(ax.figure, handles, names, loc="outside lower center", ncols=1)


def histograms(path: PathLike, values: Mapping[str, np.ndarray], *, title: str, xlabel: str, mark: float) -> None:
    """Draws histograms over common bins, of one series as areas, of several as outlines of equal area.

    Args:
        path: the PNG file to write.
        values: float [N] by the name in the legend.
        title: heading of the plot.
        xlabel: what the values are, with their unit.
        mark: a value at which a line is drawn.
    """
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=30)
    one = len(values) == 1
    with _chart(path, _WIDTH, 3.3, title) as ax:
        lines = []
        for i, row in enumerate(values.values()):
            color, line = _COLORS[i % len(_COLORS)], _LINES[i % len(_LINES)]
            kind = {"color": color, "edgecolor": "white"} if one else {"histtype": "step", "color": color, "ls": line}
            lines.append(ax.hist(row, edges, density=not one, **kind)[2])
        ax.axvline(mark, color="black", linestyle="--", linewidth=1)
        ax.set_xlabel(xlabel, parse_math=False)
        ax.set_ylabel("mistakes" if one else "density")
        ax.grid(axis="y", color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        if not one:
            _legend(ax, [line[0] for line in lines], list(values), loc="best")


def image_grid(
    path: PathLike,
    images: np.ndarray,
    captions: Sequence[str] | None = None,
    colors: Sequence[str | None] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
) -> None:
    """Draws images in rows, each with its caption below.

    Args:
        path: the PNG file to write.
        images: uint8 [N, H, W, C], C = 1 or 3.
        captions: N texts; what matters about an image, an error for one, is to be said here in words.
        colors: N colors of frames that draw the eye; None draws no frame.
        columns: images per row; unset: as many as a page has room for.
        scale: enlargement in whole pixels; unset: small images become about 100 pixels wide, large ones are reduced.
    """
    _check_images(images)
    for name, given in (("captions", captions), ("colors", colors)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"There are {len(given)} {name} for {len(images)} images.")
    height, width = images.shape[1:3]
    factor = scale or _factor(max(height, width), 112 if captions else 72)
    tiles = [_resize(image, round(height * factor), round(width * factor)) for image in images]
    cell = max(tiles[0].shape[1], 112 if captions else 0) + _GAP
    columns = columns or max(min(1000 // cell, math.ceil(math.sqrt(2 * len(tiles))), len(tiles)), 1)
    rows = [slice(i, i + columns) for i in range(0, len(tiles), columns)]
    _mosaic(
        path,
        [tiles[row] for row in rows],
        below=[list(captions[row]) for row in rows] if captions else None,
        frames=[list(colors[row]) for row in rows] if colors else None,
        cell=cell,
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
) -> None:
    """Draws rows of tiles, pixel for pixel, each in the middle of a cell and with texts above or below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    characters = max(int(cell / (0.62 * _TEXT)), 4)
    line = round(_TEXT * 1.3)

    def wrap(texts: Sequence[str]) -> list[list[str]]:
        return [textwrap.wrap(text, characters) for text in texts]

    page: list[np.ndarray] = []  # slabs of pixels from top to bottom
    lines: list[tuple[float, float, str]] = []  # x and y of the middle, text
    width = cell * max(map(len, tiles)) + _GAP
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
            x = _GAP / 2 + (column + 0.5) * cell
            lines.extend((x, top + (number + 0.5) * line, word) for number, word in enumerate(words))

    slab(_GAP)
    for number, row in enumerate(tiles):
        if above:
            write(above[number])
        band = slab(max(tile.shape[0] for tile in row) + _GAP)
        for column, tile in enumerate(row):
            height, wide = tile.shape[:2]
            left = _GAP // 2 + column * cell + (cell - wide) // 2
            top = _GAP // 2
            if frames and (color := frames[number][column]):
                edge = np.array([round(255 * part) for part in to_rgb(color)], np.uint8)
                band[: height + _GAP, left - _GAP // 2 : left + wide + _GAP // 2] = edge
            band[top : top + height, left : left + wide] = tile
        if below:
            write(below[number])
            slab(_GAP)
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
def _chart(path: PathLike, width: float, height: float, title: str, colors: int = 128) -> Iterator[Any]:
    """Yields the axes of a figure of `width` × `height` inches and writes it to `path` afterwards."""
    with _figure(path, width, height, colors) as figure:
        ax = figure.add_subplot()
        ax.set_title(title, parse_math=False, fontsize=12)
        ax.spines[["top", "right"]].set_visible(False)
        yield ax


@contextlib.contextmanager
def _figure(path: PathLike, width: float, height: float, colors: int = 128) -> Iterator[Any]:
    """Yields a figure of `width` × `height` inches and writes it to `path` in so many `colors` afterwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    _save(figure, path, colors)


def _short(name: str, most: int = _NAME) -> str:
    """Returns a name that leaves room for others: at most so many characters, on one line."""
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 1]}…"


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

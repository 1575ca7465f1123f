"""Charts of a classifier's predictions and features as PNG files; see `figures` about their style."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from vision_jax.report import figures
from vision_jax.report.figures import PathLike


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
    names = [figures.short(name) for name in class_names]
    longest = max(map(len, names))
    cell = min(max(4.2 / k, 0.115), 1.0)  # inches; at the lower end the names of 100 classes still fit
    size = min(10.0, cell * 72 * 0.75)  # points; a letter is about 0.62 of it wide
    upright = longest * 0.62 * size > cell * 72 * 0.95
    side = k * cell + 0.9 + longest * 0.62 * size / 72
    spans = [(name, len(list(members))) for name, members in itertools.groupby(groups)]
    called = [figures.short(name, 32) for name, _ in spans]
    margin = 0.62 * 8 / 72 * max(map(len, called), default=0)
    with figures.chart(path, side + 1.1 + 1.2 * margin, side + margin, title, colors=256) as ax:
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
        ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.03, pad=0.01, ticks=ticks)
        bar.set_ticklabels([f"{100 * tick:g}" for tick in ticks])
        bar.set_label("% of the true class")
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
    edges, accuracy, confidence = np.linspace(0, 100, len(accuracy) + 1), 100 * accuracy, 100 * confidence
    with figures.new_figure(path, figures.WIDTH, 4.6, drawn=True) as figure:
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for one in (ax, below):
            one.spines[["top", "right"]].set_visible(False)
            one.grid(color="#dddddd", linewidth=0.8)
            one.set_axisbelow(True)
        ax.set_title("Reliability diagram", fontsize=12)
        width = edges[1] * 0.92
        bars = ax.bar((edges[:-1] + edges[1:]) / 2, accuracy, width, color=figures.COLORS[0], edgecolor="white")
        (line,) = ax.plot((0, 100), (0, 100), color="black", linestyle="--", linewidth=1)
        (points,) = ax.plot(confidence, accuracy, linestyle="", marker="o", markersize=4, color=figures.COLORS[1])
        ax.set_ylabel("accuracy (%)")
        ax.set_xlim(0, 100)
        ax.set_ylim(0, 102)
        names = ["accuracy in the bin", "calibrated", "at the mean confidence of the bin"]
        figures.legend(figure, [bars, line, points], names, loc="outside lower center", ncols=2)
        below.bar((edges[:-1] + edges[1:]) / 2, examples, width, color=figures.COLORS[0], edgecolor="white")
        below.set_ylabel("examples")
        below.set_xlabel("confidence: probability of the predicted class (%)")


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
    labels = ["hit", "mistake", *(map(figures.short, names) if few else ())]
    width = side * len(turns) + 0.1
    columns = min(4, len(labels), int(width / (0.6 + 0.086 * max(map(len, labels)))))
    height = side + 0.4 + 0.22 * math.ceil(len(labels) / columns)
    with figures.new_figure(path, width, height, drawn=True) as figure:
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
                    text = ax.text(
                        x, y, figures.short(names[k]), ha="center", va="center", fontsize=9, path_effects=halo
                    )
                    text.set_parse_math(False)
        handles = [Line2D([], [], linestyle="", marker=marker, color="#555555", markersize=5) for marker in ("o", "x")]
        if few:
            handles += [Line2D([], [], linestyle="", marker="o", color=color) for color in class_colors(len(names))]
        figures.legend(figure, handles, labels, loc="outside lower center", ncols=columns)


def _turned(points: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N, 3] seen from a little above after a turn about the vertical axis: [N, 2], and depth, near last."""
    turn, tilt = np.radians(degrees), np.radians(20)
    x, y, z = (points - points.mean(0)).T
    across, away = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    return np.stack([across, z * np.cos(tilt) + away * np.sin(tilt)], 1), z * np.sin(tilt) - away * np.cos(tilt)


def centroid_scatter(path: PathLike, true: np.ndarray, predicted: np.ndarray) -> None:
    """Draws of each mistake the distances of its feature to the centroids of its true and its predicted class, [M]."""
    with figures.chart(path, figures.WIDTH, 4.2, "Mistakes in feature space") as ax:
        nearer = predicted < true
        handles = []
        for chosen, color, marker in ((nearer, figures.COLORS[1], "o"), (~nearer, figures.COLORS[0], "^")):
            points = ax.scatter(true[chosen], predicted[chosen], s=14, c=color, marker=marker, alpha=0.6, linewidths=0)
            handles.append(points)
        ends = [0.95 * min(true.min(), predicted.min()), 1.05 * max(true.max(), predicted.max())]
        handles += ax.plot(ends, ends, color="black", linestyle="--", linewidth=1)
        ax.set(xlim=ends, ylim=ends, xlabel="distance to the true class", ylabel="distance to the predicted class")
        ax.set_aspect("equal")
        ax.grid(color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        names = ["nearer to the predicted class", "nearer to the true class", "as near to both"]
        figures.legend(ax.figure, handles, names, loc="outside lower center", ncols=1)

"""Charts of a report as PNG files: curves, bars, histograms; see `figures` about their style."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vision_jax.report import figures
from vision_jax.report.figures import PathLike

_SPLITS = ("train", "val", "test")  # look the same in all plots


def curves(
    path: PathLike,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    ylabel: str,
    xlabel: str = "step",
    yscale: Literal["linear", "log"] = "linear",
    chosen: int | None = None,
    epoch: float | None = None,
    percent: bool = False,
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
        chosen: step of the checkpoint that was chosen, which is marked.
        epoch: steps of one, for a second axis on top.
        percent: y is a share, and drawn in per cent.
    """
    if percent:
        series = {name: [(x, 100.0 * y) for x, y in points] for name, points in series.items()}
        ylabel += " (%)"
    with figures.chart(path, figures.WIDTH, 3.3 + 0.4 * (epoch is not None), title) as ax:
        ax.set_xlabel(xlabel, parse_math=False)
        ax.set_ylabel(ylabel, parse_math=False)
        ax.set_yscale(yscale)
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
                color=figures.COLORS[i % len(figures.COLORS)],
                linestyle=figures.LINES[i % len(figures.LINES)],
                marker=figures.MARKERS[i % len(figures.MARKERS)],
                markersize=4,
                markevery=1 if sparse else max(len(x) // 12, 1),
                linewidth=1.5,
            )
        values = [y for points in series.values() for _, y in points if np.isfinite(y)]
        if values and yscale == "linear" and np.ptp(values) <= 1e-6 * max(map(abs, values)):
            middle = values[0]  # A constant, whose rounding errors are no course.
            ax.set_ylim(*sorted((0.5 * middle, 1.5 * middle)) if middle else (-1, 1))
        if percent:
            ax.set_ylim(top=min(ax.get_ylim()[1], 102.0))  # Of a line at 100 the half is seen.
        if yscale == "linear":
            _plain_numbers(ax.yaxis, max(map(abs, values), default=1.0))
        _steps(ax, chosen, epoch)
        if len(series) > 1:
            figures.legend(ax, lines, list(series), loc="best")


def noisy_curves(
    path: PathLike,
    steps: np.ndarray,
    series: Mapping[str, np.ndarray],
    *,
    window: int,
    title: str,
    ylabel: str,
    chosen: int | None = None,
    epoch: float | None = None,
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
        chosen: as for `curves`.
        epoch: the same.
    """
    with figures.chart(path, 2 * figures.WIDTH, 3.6 + 0.4 * (epoch is not None), title) as ax:
        ax.set_xlabel("step")
        ax.set_ylabel(ylabel, parse_math=False)
        ax.grid(color="#dddddd", linewidth=0.8)
        lines = []
        for i, (name, values) in enumerate(series.items()):
            if len(values) != len(steps):
                raise ValueError(f"Series {name!r} has {len(values)} values for {len(steps)} steps.")
            color, line = figures.COLORS[i % len(figures.COLORS)], figures.LINES[i % len(figures.LINES)]
            shown = np.where(np.isfinite(values), values, np.nan)
            ax.plot(*_extremes(steps, shown), color=color, linewidth=0.5, alpha=0.4)
            # Above all that is pale, on white, where the two meet.
            mean = (steps, running_mean(shown, window))
            ax.plot(*mean, color="white", linewidth=3.2, zorder=3, alpha=0.9)
            lines += ax.plot(*mean, color=color, linestyle=line, linewidth=1.8, zorder=4)
        _steps(ax, chosen, epoch)
        figures.legend(ax, lines, [f"{name}, mean of {window} steps" for name in series], loc="upper right")


def _steps(ax: Any, chosen: int | None, epoch: float | None) -> None:
    """Finishes an axis of steps: whole numbers, epochs on top, the chosen checkpoint."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if epoch is not None:
        top = ax.secondary_xaxis("top", functions=(lambda step: step / epoch, lambda number: number * epoch))
        top.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
        top.set_xlabel("epoch")
    if chosen is not None:
        above = _is_low(ax, chosen)
        ax.axvline(chosen, color="#555555", linestyle="--", linewidth=1, zorder=2.5)
        place = {"xytext": (-3, -4 if above else 4), "ha": "right", "va": "top" if above else "bottom", "rotation": 90}
        at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        name = ax.annotate("chosen", (chosen, float(above)), fontsize=9, color="#555555", **at, **place)
        name.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _is_low(ax: Any, x: float) -> bool:
    """Returns whether lines that come close to `x` lie in the lower half more than in the upper one."""
    places = []
    for line in ax.get_lines():
        known = np.isfinite(line.get_ydata())
        if known.any():
            y = line.get_ydata()[known][np.argmin(np.abs(line.get_xdata()[known] - x))]
            places.append(ax.transAxes.inverted().transform(ax.transData.transform((x, y)))[1])
    return bool(places) and 1 - max(places) > min(places)


def _plain_numbers(axis: Any, largest: float) -> None:
    """Writes each number in full, without a factor or an offset that belongs to all."""
    from matplotlib.ticker import ScalarFormatter, StrMethodFormatter

    if 1e-4 <= largest < 1e6:
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.get_major_formatter().set_scientific(False)
    else:
        axis.set_major_formatter(StrMethodFormatter("{x:.3g}"))


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
    labels = [figures.short(label) for label in labels]
    with figures.chart(path, figures.WIDTH, 1.2 + len(labels) * max(0.17 * len(values), 0.24), title) as ax:
        groups = []
        for i, (name, row) in enumerate(values.items()):
            places = np.arange(len(labels)) + (i - (len(values) - 1) / 2) * height
            color, hatch = figures.COLORS[i % len(figures.COLORS)], figures.HATCHES[i % len(figures.HATCHES)]
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
            figures.legend_below(ax.figure, groups, [figures.short(name) for name in values])


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
    with figures.chart(path, figures.WIDTH, 3.3, title) as ax:
        lines = []
        for i, row in enumerate(values.values()):
            color, line = figures.COLORS[i % len(figures.COLORS)], figures.LINES[i % len(figures.LINES)]
            kind = {"color": color, "edgecolor": "white"} if one else {"histtype": "step", "color": color, "ls": line}
            lines.append(ax.hist(row, edges, density=not one, **kind)[2])
        ax.axvline(mark, color="black", linestyle="--", linewidth=1)
        ax.set_xlabel(xlabel, parse_math=False)
        ax.set_ylabel("mistakes" if one else "density")
        ax.grid(axis="y", color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        if not one:
            figures.legend(ax, [line[0] for line in lines], list(values), loc="best")

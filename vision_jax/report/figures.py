"""What all plots share: size, colors, legends, and the PNG file that a figure becomes.

Matplotlib is used through its objects alone (no pyplot, no display, nothing global) and is loaded by the first plot.
Equal input gives equal files. Names of classes and metrics are shown as they are, never read as formulas. What color
tells, a second sign tells too: line style and marker, hatching, or words.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.report import embedded
from vision_jax.utils import files

DPI = 150  # of charts; a page shows them at 96 per inch, so that they stay crisp on dense screens
WIDTH = 5.4  # inches of curves and bars; a page shows two of them side by side
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # told apart by all eyes
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\")
_NAME = 24  # characters of a class's name in a plot

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def chart(path: PathLike, width: float, height: float, title: str, colors: int = 128) -> Iterator[Any]:
    """Yields the axes of a figure of `width` × `height` inches and writes it to `path` afterwards."""
    with new_figure(path, width, height, colors, drawn=True) as figure:
        ax = figure.add_subplot()
        ax.set_title(title, parse_math=False, fontsize=12)
        ax.spines[["top", "right"]].set_visible(False)
        yield ax


@contextlib.contextmanager
def new_figure(path: PathLike, width: float, height: float, colors: int = 128, *, drawn: bool = False) -> Iterator[Any]:
    """Yields a figure of `width` × `height` inches and writes it to `path` in so many `colors` afterwards.

    A `drawn` one has no photograph in it: a page in dark colors may invert it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    save(figure, path, colors, {embedded.DRAWN: "yes"} if drawn else {})


def short(name: str, most: int = _NAME) -> str:
    """Returns a name that leaves room for others: at most so many characters, on one line."""
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 1]}…"


def legend(owner: Any, handles: Sequence[Any], names: Sequence[str], **place: Any) -> None:
    """Puts a legend into `owner`, axes or a figure, whatever the names look like."""
    for text in owner.legend(handles, names, fontsize=10, framealpha=0.85, **place).get_texts():
        text.set_parse_math(False)


def legend_below(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Puts a legend under the axes, in as many columns as fit."""
    for columns in range(len(names), 0, -1):
        legend(figure, handles, names, loc="outside lower center", ncols=columns)
        (made,) = figure.legends
        if made.get_window_extent().width <= figure.bbox.width:
            return
        if columns > 1:
            made.remove()


def save(figure: Any, path: PathLike, colors: int | None, texts: Mapping[str, str]) -> None:
    """Writes the figure, in few `colors` if given, as a PNG that holds `texts`, no date and no version."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    if colors:  # a third of the size, to the eye the same
        picture = picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    notes = PngInfo()
    for name, text in texts.items():
        notes.add_text(name, text)
    with files.atomic_write(path) as file:
        picture.save(file, format="png", optimize=True, dpi=(figure.dpi, figure.dpi), pnginfo=notes)

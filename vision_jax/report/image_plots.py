"""Images of a report as PNG files, pixel for pixel: grids, tables, comparisons."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from vision_jax.report import embedded, figures
from vision_jax.report.figures import PathLike

_TEXT = 13  # pixels, below and above images
_GAP = 8


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
    places: list[tuple[int, int, int, int]] = []  # of the images: x, y, width, height
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
            top, edge = gap // 2, 0
            if frames and (color := frames[number][column]):
                edge = gap // 2
                rgb = np.array([round(255 * part) for part in to_rgb(color)], np.uint8)
                band[: height + 2 * edge, left - edge : left + wide + edge] = rgb
            places.append((left - edge, y - len(band) + top - edge, wide + 2 * edge, height + 2 * edge))
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
    figures.save(figure, path, None, {embedded.TILES: json.dumps(places)})

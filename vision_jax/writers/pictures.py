"""Pictures of training as PNG grids, `WORKDIR/pictures/EVALUATOR/NAME/STEP.png`, and the images in them again."""

import pathlib
import re
from collections.abc import Mapping

import numpy as np

from vision_jax.utils import files

MOST = 64  # Images in a grid that is written during training.
_GAP = 2  # Pixels between images, white.
_SHAPE = "vision_jax:images"  # Key of the PNG's text that says how many images there are, their height and width.
_FILE = re.compile(r"(\d{8,})\.png")


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays images out in rows, pixel for pixel, with white gaps of 2 pixels between them.

    Args:
        images: uint8 [N, H, W, C], N ≥ 1.
        columns: images per row; unset: as many as make the grid about square (8 for 64).

    Returns:
        uint8 [rows * (H + 2) - 2, columns * (W + 2) - 2, C].
    """
    count, height, width, channels = images.shape
    columns = columns or _columns(count)
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + _GAP, width + _GAP, channels), 255, np.uint8)
    cells[:count, :height, :width] = images
    sheet = cells.reshape(rows, columns, height + _GAP, width + _GAP, channels).swapaxes(1, 2)
    return sheet.reshape(rows * (height + _GAP), columns * (width + _GAP), channels)[:-_GAP, :-_GAP]


def tiles(sheet: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """Cuts the images out of what `grid` made of them, whatever its columns.

    Args:
        sheet: uint8 [_, _, C].
        count: how many images there are.
        height: of an image.
        width: of an image.

    Returns:
        uint8 [count, height, width, C].

    Raises:
        ValueError: it is no grid of so many such images.
    """
    rows, columns = (
        (side + _GAP) // (of_one + _GAP) for side, of_one in zip(sheet.shape[:2], (height, width), strict=True)
    )
    expected = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    if sheet.shape[:2] != expected or not rows * columns - columns < count <= rows * columns:
        raise ValueError(f"A picture of {sheet.shape[0]}×{sheet.shape[1]} is no grid of {count} of {height}×{width}.")
    channels = sheet.shape[2]
    padded = np.pad(sheet, ((0, _GAP), (0, _GAP), (0, 0)))
    cells = padded.reshape(rows, height + _GAP, columns, width + _GAP, channels).swapaxes(1, 2)
    return cells.reshape(-1, height + _GAP, width + _GAP, channels)[:count, :height, :width]


def write(path: pathlib.Path, images: np.ndarray, columns: int | None = None) -> None:
    """Writes the `grid` of images uint8 [N, H, W, C], C = 1 or 3, as a PNG, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    sheet = grid(images, columns)
    shape = PngInfo()
    shape.add_text(_SHAPE, " ".join(map(str, images.shape[:3])))
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(file, "png", pnginfo=shape)


def read(path: pathlib.Path) -> np.ndarray:
    """Returns the images in a file of `write`, uint8 [N, H, W, C].

    Raises:
        ValueError: another program has written the file.
    """
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as picture:
        shape = getattr(picture, "text", {}).get(_SHAPE, "")
        if not re.fullmatch(r"[1-9]\d* [1-9]\d* [1-9]\d*", shape):
            raise ValueError(f"{path} does not say which images are in it; was it written by another program?")
        sheet = np.asarray(picture)
    return tiles(sheet[..., None] if sheet.ndim == 2 else sheet, *map(int, shape.split()))


def written(folder: pathlib.Path) -> dict[str, dict[int, pathlib.Path]]:
    """Returns the files below `WORKDIR/pictures` as {'EVALUATOR/NAME': {step: path}}, steps ascending."""
    found: dict[str, dict[int, pathlib.Path]] = {}
    for path in folder.rglob("*.png"):
        if match := _FILE.fullmatch(path.name):
            found.setdefault(path.parent.relative_to(folder).as_posix(), {})[int(match[1])] = path
    return {name: dict(sorted(paths.items())) for name, paths in sorted(found.items())}


class Pictures:
    """The folder of grids of a run; what is written is on the disk when a call returns."""

    def __init__(self, folder: pathlib.Path, resume_step: int | None):
        """Removes what was written after `resume_step` (None: everything), and what a kill left unfinished."""
        self._folder = folder
        for left in folder.rglob(".*.png.*"):
            left.unlink()
        for paths in written(folder).values():
            for step, path in paths.items():
                if resume_step is None or step > resume_step:
                    path.unlink()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes each batch."""
        for name, batch in images.items():
            if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
                raise ValueError(f"{name!r} cannot be the name of pictures: words with '/' between them can.")
            if len(batch):
                write(self._folder / name / f"{step:08d}.png", batch)


def _columns(count: int) -> int:
    """Returns the side of the smallest square that holds `count`."""
    return int(np.ceil(np.sqrt(count)))

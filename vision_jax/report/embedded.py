"""Pictures as a page holds them: small, at their size on screen, and without glare on dark screens.

A PNG file says what is in it: a chart (`DRAWN`) can be inverted as a whole; what surrounds the images of a grid
(`TILES`) is covered by the same in dark colors, and the images stay as they are.
"""

import base64
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

DRAWN = "vision_jax_drawn"  # Keys of texts in a PNG file.
TILES = "vision_jax_tiles"
CARD, TEXT = (32, 35, 39), (230, 231, 233)  # As the dark page's `--card` and `--text`.
_LOSSLESS = 100_000  # bytes, up to which no loss is worth it
_QUALITY = 85


@dataclasses.dataclass(frozen=True)
class Embedding:
    """A picture for a page.

    Attributes:
        source: `data:` URL.
        cover: `data:` URL of what lies over it on dark screens, or ''.
        drawn: whether it is a chart.
        width: in CSS pixels.
        height: the same.
    """

    source: str
    cover: str
    drawn: bool
    width: int
    height: int


def of_file(path: str | os.PathLike[str]) -> Embedding:
    """Returns a PNG file of this package as a page embeds it."""
    from PIL import Image

    data = pathlib.Path(path).read_bytes()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        dpi = image.info.get("dpi", (96, 96))[0]
        width, height = (round(side * 96 / dpi) for side in image.size)
        if TILES not in image.info:
            return Embedding(_url(data, "png"), "", DRAWN in image.info, width, height)
        tiles = json.loads(image.info[TILES])
        pixels = np.asarray(image.convert("RGB"))
    return Embedding(of_pixels(pixels), of_pixels(cover(pixels, tiles)), False, width, height)


def of_pixels(pixels: np.ndarray) -> str:
    """Returns uint8 [H, W, 1, 3 or 4] as a `data:` URL: without loss where that is small."""
    from PIL import Image

    image = Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels.repeat(3, axis=-1))
    for options in ({"lossless": True, "quality": 100}, {"quality": _QUALITY, "method": 6}):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **options)
        if buffer.tell() <= _LOSSLESS:
            break
    return _url(buffer.getvalue(), "webp")


def cover(pixels: np.ndarray, tiles: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns black writing on white, uint8 [H, W, 3], as light writing on the dark card, clear at `tiles`: [H, W, 4].

    Args:
        pixels: the whole picture.
        tiles: x, y, width and height of each image in it.
    """
    card, text = (np.array((*color, 255), np.float32) for color in (CARD, TEXT))
    dark = np.round(text + (card - text) * (pixels.min(-1, keepdims=True) / np.float32(255))).astype(np.uint8)
    for x, y, width, height in tiles:
        dark[y : y + height, x : x + width] = 0
    return dark


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

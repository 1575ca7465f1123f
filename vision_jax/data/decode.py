"""Image files as people have them -> uint8 RGB, through Pillow.

Pixel values follow torchvision's `default_loader` (`Image.open(f).convert("RGB")`): grey is repeated,
palettes are looked up, an alpha channel is dropped (not composited). Three things differ, because there the
plain conversion shows something else than a picture viewer does: EXIF orientation is applied, 16-bit grey is
scaled by 1/257 (`convert` clips at 255), and pixels without a defined range (32-bit integers beyond 16 bits,
floats) are refused.
"""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

# Endings of image files, compared in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")

# What Pillow may try, whatever the ending says: its other readers (EPS, PDF, ...) run on no stranger's file.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")

# What Pillow's readers raise on files that are damaged or lie about themselves.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, MemoryError,
    struct.error, zlib.error, RuntimeError,
)  # fmt: skip


class ImageError(ValueError):
    """A file that is not a usable image; the message says why."""


def open_rgb(data: bytes | bytearray | memoryview, min_size: int | None = None) -> Image.Image:
    """Decodes the bytes of an image file (first frame) into an upright Pillow image of mode RGB.

    Args:
      data: the whole file.
      min_size: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (by DCT scaling, several times
        faster) as long as both sides keep at least this many pixels. Never enlarges.

    Raises:
      ImageError: the bytes are empty, no image, damaged, cut off, beyond Pillow's bound on pixels, or have
        pixels without a defined range.
    """
    image = _open(data)
    if min_size is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (min_size, min_size))  # pyright: ignore[reportArgumentType]
    try:
        return _to_rgb(_upright(image))
    except ImageError:
        raise
    except _DAMAGE as e:
        raise ImageError(f"damaged or cut off: {_reason(e)}") from e


def image_size(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Height and width of the upright image, read from the file's header without decoding pixels.

    Raises:
      ImageError: as `open_rgb`, as far as the header shows it.
    """
    image = _open(data)
    try:
        turned = _orientation(image) >= 5 and image.format != "TIFF"
    except _DAMAGE as e:
        raise ImageError(f"damaged or cut off: {_reason(e)}") from e
    width, height = image.size
    return (width, height) if turned else (height, width)


def decode_image(path_or_bytes: str | os.PathLike | bytes, min_size: int | None = None) -> np.ndarray:
    """Decodes one image file.

    Args:
      path_or_bytes: a path, or the file's content.
      min_size: permits a smaller decoding of JPEGs, see `open_rgb`.

    Returns:
      uint8 [H, W, 3], RGB, upright, writable.

    Raises:
      ImageError: the file is not a usable image; the message says why (and names the path, if one was given).
      OSError: the file cannot be read.
    """
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        return np.array(open_rgb(path_or_bytes, min_size))
    with open(path_or_bytes, "rb") as f:
        data = f.read()
    try:
        return np.array(open_rgb(data, min_size))
    except ImageError as e:
        raise ImageError(f"{os.fspath(path_or_bytes)}: {e}") from e


def _open(data: bytes | bytearray | memoryview) -> Image.Image:
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise ImageError(
            f"more pixels than Pillow's bound against decompression bombs allows ({e}); if the picture is "
            "genuine, make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from e
    except Image.UnidentifiedImageError as e:
        kinds = ", ".join(_FORMATS)
        raise ImageError(f"not an image ({kinds}): the file begins with {bytes(data[:12])!r}") from e
    except _DAMAGE as e:
        raise ImageError(f"damaged or cut off: {_reason(e)}") from e


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(0x0112, 1)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow's TIFF reader turns the image here itself, and takes the tag away
    return ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ImageError("the pixels are floats, whose range no one knows; save the picture with 8 or 16 bits")
    if image.mode.startswith("I"):  # "I", "I;16", "I;16B", ...
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"the pixels are integers from {low} to {high}, which is neither 8 nor 16 bits; "
                "save the picture with 8 or 16 bits"
            )
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # by way of RGBA: Pillow warns of dropping a palette's transparency
    return image.convert("RGB")

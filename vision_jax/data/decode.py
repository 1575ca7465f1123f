"""Image files as people have them -> uint8 RGB, through Pillow.

Pixel values follow torchvision's `default_loader` (`Image.open(f).convert("RGB")`): gray is repeated,
palettes are looked up, an alpha channel is dropped (not composited). Three things differ, because there the
plain conversion shows something else than a picture viewer does: EXIF orientation is applied, 16-bit gray is
scaled by 1/257 (`convert` clips at 255), and pixels without a defined range (32-bit integers beyond 16 bits,
floats) are refused.
"""

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

# Endings of image files, compared in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")

# What Pillow may try, whatever the ending says: its other readers (EPS, PDF, ...) run on no stranger's file.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")

# What Pillow's readers raise on files that are damaged or lie about themselves.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    RuntimeError,
)


_MAX_ASPECT = 100  # a panorama reaches 20; resizing by the short side multiplies the long one


class ImageError(ValueError):
    """A file that is not a usable image; the message says why."""


class FileContent(bytes):
    """The content of an image file, which remembers where it came from, for messages."""

    path: str = ""

    @classmethod
    def read(cls, path: str) -> "FileContent":
        """Reads a whole file."""
        with open(path, "rb") as f:
            content = cls(f.read())
        content.path = path
        return content


@contextlib.contextmanager
def naming(data: object) -> Iterator[None]:
    """Puts the path of a `FileContent` in front of the message of an `ImageError`."""
    try:
        yield
    except ImageError as e:
        if isinstance(data, FileContent):
            raise ImageError(f"{data.path}: {e}") from e
        raise


def open_image(data: bytes | bytearray | memoryview) -> Image.Image:
    """Reads the header of an image file; no pixel is decoded yet.

    Raises:
      ImageError: the bytes are empty, no image, beyond Pillow's bound on pixels, or a strip more than 100 times as
        long as wide.
    """
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise ImageError(
            f"more pixels than Pillow's bound against decompression bombs allows ({e}); if the picture is "
            "genuine, make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from e
    except Image.UnidentifiedImageError as e:
        kinds = ", ".join(_FORMATS)
        raise ImageError(f"not an image ({kinds}): the file begins with {bytes(data[:12])!r}") from e
    except _DAMAGE as e:
        raise _damaged(e) from e
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise ImageError(
            f"{image.width}×{image.height} pixels are a strip; the long side may be {_MAX_ASPECT} times the short one"
        )
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width that `to_rgb` will give an image just opened, its orientation considered."""
    width, height = image.size
    try:
        # Pillow's TIFF reader turns `size` itself.
        return (width, height) if _orientation(image) >= 5 and image.format != "TIFF" else (height, width)
    except _DAMAGE as e:
        raise _damaged(e) from e


def to_rgb(image: Image.Image, min_size: int | None = None) -> Image.Image:
    """Decodes an image just opened (first frame) into an upright one of mode RGB.

    Args:
      image: from `open_image`.
      min_size: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (by DCT scaling, several times
        faster) as long as both sides keep at least this many pixels. Never enlarges.

    Raises:
      ImageError: the file is damaged or cut off, or its pixels have no defined range.
    """
    try:
        if min_size is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (min_size, min_size))  # pyright: ignore[reportArgumentType]
        image.load()  # Pillow's TIFF reader turns the image here, and takes the tag away
        if _orientation(image) in range(2, 9):
            image = ImageOps.exif_transpose(image)
        return _convert(image)
    except ImageError:
        raise
    except _DAMAGE as e:
        raise _damaged(e) from e


def decode_image(path_or_bytes: str | os.PathLike | bytes, min_size: int | None = None) -> np.ndarray:
    """Decodes one image file.

    Args:
      path_or_bytes: a path, or the file's content.
      min_size: permits a smaller decoding of JPEGs, see `to_rgb`.

    Returns:
      uint8 [H, W, 3], RGB, upright, writable.

    Raises:
      ImageError: the file is not a usable image; the message says why (and names the path, if one was given).
      OSError: the file cannot be read.
    """
    data = path_or_bytes
    if isinstance(data, str | os.PathLike):
        data = FileContent.read(os.fspath(data))
    with naming(data):
        return np.array(to_rgb(open_image(data), min_size))


def _damaged(error: BaseException) -> ImageError:
    return ImageError(f"damaged or cut off: {str(error) or type(error).__name__}")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(0x0112, 1)


def _convert(image: Image.Image) -> Image.Image:
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

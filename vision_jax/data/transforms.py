"""What happens to a photo on the host: resizing and cropping to the one size a batch needs.

A transform takes an example and gives a new one whose 'image' is uint8 [size, size, 3]; the example's image is
uint8 [H, W, 3] or the bytes of an image file (`folder.undecoded`), which spares copies and lets a large JPEG be
decoded at a fraction of its size. Everything else (flips, colors, erasing) is done on the device, in batches.

Transforms are frozen dataclasses, so that worker processes can receive them. A random one draws from the
generator it is handed and from nothing else.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from vision_jax.data import decode
from vision_jax.utils.text import closest

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the photo, resized to size x size.

    The part has `scale` (uniform) of the photo's area and an aspect ratio of `ratio` (log-uniform); after ten
    draws that do not fit, it is the largest centered part with an allowed ratio. This is the crop of Szegedy et
    al., "Going Deeper with Convolutions", CVPR 2015, with torchvision's distribution and, for equal parts, its
    pixels (Pillow's antialiased filter).

    Attributes:
      size: side of the result, in pixels.
      scale: least and largest part of the area, in (0, 1].
      ratio: least and largest width / height.
      interpolation: a key of `FILTERS`.
      shrink: a JPEG given as bytes is decoded at 1/2, 1/4 or 1/8 where the part keeps twice `size` in both
        directions (Pillow calls the result of a later resize "almost indistinguishable"); False decodes
        all pixels.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    shrink: bool = True

    def __post_init__(self):
        _check_filter(self.interpolation)
        if self.size < 1:
            raise ValueError(f"RandomResizedCrop(size={self.size}): expected at least one pixel.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"RandomResizedCrop(scale={self.scale}): expected 0 < least <= largest <= 1.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"RandomResizedCrop(ratio={self.ratio}): expected 0 < least <= largest.")

    def part(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draws (top, left, height, width) within an image of that size."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        return (height - h) // 2, (width - w) // 2, h, w

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Returns the example with its image cropped and resized."""
        with decode.naming(example["image"]):
            return {**example, "image": self._image(example["image"], rng)}

    def _image(self, data: bytes | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if isinstance(data, bytes):
            image = decode.open_image(data)
            height, width = decode.upright_size(image)
            top, left, h, w = self.part(height, width, rng)
            # The part covers h/height of whatever is decoded: this short side leaves it 2 * size pixels.
            needed = math.ceil(2 * self.size * min(height, width) / min(h, w))
            image = decode.to_rgb(image, needed if self.shrink else None)
        else:
            image = pillow(data)
            width, height = image.size
            top, left, h, w = self.part(height, width, rng)
        if image.size != (width, height):
            x, y = image.width / width, image.height / height
            box = (left * x, top * y, (left + w) * x, (top + h) * y)
            return np.array(image.resize((self.size, self.size), FILTERS[self.interpolation], box))
        # Cropping first keeps the filter inside the part, as torchvision does.
        image = image.crop((left, top, left + w, top + h))
        return np.array(image.resize((self.size, self.size), FILTERS[self.interpolation]))


@dataclasses.dataclass(frozen=True)
class ResizeCenterCrop:
    """The evaluation's view of a photo: short side to `resize`, then the central crop x crop pixels.

    Equal, pixel for pixel, to torchvision's `Resize(resize)` and `CenterCrop(crop)` on a Pillow image; with
    weights, take the values stored with them.

    Attributes:
      resize: short side after resizing, in pixels; the long side is rounded down.
      crop: side of the result, in pixels; at most `resize`.
      interpolation: a key of `FILTERS`.
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"

    def __post_init__(self):
        _check_filter(self.interpolation)
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"ResizeCenterCrop(resize={self.resize}, crop={self.crop}): expected 1 <= crop <= resize.")

    @property
    def words(self) -> str:
        """The transform for people."""
        filtered = f"short side to {self.resize} by {self.interpolation} interpolation"
        return f"{filtered}, central {self.crop}×{self.crop}"

    def __call__(self, example: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Returns the example with its image resized and cropped; draws nothing."""
        del rng
        image = resize_short_side(pillow(example["image"]), self.resize, self.interpolation)
        left = round((image.width - self.crop) / 2)  # halves to even, as Python and torchvision round
        top = round((image.height - self.crop) / 2)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        return {**example, "image": np.array(image)}


def for_config(data: ConfigDict) -> tuple[RandomResizedCrop | ResizeCenterCrop | None, ResizeCenterCrop | None]:
    """Returns what the config's section `data` does to photos, in training and in evaluation; None is nothing."""
    if not data.image_size:
        return None, None
    resized = round(data.image_size / data.crop_fraction)
    center = ResizeCenterCrop(resize=resized, crop=data.image_size, interpolation=data.interpolation)
    if data.train_crop == "center":
        return center, center
    return RandomResizedCrop(data.image_size, interpolation=data.interpolation), center


def resize_short_side(image: Image.Image, size: int, interpolation: str = "bilinear") -> Image.Image:
    """Resizes so that the short side has `size` pixels, the long one in proportion, rounded down."""
    short, long = sorted(image.size)
    long = int(size * long / short)
    shape = (size, long) if image.width <= image.height else (long, size)
    return image if shape == image.size else image.resize(shape, FILTERS[interpolation])


def pillow(image: bytes | np.ndarray) -> Image.Image:
    """Returns an image, uint8 [H, W, 1 or 3] or a file's bytes, as one of Pillow's with three channels."""
    if isinstance(image, bytes):
        with decode.naming(image):
            return decode.to_rgb(decode.open_image(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"expected uint8 [H, W, 1 or 3] or a file's bytes; found {image.dtype} {image.shape}.")
    return Image.fromarray(image if image.shape[2] == 3 else np.repeat(image, 3, 2))


def _check_filter(name: str) -> None:
    if name not in FILTERS:
        raise ValueError(f"interpolation {name!r} is none of {', '.join(FILTERS)}{closest(name, FILTERS)}.")

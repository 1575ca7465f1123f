"""Augmentations that move pixels: flips, quarter turns, crops, rotation, affine maps, translation.

Flips, crops and translations move whole pixels and keep values as they are. Warps and resizing take
weighted means of pixels and the fill color. So all keep the range [0, 1].
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Key

from vision_jax.data.augment.base import (
    FILL,
    INTERPOLATION,
    PROBABILITY,
    Batch,
    Choice,
    Fractions,
    Integer,
    Interval,
    Number,
    Operation,
    Size,
    between,
    first_valid,
    levels,
    option,
    place_in_training,
    spec_name,
    whole,
)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Operation):
    """Mirror left and right with probability p."""

    paired: ClassVar[bool] = True
    p: float = option(0.5, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, self.p)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        return jnp.where(drawn, image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(Operation):
    """Mirror left and right every other epoch, half of the images in the even and half in the odd ones.

    So two epochs in a row show both sides of every image, where random flips show the same one in half of the cases.
    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), section 3.6. Which half an image is in depends on
    its number in the split alone.
    """

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        return jnp.where(drawn, image[:, ::-1], image)

    def on_batch(self, keys: Key[Array, " n"], batch: Batch, num_classes: int | None) -> dict[str, jax.Array]:
        del keys, num_classes
        image = batch["image"]
        number = batch.get("index", jnp.arange(len(image), dtype=jnp.int32))
        half = jax.vmap(lambda n: jax.random.bernoulli(jax.random.fold_in(jax.random.key(0), n)))(number)
        odd = place_in_training(batch, "epoch", jnp.zeros_like(number)) % 2 == 1
        return {**batch, "image": jax.vmap(self.apply)(image, half != odd)}


@dataclasses.dataclass(frozen=True)
class VerticalFlip(Operation):
    """Mirror top and bottom with probability p."""

    paired: ClassVar[bool] = True
    p: float = option(0.5, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, self.p)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        return jnp.where(drawn, image[::-1], image)


def _require_square(operation: Operation, shape: tuple[int, ...]) -> None:
    if shape[0] != shape[1]:
        name = spec_name(type(operation))
        raise ValueError(f"{name} needs square images, found {shape[0]}x{shape[1]}: crop to a square before it.")


@dataclasses.dataclass(frozen=True)
class Transpose(Operation):
    """Mirror at the main diagonal with probability p; square images only."""

    paired: ClassVar[bool] = True
    p: float = option(0.5, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, self.p)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        _require_square(self, image.shape)
        return jnp.where(drawn, image.swapaxes(0, 1), image)


@dataclasses.dataclass(frozen=True)
class Rot90(Operation):
    """Turn counter-clockwise by 0, 1, 2 or 3 quarter turns, equally likely; square images only."""

    paired: ClassVar[bool] = True

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return whole(jax.random.uniform(key), 4)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        _require_square(self, image.shape)
        # Every quarter turn is at most one transpose and two mirrors.
        turned = jnp.where((drawn == 1) | (drawn == 3), image.swapaxes(0, 1), image)
        turned = jnp.where((drawn == 1) | (drawn == 2), turned[::-1], turned)
        return jnp.where((drawn == 2) | (drawn == 3), turned[:, ::-1], turned)


@dataclasses.dataclass(frozen=True)
class RandomCrop(Operation):
    """Pad every side by `padding` pixels, then cut the original size out at a uniform offset.

    `mode='zero'` pads with black, `'reflect'` mirrors without repeating the border pixel. The crop of the
    CIFAR recipes since "Deeply-supervised nets" (Lee et al., 2014); matches torchvision's pad and
    RandomCrop.
    """

    padding: int = option(4, Integer(0))
    mode: str = option("zero", Choice(("zero", "reflect")))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return whole(jax.random.uniform(key, (2,)), 2 * self.padding + 1)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        pad = self.padding
        if self.mode == "reflect" and pad >= min(image.shape[:2]):
            raise ValueError(
                f"random_crop(padding={pad}, mode='reflect') needs images larger than the padding, "
                f"found {image.shape[0]}x{image.shape[1]}."
            )
        mode = "reflect" if self.mode == "reflect" else "constant"
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
        return _window(padded, drawn, image.shape)


def _window(image: Float[Array, "h w c"], start: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The window of `shape` [H, W, C] whose first row and column are start[0] and start[1]."""
    return jax.lax.dynamic_slice(image, (start[0], start[1], jnp.zeros_like(start[0])), shape)


@dataclasses.dataclass(frozen=True)
class Translate(Operation):
    """Shift by whole pixels, up to the fractions `x` of the width and `y` of the height, both ways."""

    x: float = option(0.125, Number(0, 1))
    y: float = option(0.125, Number(0, 1))
    fill: float | tuple[float, ...] = option(0.0, FILL)

    def _reach(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return round(self.y * shape[0]), round(self.x * shape[1])

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        reach = jnp.asarray(self._reach(shape), jnp.int32)
        return whole(jax.random.uniform(key, (2,)), 2 * reach + 1) - reach

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        height, width, channels = image.shape
        down, right = self._reach(image.shape)
        fill = levels(self.fill, channels, "translate")
        canvas = jnp.broadcast_to(fill, (height + 2 * down, width + 2 * right, channels))
        canvas = canvas.at[down : down + height, right : right + width].set(image)
        return _window(canvas, jnp.asarray([down, right], jnp.int32) - drawn, image.shape)


class Box(NamedTuple):
    """A rectangle in pixels, float32 with whole values."""

    top: Float[Array, ""]
    left: Float[Array, ""]
    height: Float[Array, ""]
    width: Float[Array, ""]


BOX_DRAWS = 22


def sample_box(
    uniform: Float32[Array, " draws"],
    shape: tuple[int, ...],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    tall: bool,
    strict: bool,
) -> tuple[Box, Bool[Array, ""]]:
    """Ten tries for a rectangle of random area and shape, the first that fits, at a uniform place.

    Args:
      uniform: BOX_DRAWS draws in [0, 1).
      shape: of the image, [H, W, C].
      scale: range of the rectangle's area as a fraction of the image's.
      ratio: range of its aspect ratio, drawn uniformly in the logarithm.
      tall: whether the ratio is height / width (random erasing) or width / height (random resized crop).
      strict: whether a side as long as the image's is refused.

    Returns:
      The rectangle, and whether any try fitted.
    """
    height, width = shape[:2]
    area = height * width * between(uniform[:10], *scale)
    log_ratio = between(uniform[10:20], math.log(ratio[0]), math.log(ratio[1]))
    factor = jnp.exp(log_ratio if tall else -log_ratio)
    box_height, box_width = jnp.round(jnp.sqrt(area * factor)), jnp.round(jnp.sqrt(area / factor))
    slack = 1 if strict else 0
    fits = (box_height <= height - slack) & (box_width <= width - slack) & (box_height > 0) & (box_width > 0)
    full = (jnp.float32(height), jnp.float32(width))
    box_height, box_width = first_valid((box_height, box_width), fits, full)
    top = jnp.floor(uniform[20] * (height - box_height + 1))
    left = jnp.floor(uniform[21] * (width - box_width + 1))
    return Box(top, left, box_height, box_width), jnp.any(fits)


def _resize_weights(start: jax.Array, length: jax.Array, size_in: int, size_out: int) -> jax.Array:
    """Weights [size_out, size_in] of antialiased bilinear resizing of the window [start, start + length)."""
    step = length / size_out
    center = start + (jnp.arange(size_out, dtype=jnp.float32) + 0.5) * step
    pixel = jnp.arange(size_in, dtype=jnp.float32)
    distance = jnp.abs(pixel[None, :] + 0.5 - center[:, None]) / jnp.maximum(step, 1.0)
    inside = (pixel >= start) & (pixel < start + length)
    weights = jnp.where(inside[None, :], jnp.maximum(1.0 - distance, 0.0), 0.0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Operation):
    """Cut out a window of random area and shape and resize it to `size`.

    Resizing is bilinear, antialiased where it shrinks. `scale` is the window's area as a fraction of the
    image's, `ratio` its width / height. The Inception crop (Szegedy et al., 2014); matches torchvision's
    RandomResizedCrop with antialias=True, its central fallback included.
    """

    size: tuple[int, int] | None = option(None, Size())
    scale: tuple[float, float] = option((0.08, 1.0), Interval(0, 1, above=True))
    ratio: tuple[float, float] = option((3 / 4, 4 / 3), Interval(0, above=True))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Box:
        uniform = jax.random.uniform(key, (BOX_DRAWS,))
        box, fitted = sample_box(uniform, shape, self.scale, self.ratio, tall=False, strict=False)
        central = self._central(shape)
        return jax.tree.map(lambda drawn, fallback: jnp.where(fitted, drawn, fallback), box, central)

    def _central(self, shape: tuple[int, ...]) -> Box:
        """The largest central window within the range of ratios."""
        height, width = shape[:2]
        if width / height < self.ratio[0]:
            height = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            width = round(height * self.ratio[1])
        sides = ((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)
        return Box(*(jnp.float32(side) for side in sides))

    def apply(self, image: Float[Array, "h w c"], drawn: Box) -> Float[Array, "h2 w2 c"]:
        height, width, _ = image.shape
        size = self.size or (height, width)
        # Two small matrix products: no gather, and the antialias filter costs nothing extra.
        rows = _resize_weights(drawn.top, drawn.height, height, size[0])
        columns = _resize_weights(drawn.left, drawn.width, width, size[1])
        resized = jnp.tensordot(rows, image, axes=1, precision="highest")
        return jnp.einsum("vw,hwc->hvc", columns, resized, precision="highest")


def inverse_affine(
    angle: Float[ArrayLike, ""],
    translate: tuple[Float[ArrayLike, ""], Float[ArrayLike, ""]] = (0.0, 0.0),
    scale: Float[ArrayLike, ""] = 1.0,
    shear: Float[ArrayLike, ""] = 0.0,
) -> Float32[Array, "2 3"]:
    """The matrix from output to input positions of a map around the image's center.

    Positions are (x, y) in pixels from the center, y down. The forward map shears along x by `shear`
    degrees, scales by `scale`, turns clockwise by `angle` degrees, then shifts by `translate` (x, y)
    pixels: torchvision's `affine`.
    """
    turn, slant = jnp.deg2rad(jnp.float32(angle)), jnp.tan(jnp.deg2rad(jnp.float32(shear)))
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    # Inverse of the rotation after the shear; its determinant is one before scaling.
    linear = jnp.stack([jnp.stack([cos - slant * sin, sin + slant * cos]), jnp.stack([-sin, cos])]) / scale
    shift = jnp.stack([jnp.float32(translate[0]), jnp.float32(translate[1])])
    offset = -jnp.sum(linear * shift[None, :], axis=1)
    return jnp.concatenate([linear, offset[:, None]], axis=1)


def warp(
    image: Float32[Array, "h w c"], matrix: Float32[Array, "2 3"], fill: float | tuple[float, ...], interpolation: str
) -> Float32[Array, "h w c"]:
    """Resamples one image: output (x, y), from the center, is the input at matrix @ (x, y, 1).

    Outside the image lies the fill color; bilinear interpolation blends into it within one pixel of the
    edge. There is no antialiasing where the map shrinks the image. Matches torchvision for float tensors
    (with a fill other than black, torchvision weights that one-pixel seam twice).

    `fill` is a level or a level per channel, `interpolation` 'nearest' or 'bilinear'.
    """
    height, width, channels = image.shape
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    # +1: positions in the image framed by one pixel of fill; everything further out is that frame, too.
    column = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + (width - 1) / 2 + 1
    row = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + (height - 1) / 2 + 1
    column, row = jnp.clip(column, 0.0, width + 1.0), jnp.clip(row, 0.0, height + 1.0)
    canvas = jnp.broadcast_to(levels(fill, channels, "fill"), (height + 2, width + 2, channels))
    canvas = canvas.at[1:-1, 1:-1].set(image)

    if interpolation == "nearest":
        flat = jnp.round(row).astype(jnp.int32) * (width + 2) + jnp.round(column).astype(jnp.int32)
        return canvas.reshape(-1, channels).at[flat].get(mode="promise_in_bounds")

    top, left = jnp.minimum(jnp.floor(row), float(height)), jnp.minimum(jnp.floor(column), float(width))
    # One gather of 2x2 windows is faster than four of single pixels.
    windows = jax.lax.gather(
        canvas,
        jnp.stack([top, left], axis=-1).astype(jnp.int32),
        jax.lax.GatherDimensionNumbers(offset_dims=(2, 3, 4), collapsed_slice_dims=(), start_index_map=(0, 1)),
        slice_sizes=(2, 2, channels),
        mode="promise_in_bounds",
    )
    # Hat weights rather than fractions: a compiler that computes `row` twice with different rounding, once
    # for the index and once for the weight, then changes the result by a rounding error and not by a pixel.
    down, right = (row - top)[..., None], (column - left)[..., None]
    up, down = jnp.maximum(1.0 - down, 0.0), jnp.maximum(1.0 - jnp.abs(down - 1.0), 0.0)
    left, right = jnp.maximum(1.0 - right, 0.0), jnp.maximum(1.0 - jnp.abs(right - 1.0), 0.0)
    above = left * windows[..., 0, 0, :] + right * windows[..., 0, 1, :]
    below = left * windows[..., 1, 0, :] + right * windows[..., 1, 1, :]
    return up * above + down * below


@dataclasses.dataclass(frozen=True)
class Rotation(Operation):
    """Turn counter-clockwise around the center by a uniform angle (degrees); torchvision's RandomRotation."""

    degrees: tuple[float, float] = option(15.0, Interval(-360, 360, center=0))
    fill: float | tuple[float, ...] = option(0.0, FILL)
    interpolation: str = option("bilinear", INTERPOLATION)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return between(jax.random.uniform(key), *self.degrees)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        return warp(image, inverse_affine(-drawn), self.fill, self.interpolation)


@dataclasses.dataclass(frozen=True)
class Affine(Operation):
    """Turn, shift, scale and shear (along x) around the center; matches torchvision's RandomAffine.

    `degrees` and `shear` are ranges of angles (clockwise), `translate` the largest shift as fractions of
    width and height (whole pixels are drawn), `scale` a range of factors.
    """

    degrees: tuple[float, float] = option(10.0, Interval(-360, 360, center=0))
    translate: tuple[float, float] = option((0.1, 0.1), Fractions())
    scale: tuple[float, float] = option((0.9, 1.1), Interval(0, above=True))
    shear: tuple[float, float] = option(0.0, Interval(-89, 89, center=0))
    fill: float | tuple[float, ...] = option(0.0, FILL)
    interpolation: str = option("bilinear", INTERPOLATION)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> dict[str, Any]:
        uniform = jax.random.uniform(key, (5,))
        height, width = shape[:2]
        across, along = self.translate[0] * width, self.translate[1] * height
        return {
            "angle": between(uniform[0], *self.degrees),
            "translate": (
                jnp.round(between(uniform[1], -across, across)),
                jnp.round(between(uniform[2], -along, along)),
            ),
            "scale": between(uniform[3], *self.scale),
            "shear": between(uniform[4], *self.shear),
        }

    def apply(self, image: Float[Array, "h w c"], drawn: dict[str, Any]) -> Float[Array, "h w c"]:
        return warp(image, inverse_affine(**drawn), self.fill, self.interpolation)

"""Augmentations that change values in place: color jitter, grayscale, the policies' point operations.

All keep the range [0, 1]. They match torchvision's functions for float tensors (which are Pillow's up to
its rounding to 256 levels), except `posterize` and `equalize`, which torchvision has for bytes alone: they
read the image as 256 levels.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key

from vision_jax.data.augment.base import PROBABILITY, Interval, Operation, between, option


def _channels(image: jax.Array) -> int:
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"Color augmentation needs images with 1 or 3 channels, found {channels}.")
    return channels


def luma(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """The gray version of an image with 1 or 3 channels (weights .2989, .587, .114)."""
    return image if _channels(image) == 1 else jnp.asarray(dm_pix.rgb_to_grayscale(image))


def blend(
    image: Float[Array, "*shape"], other: Float[ArrayLike, "*#shape"], factor: Float[ArrayLike, ""]
) -> Float[Array, "*shape"]:
    """Factor * image + (1 - factor) * other, clipped to [0, 1]; factors above one move away from `other`."""
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def brightness(image: Float[Array, "h w c"], factor: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Blends with black: 0 is black, 1 the image."""
    return blend(image, 0.0, factor)


def contrast(image: Float[Array, "h w c"], factor: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Blends with the mean of the gray image: 0 is a gray plane, 1 the image."""
    return blend(image, jnp.mean(luma(image)), factor)


def saturation(image: Float[Array, "h w c"], factor: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Blends with the gray image: 0 is gray, 1 the image."""
    return blend(image, luma(image), factor)


def hue(image: Float[Array, "a b c"], turn: Float[ArrayLike, ""], channel_axis: int = -1) -> Float[Array, "a b c"]:
    """Turns the hue of an RGB image in HSV space by `turn` of a circle, in [-0.5, 0.5]."""
    # dm_pix adds a boolean to a float, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.asarray(dm_pix.adjust_hue(image, turn, channel_axis=channel_axis))


def sharpness(image: Float[Array, "h w c"], factor: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Blends with a 3x3-smoothed image, the border excepted: 0 is smooth, 1 the image."""
    return blend(image, smooth(image), factor)


def smooth(image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """The interior filtered by the 3x3 kernel of ones with 5 in the middle, over 13; the border stays."""
    height, width = image.shape[:2]
    if min(height, width) <= 2:
        return image
    total = 4.0 * image[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += image[row : row + height - 2, column : column + width - 2]
    return image.at[1:-1, 1:-1].set(total / 13.0)


def solarize(image: Float[Array, "h w c"], threshold: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Inverts the values at or above `threshold`, in [0, 1]."""
    return jnp.asarray(dm_pix.solarize(image, threshold))


def posterize(image: Float[Array, "h w c"], bits: Float[ArrayLike, ""]) -> Float[Array, "h w c"]:
    """Keeps the `bits` (1 to 8, float32) highest bits of each of the image's 256 levels."""
    step = jnp.exp2(8.0 - bits)
    return jnp.floor(jnp.round(image * 255.0) / step) * step / 255.0


def autocontrast(image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Stretches each channel to [0, 1]; a channel of one value stays as it is."""
    low, high = jnp.min(image, axis=(0, 1)), jnp.max(image, axis=(0, 1))
    flat = high <= low
    scale = jnp.where(flat, 1.0, 1.0 / jnp.where(flat, 1.0, high - low))
    return jnp.clip((image - jnp.where(flat, 0.0, low)) * scale, 0.0, 1.0)


def equalize(image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Flattens the histogram of each channel's 256 levels, as Pillow does."""
    byte = jnp.round(image * 255.0).astype(jnp.int32)
    pixels = image.shape[0] * image.shape[1]

    def table(values: jax.Array) -> jax.Array:
        histogram = jnp.zeros((256,), jnp.int32).at[values].add(1, mode="promise_in_bounds")
        # The step leaves out the brightest level that occurs; a step of zero leaves the channel alone.
        step = (pixels - histogram[jnp.max(values)]) // 255
        below = jnp.cumsum(histogram) - histogram
        mapped = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step == 0, jnp.arange(256, dtype=jnp.int32), mapped)

    def channel(values: jax.Array) -> jax.Array:
        return table(values.reshape(-1)).at[values].get(mode="promise_in_bounds")

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(byte).astype(jnp.float32) / 255.0


@dataclasses.dataclass(frozen=True)
class Grayscale(Operation):
    """Replace the image by its gray version (same number of channels) with probability p."""

    paired: ClassVar[bool] = True
    p: float = option(0.1, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, self.p)

    def apply(self, image: Float[Array, "h w c"], drawn: jax.Array) -> Float[Array, "h w c"]:
        return jnp.where(drawn, luma(image), image)


class Jitter(NamedTuple):
    """The drawn steps of a color jitter, in the order of their application."""

    step: Int[Array, " steps"]  # position in `ColorJitter.active`
    factor: Float[Array, " steps"]


@dataclasses.dataclass(frozen=True)
class ColorJitter(Operation):
    """Change brightness, contrast, saturation and hue by random factors, in a random order.

    Matches torchvision's ColorJitter. A number d means factors from 1 - d (at least 0) to 1 + d, for hue
    turns from -d to d of the circle; a pair gives the range itself. A pair of images gets the same factors,
    order and (for contrast) mean gray level.
    """

    paired: ClassVar[bool] = True
    brightness: tuple[float, float] = option(0.0, Interval(0, center=1))
    contrast: tuple[float, float] = option(0.0, Interval(0, center=1))
    saturation: tuple[float, float] = option(0.0, Interval(0, center=1))
    hue: tuple[float, float] = option(0.0, Interval(-0.5, 0.5, center=0))

    def active(self, channels: int) -> tuple[str, ...]:
        """The steps that change anything."""
        names = ("brightness", "contrast", "saturation", "hue") if channels == 3 else ("brightness", "contrast")
        return tuple(name for name in names if getattr(self, name) != ((0.0, 0.0) if name == "hue" else (1.0, 1.0)))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Jitter:
        ranges = [getattr(self, name) for name in self.active(shape[-1])]
        if not ranges:
            return Jitter(jnp.zeros((0,), jnp.int32), jnp.zeros((0,), jnp.float32))
        low, high = (jnp.asarray(bound, jnp.float32) for bound in zip(*ranges, strict=True))
        uniform = jax.random.uniform(key, (2, len(ranges)))
        # The ranks of independent draws are a uniform permutation (by comparison: sorting compiles slowly).
        order = jnp.sum(uniform[0][:, None] > uniform[0][None, :], axis=1)
        return Jitter(order, between(uniform[1], low, high)[order])

    def apply(self, image: Float[Array, "h w c"], drawn: Jitter) -> Float[Array, "h w c"]:
        return self._jitter((image,), drawn)[0]

    def apply_pair(
        self, high: Float[Array, "h w c"], low: Float[Array, "h2 w2 c"], drawn: Jitter
    ) -> tuple[Float[Array, "h w c"], Float[Array, "h2 w2 c"]]:
        high, low = self._jitter((high, low), drawn)
        return high, low

    def _jitter(self, images: Sequence[jax.Array], drawn: Jitter) -> list[jax.Array]:
        """Applies the same steps to all images; the mean gray level of contrast is the first one's."""
        names = self.active(_channels(images[0]))
        # Channel planes instead of a last axis of three: this runs several times faster on CPU.
        planes = [[image[..., channel] for channel in range(image.shape[-1])] for image in images]
        for position in range(len(names)):
            step, factor = drawn.step[position], drawn.factor[position]
            mean = jnp.mean(_gray_plane(planes[0]))
            planes = [_jitter_step(image, names, step, factor, mean) for image in planes]
        return [jnp.stack(image, axis=-1) for image in planes]


def _gray_plane(planes: list[jax.Array]) -> jax.Array:
    return planes[0] if len(planes) == 1 else luma(jnp.stack(planes, axis=-1))[..., 0]


def _jitter_step(
    planes: list[jax.Array], names: tuple[str, ...], step: jax.Array, factor: jax.Array, mean: jax.Array
) -> list[jax.Array]:
    """One step of a jitter: three of the four are one blend with different partners, so a select decides."""
    partner = jnp.zeros_like(planes[0])
    if "contrast" in names:
        partner = jnp.where(step == names.index("contrast"), mean, partner)
    if "saturation" in names:
        partner = jnp.where(step == names.index("saturation"), _gray_plane(planes), partner)
    blended = [blend(plane, partner, factor) for plane in planes]
    if "hue" not in names:
        return blended
    turned = hue(jnp.stack(planes), factor, channel_axis=0)
    return [jnp.where(step == names.index("hue"), turned[i], plane) for i, plane in enumerate(blended)]

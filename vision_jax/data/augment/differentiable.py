"""DiffAugment: augmentations of real and generated images alike, through which gradients pass to the generator.

Source: Zhao et al. 2020 (arXiv 2006.10738). Reference implementation: `DiffAugment_pytorch.py` of its authors, whose
order and ranges these are.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

POLICIES = ("color", "translation", "cutout")


def diff_augment(
    key: Key[Array, ""], images: Float[Array, "n h w c"], policies: Sequence[str]
) -> Float[Array, "n h w c"]:
    """Augments each image of a batch, in [-1, 1], with draws of its own; the policies apply in the order given."""
    for number, policy in enumerate(policies):
        images = _POLICIES[policy](jax.random.fold_in(key, number), images)
    return images


def color(
    images: Float[Array, "n h w c"],
    brightness: Float[Array, " n"],
    saturation: Float[Array, " n"],
    contrast: Float[Array, " n"],
) -> Float[Array, "n h w c"]:
    """Adds `brightness`, then scales the distance to the pixel's gray, then that to the image's mean."""
    images = images + _per_image(brightness)
    gray = jnp.mean(images, 3, keepdims=True)
    images = (images - gray) * _per_image(saturation) + gray
    mean = jnp.mean(images, (1, 2, 3), keepdims=True)
    return (images - mean) * _per_image(contrast) + mean


def translate(
    images: Float[Array, "n h w c"], down: Int[Array, " n"], right: Int[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Moves each image by whole pixels; zeros (mid-gray) come in."""
    height, width = images.shape[1:3]

    def one(image: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((height, height), (width, width), (0, 0)))
        return jax.lax.dynamic_slice(padded, (height - down, width - right, 0), image.shape)

    return jax.vmap(one)(images, down, right)


def cut_out(
    images: Float[Array, "n h w c"], top: Int[Array, " n"], left: Int[Array, " n"], size: tuple[int, int]
) -> Float[Array, "n h w c"]:
    """Sets a rectangle of `size` (height, width) to zero, whose corner may lie outside the image."""
    rows, columns = jnp.arange(images.shape[1]), jnp.arange(images.shape[2])
    inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + size[0])
    inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + size[1])
    return jnp.where((inside_rows[:, :, None] & inside_columns[:, None, :])[..., None], 0.0, images)


def _per_image(values: jax.Array) -> jax.Array:
    return values[:, None, None, None]


def _color(key: jax.Array, images: jax.Array) -> jax.Array:
    brightness, saturation, contrast = jax.random.uniform(key, (3, images.shape[0]))
    return color(images, brightness - 0.5, 2.0 * saturation, contrast + 0.5)


def _translation(key: jax.Array, images: jax.Array) -> jax.Array:
    n, *sides = images.shape[:3]
    furthest = [int(side * 0.125 + 0.5) for side in sides]
    down, right = (
        jax.random.randint(k, (n,), -most, most + 1) for k, most in zip(jax.random.split(key), furthest, strict=True)
    )
    return translate(images, down, right)


def _cutout(key: jax.Array, images: jax.Array) -> jax.Array:
    n, *sides = images.shape[:3]
    size = [int(side * 0.5 + 0.5) for side in sides]
    top, left = (
        jax.random.randint(k, (n,), 0, side + (1 - cut % 2)) - cut // 2
        for k, side, cut in zip(jax.random.split(key), sides, size, strict=True)
    )
    return cut_out(images, top, left, (size[0], size[1]))


_POLICIES = {"color": _color, "translation": _translation, "cutout": _cutout}

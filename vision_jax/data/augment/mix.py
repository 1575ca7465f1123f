"""Augmentations that remove or mix content: Cutout, random erasing, Mixup, CutMix.

Mixup and CutMix pair every image with the one before it in the batch (the first with the last). Batches are
shuffled, so the neighbor is as random as a drawn partner, and across devices it costs one exchange of
single images instead of a gather of the whole batch. They add `target`, float32 [N, num_classes]: the
labels in the same proportion as the images (of an earlier `target`, where there is one). All keep the range
[0, 1].
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from vision_jax.data.augment.base import (
    FILL,
    PROBABILITY,
    Batch,
    Color,
    Integer,
    Interval,
    Number,
    Operation,
    levels,
    option,
    whole,
)
from vision_jax.data.augment.geometry import BOX_DRAWS, Box, sample_box


def _inside(box: Box, height: int, width: int) -> jax.Array:
    """Whether each pixel lies in the rectangle: bool [H, W, 1]."""
    row, column = (
        jnp.arange(height, dtype=jnp.float32)[:, None, None],
        jnp.arange(width, dtype=jnp.float32)[:, None],
    )
    rows = (row >= box.top) & (row < box.top + box.height)
    return rows & (column >= box.left) & (column < box.left + box.width)


@dataclasses.dataclass(frozen=True)
class Cutout(Operation):
    """Cover one square of `size` pixels with `value`; its center is any pixel, so the square may stick out.

    DeVries and Taylor, "Improved Regularization of CNNs with Cutout" (2017); there the value is the data
    set's mean.
    """

    size: int = option(8, Integer(1))
    value: float | tuple[float, ...] = option(0.0, FILL)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Box:
        center = whole(jax.random.uniform(key, (2,)), jnp.asarray(shape[:2]))
        corner = (center - self.size // 2).astype(jnp.float32)
        return Box(corner[0], corner[1], jnp.float32(self.size), jnp.float32(self.size))

    def apply(self, image: Float[Array, "h w c"], drawn: Box) -> Float[Array, "h w c"]:
        height, width, channels = image.shape
        return jnp.where(_inside(drawn, height, width), levels(self.value, channels, "cutout"), image)


class Erasure(NamedTuple):
    """The drawn rectangle of a random erasing, whether it happens, and the key of its noise."""

    box: Box
    happens: Bool[Array, ""]
    noise: Key[Array, ""]


@dataclasses.dataclass(frozen=True)
class RandomErasing(Operation):
    """Cover a rectangle of random area and shape with `value`, or with uniform noise, with probability p.

    `scale` is the rectangle's area as a fraction of the image's, `ratio` its height / width. Zhong et al.
    (2017); matches torchvision's RandomErasing, whose noise is Gaussian because it comes after the
    normalization.
    """

    p: float = option(0.5, PROBABILITY)
    scale: tuple[float, float] = option((0.02, 0.33), Interval(0, 1, above=True))
    ratio: tuple[float, float] = option((0.3, 3.3), Interval(0, above=True))
    value: float | tuple[float, ...] | str = option(0.0, Color(("random",)))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Erasure:
        uniform = jax.random.uniform(key, (BOX_DRAWS + 1,))
        box, fitted = sample_box(uniform[1:], shape, self.scale, self.ratio, tall=True, strict=True)
        return Erasure(box, fitted & (uniform[0] < self.p), jax.random.fold_in(key, 1))

    def apply(self, image: Float[Array, "h w c"], drawn: Erasure) -> Float[Array, "h w c"]:
        height, width, channels = image.shape
        if isinstance(self.value, str):
            cover = jax.random.uniform(drawn.noise, image.shape)
        else:
            cover = levels(self.value, channels, "random_erasing")
        return jnp.where(drawn.happens & _inside(drawn.box, height, width), cover, image)


def _beta(uniform: jax.Array, alpha: float) -> jax.Array:
    """Turns a uniform draw in [0, 1) into one from Beta(alpha, alpha), through a table of 1,025 quantiles.

    A rejection sampler's loop would have to ask all devices after every round whether it may stop.
    """
    from scipy.special import betaincinv

    probabilities = np.linspace(0, 1, 1025)
    quantiles = betaincinv(alpha, alpha, probabilities)
    return jnp.interp(uniform, jnp.asarray(probabilities, jnp.float32), jnp.asarray(quantiles, jnp.float32))


@dataclasses.dataclass(frozen=True)
class _Mix(Operation):
    """Base of Mixup and CutMix."""

    def mix(
        self, image: Float[Array, "h w c"], other: Float[Array, "h w c"], drawn: Any
    ) -> tuple[Float[Array, "h w c"], Float[Array, ""]]:
        """Mixes two images; returns the mixture and the first one's share in it."""
        raise NotImplementedError

    def on_batch(self, keys: Key[Array, " n"], batch: Batch, num_classes: int | None) -> dict[str, jax.Array]:
        assert num_classes is not None  # `build` has refused this operation without it
        image = batch["image"]
        target = batch.get("target")
        if target is None:
            target = jax.nn.one_hot(batch["label"], num_classes, dtype=jnp.float32)
        drawn = jax.vmap(lambda key: self.sample(key, image.shape[1:]))(keys)
        mixed, share = jax.vmap(self.mix)(image, jnp.roll(image, 1, axis=0), drawn)
        if "mask" in batch:  # never mix padding into an example
            real = jnp.roll(batch["mask"], 1, axis=0).astype(bool)
            mixed = jnp.where(real[:, None, None, None], mixed, image)
            share = jnp.where(real, share, 1.0)
        share = share[:, None]
        target = share * target + (1.0 - share) * jnp.roll(target, 1, axis=0)
        return {**batch, "image": mixed, "target": target}


@dataclasses.dataclass(frozen=True)
class Mixup(_Mix):
    """With probability p, the weighted mean of two images and labels, weight from Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2017); each image draws its own weight.
    """

    alpha: float = option(0.2, Number(0, above=True))
    p: float = option(1.0, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> jax.Array:
        uniform = jax.random.uniform(key, (2,))
        return jnp.where(uniform[0] < self.p, _beta(uniform[1], self.alpha), 1.0)

    def mix(
        self, image: Float[Array, "h w c"], other: Float[Array, "h w c"], drawn: jax.Array
    ) -> tuple[Float[Array, "h w c"], Float[Array, ""]]:
        return drawn * image + (1.0 - drawn) * other, drawn


@dataclasses.dataclass(frozen=True)
class CutMix(_Mix):
    """With probability p, paste a rectangle of another image; the labels are mixed by the pasted area.

    Yun et al., "CutMix" (2019): the area's share comes from Beta(alpha, alpha) and is cut at the image's
    edges.
    """

    alpha: float = option(1.0, Number(0, above=True))
    p: float = option(1.0, PROBABILITY)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Box:
        height, width = shape[:2]
        uniform = jax.random.uniform(key, (4,))
        side = jnp.where(uniform[0] < self.p, jnp.sqrt(1.0 - _beta(uniform[1], self.alpha)), 0.0)
        center = jnp.floor(uniform[2:] * jnp.asarray([height, width], jnp.float32))
        half_height, half_width = jnp.floor(height * side / 2), jnp.floor(width * side / 2)
        top, bottom = jnp.maximum(center[0] - half_height, 0), jnp.minimum(center[0] + half_height, height)
        left, right = jnp.maximum(center[1] - half_width, 0), jnp.minimum(center[1] + half_width, width)
        return Box(top, left, bottom - top, right - left)

    def mix(
        self, image: Float[Array, "h w c"], other: Float[Array, "h w c"], drawn: Box
    ) -> tuple[Float[Array, "h w c"], Float[Array, ""]]:
        height, width, _ = image.shape
        mixed = jnp.where(_inside(drawn, height, width), other, image)
        return mixed, 1.0 - drawn.height * drawn.width / (height * width)

"""Augmentation policies without tuning: RandAugment and TrivialAugment.

Every image draws its own operation. A branch per operation under `vmap` would compute all fourteen for
every image; here the five geometric ones are one warp whose matrix differs, four of the others are one
blend whose partner differs, and selects choose among the rest. Both policies keep the range [0, 1].
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, Key

from vision_jax.data.augment import color
from vision_jax.data.augment.base import FILL, INTERPOLATION, Integer, Operation, option, whole
from vision_jax.data.augment.geometry import inverse_affine, warp

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_SIGNED = OPERATIONS[1:10]  # these draw a sign; the others have a direction of their own


class Step(NamedTuple):
    """One operation of a policy: its position in OPERATIONS (int32) and its magnitude (float32).

    Units: shear as a slope, translation in pixels, rotation in degrees counter-clockwise, brightness,
    color, contrast and sharpness as factor minus one, posterize in bits kept, solarize as a threshold in
    [0, 1].
    """

    operation: Int32[Array, "*steps"]
    magnitude: Float[Array, "*steps"]


def apply_step(
    image: Float32[Array, "h w c"], step: Step, fill: float | tuple[float, ...], interpolation: str
) -> Float32[Array, "h w c"]:
    """Applies one operation to one image; matches torchvision's `_apply_op`.

    Args:
      image: in [0, 1], with 1 or 3 channels.
      step: what to do.
      fill: color outside the image for the geometric operations.
      interpolation: 'nearest' or 'bilinear', for the geometric operations.
    """

    def is_(name: str) -> jax.Array:
        return step.operation == OPERATIONS.index(name)

    def amount(name: str) -> jax.Array:
        return jnp.where(is_(name), step.magnitude, 0.0)

    image = warp(image, _matrix(image.shape, amount), fill, interpolation)

    partner = jnp.where(is_("color"), color.luma(image), jnp.zeros_like(image))
    partner = jnp.where(is_("contrast"), jnp.mean(color.luma(image)), partner)
    partner = jnp.where(is_("sharpness"), color.smooth(image), partner)
    blends = is_("brightness") | is_("color") | is_("contrast") | is_("sharpness")
    result = jnp.where(blends, color.blend(image, partner, 1.0 + step.magnitude), image)

    result = jnp.where(
        is_("posterize"), color.posterize(image, jnp.where(is_("posterize"), step.magnitude, 8.0)), result
    )
    result = jnp.where(is_("solarize"), color.solarize(image, step.magnitude), result)
    result = jnp.where(is_("autocontrast"), color.autocontrast(image), result)
    return jnp.where(is_("equalize"), color.equalize(image), result)


def _matrix(shape: tuple[int, ...], amount) -> jax.Array:
    """The output-to-input matrix of the geometric operation, the identity for all others."""
    height, width = shape[:2]
    # The policies shear along the top (left) edge, not along the middle.
    zero = jnp.float32(0)
    shear_x = jnp.stack([jnp.stack([zero, amount("shear_x"), amount("shear_x") * height / 2]), jnp.zeros(3)])
    shear_y = jnp.stack([jnp.zeros(3), jnp.stack([amount("shear_y"), zero, amount("shear_y") * width / 2])])
    shift = (jnp.trunc(amount("translate_x")), jnp.trunc(amount("translate_y")))
    return inverse_affine(-amount("rotate"), shift) + shear_x + shear_y


@dataclasses.dataclass(frozen=True)
class RandAugment(Operation):
    """`num_ops` operations drawn with replacement, each at `magnitude` of `num_bins` levels, signs drawn.

    Cubuk et al., "RandAugment" (2019), with the operations and ranges of torchvision's RandAugment.
    """

    num_ops: int = option(2, Integer(1, 10))
    magnitude: int = option(9, Integer(0))
    num_bins: int = option(31, Integer(2))
    fill: float | tuple[float, ...] = option(0.0, FILL)
    interpolation: str = option("nearest", INTERPOLATION)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.magnitude >= self.num_bins:
            raise ValueError(
                f"rand_augment(magnitude={self.magnitude}) is out of range: magnitude must be below "
                f"num_bins={self.num_bins}."
            )

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Step:
        uniform = jax.random.uniform(key, (2, self.num_ops))
        operation = whole(uniform[0], len(OPERATIONS))
        level = self.magnitude / (self.num_bins - 1)
        height, width = shape[:2]
        strongest = {
            "shear_x": 0.3,
            "shear_y": 0.3,
            "translate_x": 150 / 331 * width,
            "translate_y": 150 / 331 * height,
            "rotate": 30.0,
            "brightness": 0.9,
            "color": 0.9,
            "contrast": 0.9,
            "sharpness": 0.9,
        }
        table = _magnitudes(strongest, jnp.float32(level), weakest_posterize=4)
        return Step(operation, table[operation] * _signs(uniform[1], operation))

    def apply(self, image: Float[Array, "h w c"], drawn: Step) -> Float[Array, "h w c"]:
        for position in range(self.num_ops):
            step = Step(drawn.operation[position], drawn.magnitude[position])
            image = apply_step(image, step, self.fill, self.interpolation)
        return image


@dataclasses.dataclass(frozen=True)
class TrivialAugment(Operation):
    """One operation at one of `num_bins` levels, both drawn uniformly, over wide ranges.

    Müller and Hutter, "TrivialAugment" (2021), with the operations and ranges of torchvision's
    TrivialAugmentWide.
    """

    num_bins: int = option(31, Integer(2))
    fill: float | tuple[float, ...] = option(0.0, FILL)
    interpolation: str = option("nearest", INTERPOLATION)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Step:
        uniform = jax.random.uniform(key, (3,))
        operation = whole(uniform[0], len(OPERATIONS))
        level = jnp.floor(uniform[1] * self.num_bins) / (self.num_bins - 1)
        strongest = dict.fromkeys(_SIGNED, 0.99) | {"translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
        table = _magnitudes(strongest, level, weakest_posterize=2)
        return Step(operation, table[operation] * _signs(uniform[2], operation))

    def apply(self, image: Float[Array, "h w c"], drawn: Step) -> Float[Array, "h w c"]:
        return apply_step(image, drawn, self.fill, self.interpolation)


def _magnitudes(strongest: dict[str, float], level: jax.Array, *, weakest_posterize: int) -> jax.Array:
    """Magnitudes [operations] at a level in [0, 1]; `weakest_posterize`: bits kept at level one."""
    rows: dict[str, jax.Array] = {name: level * value for name, value in strongest.items()}
    rows["posterize"] = 8.0 - jnp.round(level * (8 - weakest_posterize))
    rows["solarize"] = 1.0 - level
    return jnp.stack([rows[name] if name in rows else jnp.float32(0) for name in OPERATIONS])


def _signs(uniform: jax.Array, operation: jax.Array) -> jax.Array:
    """A random sign for the operations that have one, +1 for the others."""
    signed = jnp.asarray([name in _SIGNED for name in OPERATIONS])[operation]
    return jnp.where(signed & (uniform < 0.5), -1.0, 1.0)

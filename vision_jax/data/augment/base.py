"""What every augmentation shares: checked options, the draw/apply split, batch and pair application.

An augmentation is a frozen dataclass. Its fields are its options (each with a default and a check, so a
wrong value is refused when the configuration is read), `sample` draws the random parameters of one image
from a key, and `apply` is a deterministic function of one image and the drawn parameters. That split is
what makes each operation comparable with a reference at fixed parameters.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Key

Batch = Mapping[str, jax.Array]


class Check(Protocol):
    """Turns a literal of a specification into the stored option, or raises ValueError."""

    def __call__(self, value: Any) -> Any:
        """Returns the option to store."""
        ...

    def __str__(self) -> str: ...


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, both included; `above` excludes `low`."""

    low: float
    high: float = math.inf
    above: bool = False

    def __call__(self, value: Any) -> float:
        if not _is_number(value) or not self.low <= value <= self.high or (self.above and value == self.low):
            raise ValueError
        return float(value)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"a number {'above' if self.above else 'from'} {self.low:g}"
        return f"a number from {self.low:g}{' (excluded)' if self.above else ''} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high` (None: no upper limit)."""

    low: int
    high: int | None = None

    def __call__(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.low:
            raise ValueError
        if self.high is not None and value > self.high:
            raise ValueError
        return value

    def __str__(self) -> str:
        return f"a whole number from {self.low}" + ("" if self.high is None else f" to {self.high}")


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        if value not in self.values:
            raise ValueError
        return value

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclasses.dataclass(frozen=True)
class Interval:
    """A pair (low, high) within limits; with `center`, also one number d for (center - d, center + d)."""

    low: float
    high: float = math.inf
    center: float | None = None
    above: bool = False

    def __call__(self, value: Any) -> tuple[float, float]:
        if _is_number(value) and self.center is not None and value >= 0:
            # Factors stop at zero (there is no negative brightness); an angle or a hue may be negative.
            value = (
                max(self.center - value, self.low) if self.center == 1 else self.center - value,
                self.center + value,
            )
        if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
            raise ValueError
        low, high = map(float, value)
        if not self.low <= low <= high <= self.high or (self.above and low == self.low):
            raise ValueError
        return low, high

    def __str__(self) -> str:
        limits = f"{self.low:g} {'<' if self.above else '<='} low <= high"
        limits += "" if math.isinf(self.high) else f" <= {self.high:g}"
        single = "" if self.center is None else f"a number d >= 0 for ({self.center:g} - d, {self.center:g} + d), or "
        return f"{single}a pair (low, high) with {limits}"


@dataclasses.dataclass(frozen=True)
class Fractions:
    """Fractions (of the width, of the height); one number stands for both."""

    def __call__(self, value: Any) -> tuple[float, float]:
        pair = (value, value) if _is_number(value) else value
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError
        x, y = (Number(0, 1)(part) for part in pair)
        return x, y

    def __str__(self) -> str:
        return "a fraction from 0 to 1, or two of them (of the width, of the height)"


@dataclasses.dataclass(frozen=True)
class Size:
    """None (keep the image's), one side of a square, or (height, width); in pixels."""

    def __call__(self, value: Any) -> tuple[int, int] | None:
        if value is None:
            return None
        pair = (value, value) if isinstance(value, int) else value
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError
        height, width = (Integer(1)(side) for side in pair)
        return height, width

    def __str__(self) -> str:
        return "None (the image's own size), a side in pixels, or (height, width)"


@dataclasses.dataclass(frozen=True)
class Color:
    """A gray level in [0, 1], or a tuple with one level per channel; `words` are further valid values."""

    words: tuple[str, ...] = ()

    def __call__(self, value: Any) -> float | tuple[float, ...] | str:
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, tuple | list) and value:
            return tuple(Number(0, 1)(level) for level in value)
        return Number(0, 1)(value)

    def __str__(self) -> str:
        words = "".join(f", or {word!r}" for word in self.words)
        return f"a level from 0 to 1, a tuple of one level per channel{words}"


@dataclasses.dataclass(frozen=True)
class Parsed:
    """An operation."""

    def __call__(self, value: Any) -> "Operation":
        if not isinstance(value, Operation):
            raise ValueError
        return value

    def __str__(self) -> str:
        return "an operation"


@dataclasses.dataclass(frozen=True)
class Share:
    """A fraction, or two of them: at the start and at the end of training."""

    def __call__(self, value: Any) -> tuple[float, float]:
        pair = (value, value) if _is_number(value) else value
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError
        start, end = (Number(0, 1)(part) for part in pair)
        return start, end

    def __str__(self) -> str:
        return "a fraction from 0 to 1, or two of them (at the start and at the end of training)"


PROBABILITY = Number(0, 1)
FILL = Color()
INTERPOLATION = Choice(("nearest", "bilinear"))


def option(default: Any, check: Check) -> Any:
    """A dataclass field for one option of an augmentation."""
    return dataclasses.field(default=default, metadata={"check": check})


def spec_name(cls: type) -> str:
    """The name an operation has in a configuration: RandomCrop -> random_crop."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


@dataclasses.dataclass(frozen=True)
class Operation:
    """Base of all augmentations; see the module's docstring."""

    paired: ClassVar[bool] = False  # whether it keeps a low- and a high-resolution image aligned

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check, value = field.metadata["check"], getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, check(value))
            except ValueError:
                raise ValueError(
                    f"{spec_name(type(self))}({field.name}={value!r}) is out of range: {field.name} must be {check}."
                ) from None

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Any:
        """Draws the random parameters for one image of `shape` [H, W, C]."""
        raise NotImplementedError

    def apply(self, image: Float[Array, "h w c"], drawn: Any) -> Float[Array, "h2 w2 c"]:
        """Applies the operation to one image with the drawn parameters."""
        raise NotImplementedError

    def apply_pair(
        self, high: Float[Array, "h w c"], low: Float[Array, "h2 w2 c"], drawn: Any
    ) -> tuple[Float[Array, "h w c"], Float[Array, "h2 w2 c"]]:
        """Applies the same drawn parameters to a high-resolution image and its low-resolution version."""
        return self.apply(high, drawn), self.apply(low, drawn)

    def on_batch(self, keys: Key[Array, " n"], batch: Batch, num_classes: int | None) -> dict[str, jax.Array]:
        """Applies the operation to each image of a batch with its own key."""
        del num_classes
        image = batch["image"]
        drawn = jax.vmap(lambda key: self.sample(key, image.shape[1:]))(keys)
        return {**batch, "image": jax.vmap(self.apply)(image, drawn)}

    def on_pairs(self, keys: Key[Array, " n"], batch: Batch) -> dict[str, jax.Array]:
        """Applies the operation to each pair of a super-resolution batch with its own key."""
        high, low = batch["high"], batch["low"]
        drawn = jax.vmap(lambda key: self.sample(key, high.shape[1:]))(keys)
        high, low = jax.vmap(self.apply_pair)(high, low, drawn)
        return {**batch, "high": high, "low": low}


@dataclasses.dataclass(frozen=True)
class Shared(Operation):
    """An operation that only a part of the images goes through, a part that may grow or shrink during training.

    In a specification every operation takes this as `share`, such as `share=(0, 1)`; the batch says how far training is
    as `progress`, from 0 to 1.
    """

    operation: Any = dataclasses.field(default=None, metadata={"check": Parsed()})
    share: tuple[float, float] = option((1.0, 1.0), Share())

    def on_batch(self, keys: Key[Array, " n"], batch: Batch, num_classes: int | None) -> dict[str, jax.Array]:
        start, end = self.share
        share = start if start == end else start + (end - start) * place_in_training(batch, "progress", 1.0)
        made = self.operation.on_batch(keys, batch, num_classes)
        if made["image"].shape != batch["image"].shape:
            raise ValueError(f"{spec_name(type(self.operation))} changes the size of images and can have no share.")
        chosen = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1_000)))(keys) < share
        result = {**made, "image": jnp.where(chosen[:, None, None, None], made["image"], batch["image"])}
        if "target" in made:
            before = batch.get("target")
            if before is None:
                before = jax.nn.one_hot(batch["label"], num_classes or 0, dtype=jnp.float32)
            result["target"] = jnp.where(chosen[:, None], made["target"], before)
        return result


def place_in_training(batch: Batch, name: str, default: Any) -> Any:
    """Returns an entry of the batch that says how far training is.

    Raises:
        ValueError: a batch of training examples ('index') that lacks it; a page that shows what augmentation does has
            none, and gets the default.
    """
    if name in batch or "index" not in batch:
        return batch.get(name, default)
    raise ValueError(f"This task does not tell augmentations the {name} that one of config.data.augment depends on.")


def levels(value: float | tuple[float, ...], channels: int, owner: str) -> Float32[Array, " {channels}"]:
    """A fill color; ValueError when a tuple has another length."""
    if isinstance(value, tuple) and len(value) != channels:
        raise ValueError(f"{owner} got a color of {len(value)} levels {value} for images with {channels} channel(s).")
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (channels,))


def whole(uniform: Float[Array, "*shape"], count: int | Int[Array, "*#shape"]) -> Int32[Array, "*shape"]:
    """Turns uniform draws in [0, 1) into whole numbers from 0 to count - 1, equally likely.

    Operations call `jax.random.uniform` once for everything they need: each call costs compile time.
    """
    return jnp.floor(uniform * jnp.asarray(count, jnp.float32)).astype(jnp.int32)


def between(
    uniform: Float[Array, "*shape"], low: float | Float[Array, "*#shape"], high: float | Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """Turns uniform draws in [0, 1) into uniform draws in [low, high)."""
    return low + uniform * (high - low)


def first_valid(candidates: Any, valid: Bool[Array, " n"], fallback: Any) -> Any:
    """The first valid candidate (leading axis), else the fallback: a rejection loop without a loop."""
    first = jnp.argmax(valid)
    return jax.tree.map(lambda c, f: jnp.where(jnp.any(valid), c[first], f), candidates, fallback)

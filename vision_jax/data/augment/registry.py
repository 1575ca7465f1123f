"""Augmentation on the device: named, checked, jitted, with randomness per example.

A configuration lists operations in the order in which they are applied:

    config.augment = ("random_crop(padding=4, mode='reflect')", "horizontal_flip", "mixup(alpha=0.2)")

`build` turns that into one pure function of a key and a batch. Image number i of the global batch draws
from `fold_in(fold_in(key, position of the operation), i)`: what happens to it depends neither on the batch
size nor on how the batch lies on devices (Mixup and CutMix also depend on the neighbor's image).
`describe` lists all operations.
"""

import ast
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vision_jax.data.augment import color, geometry, mix, policy
from vision_jax.data.augment.base import Batch, Operation, Shared
from vision_jax.utils.text import closest

_SHARE = "share"  # The option that every operation has.
OPERATIONS: dict[str, type[Operation]] = {
    "horizontal_flip": geometry.HorizontalFlip,
    "alternating_flip": geometry.AlternatingFlip,
    "vertical_flip": geometry.VerticalFlip,
    "transpose": geometry.Transpose,
    "rot90": geometry.Rot90,
    "random_crop": geometry.RandomCrop,
    "random_resized_crop": geometry.RandomResizedCrop,
    "translate": geometry.Translate,
    "rotation": geometry.Rotation,
    "affine": geometry.Affine,
    "color_jitter": color.ColorJitter,
    "grayscale": color.Grayscale,
    "cutout": mix.Cutout,
    "random_erasing": mix.RandomErasing,
    "mixup": mix.Mixup,
    "cutmix": mix.CutMix,
    "rand_augment": policy.RandAugment,
    "trivial_augment": policy.TrivialAugment,
}

_MIXING = (mix.Mixup, mix.CutMix)


def build(
    specs: Sequence[str], *, num_classes: int | None = None
) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """Builds the function that augments a batch.

    Args:
      specs: operations as `name` or `name(option=literal, …)`, applied in this order. Besides its own, each takes the
        option `share`: the part of the images that goes through it, or two values, at the start and at the end of
        training, with a straight line between them.
      num_classes: length of the soft labels; needed by mixup and cutmix alone.

    Returns:
      A pure function of a key (`jax.random.key`) and a batch with `image` (float32 [N, H, W, C] in [0, 1],
      before the normalization), for mixup and cutmix `label` (int32 [N]), and optionally `mask` ([N]); `progress`
      (from 0 to 1), `epoch` and `index` (int32 [N]) where an operation depends on how far training is. It
      returns the batch with the new `image`, and with `target` (float32 [N, num_classes]) where labels were
      mixed. It can be jitted, differentiated and used inside `scan`; its shapes are static and it makes no
      host calls.

    Raises:
      ValueError: a name, an option or a value is not valid; the message says which are.
    """
    operations = [parse(spec) for spec in _sequence(specs)]
    for operation in operations:
        if _mixes(operation) and num_classes is None:
            raise ValueError(f"{name_of(operation)} mixes labels and needs num_classes: it is for classification only.")

    def augment(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        _check_images("image", batch)
        result = dict(batch)
        for position, operation in enumerate(operations):
            result = operation.on_batch(_keys(key, position, len(batch["image"])), result, num_classes)
        return result

    return augment


def build_paired(specs: Sequence[str]) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """Builds the function that augments pairs for super-resolution and keeps them aligned.

    Args:
      specs: as for `build`; only operations that commute with resizing are valid.

    Returns:
      A pure function of a key and a batch with `low` (float32 [N, h, w, C] in [0, 1]) and `high`
      (float32 [N, s·h, s·w, C]), which draws once per pair and applies the same to both.

    Raises:
      ValueError: an operation is not valid or would break the alignment.
    """
    operations = [parse(spec) for spec in _sequence(specs)]
    for operation in operations:
        if isinstance(operation, Shared) and operation.operation.paired:
            raise ValueError(f"{name_of(operation)}: the option {_SHARE} is not for super-resolution; leave it out.")
        if not operation.paired:
            possible = ", ".join(name for name, cls in OPERATIONS.items() if cls.paired)
            raise ValueError(
                f"{name_of(operation)} would not keep low- and high-resolution images aligned; "
                f"operations that do: {possible}."
            )

    def augment(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        _check_images("low", batch)
        _check_images("high", batch)
        _check_scale(batch["low"].shape, batch["high"].shape)
        result = dict(batch)
        for position, operation in enumerate(operations):
            result = operation.on_pairs(_keys(key, position, len(batch["high"])), result)
        return result

    return augment


def parse(spec: str) -> Operation:
    """Reads one specification, `name` or `name(option=literal, …)`.

    Raises:
      ValueError: what is wrong, and what would be valid.
    """
    try:
        node: Any = ast.parse(spec.strip(), mode="eval").body
    except SyntaxError:
        node = None
    call = node if isinstance(node, ast.Call) else None
    name_node = call.func if call else node
    if not isinstance(name_node, ast.Name) or (call and any(word.arg is None for word in call.keywords)):
        raise ValueError(f"The augmentation {spec!r} does not read as name or name(option=value, …).")
    name = name_node.id
    if name not in OPERATIONS:
        raise ValueError(
            f"There is no augmentation {name!r}{closest(name, OPERATIONS)} (valid: {', '.join(OPERATIONS)})"
        )
    cls = OPERATIONS[name]
    own = [field.name for field in dataclasses.fields(cls)]
    valid = [*own, _SHARE]
    options: dict[str, Any] = {}
    if call and call.args:
        raise ValueError(f"Name the options in {spec!r}: {name}({', '.join(f'{option}=…' for option in own)}).")
    for word in call.keywords if call else ():
        assert word.arg is not None
        if word.arg not in valid:
            hint = f"{closest(word.arg, valid)} (valid: {', '.join(valid)})"
            raise ValueError(f"The augmentation {name} has no option {word.arg!r}{hint}")
        if word.arg in options:
            raise ValueError(f"The option {word.arg} stands twice in {spec!r}.")
        try:
            options[word.arg] = ast.literal_eval(word.value)
        except ValueError:
            raise ValueError(
                f"{name}({word.arg}={ast.unparse(word.value)}) is not a plain number, text or tuple."
            ) from None
    share = options.pop(_SHARE, None)
    return cls(**options) if share is None else Shared(cls(**options), share)


def mixes(spec: str) -> bool:
    """Whether an operation mixes images and labels of a batch; `spec` as for `parse`."""
    return _mixes(parse(spec))


def _mixes(operation: Operation) -> bool:
    return isinstance(operation.operation if isinstance(operation, Shared) else operation, _MIXING)


def name_of(operation: Operation) -> str:
    """The name of an operation in configurations."""
    operation = operation.operation if isinstance(operation, Shared) else operation
    return next(name for name, cls in OPERATIONS.items() if cls is type(operation))


def describe() -> list[dict[str, Any]]:
    """All operations: name, summary, whether they keep pairs aligned, options with default and range."""
    return [
        {
            "name": name,
            "summary": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
            "paired": cls.paired,
            "options": [
                {"name": field.name, "default": field.default, "valid": str(field.metadata["check"])}
                for field in dataclasses.fields(cls)
            ],
        }
        for name, cls in OPERATIONS.items()
    ]


def _sequence(specs: Sequence[str]) -> Sequence[str]:
    if isinstance(specs, str):
        raise ValueError(f"Augmentations are a tuple of texts, found the single text {specs!r}: write ({specs!r},).")
    return specs


def _keys(key: jax.Array, position: int, count: int) -> jax.Array:
    """One key per image of the global batch."""
    base = jax.random.fold_in(key, position)
    return jax.vmap(lambda index: jax.random.fold_in(base, index))(jnp.arange(count))


def _check_images(name: str, batch: Batch) -> None:
    if name not in batch:
        raise ValueError(f"Augmentation needs the batch entry {name!r}, found {sorted(batch)}.")
    image = batch[name]
    if image.ndim != 4 or image.dtype != jnp.float32:
        raise ValueError(
            f"Augmentation needs {name!r} as float32 [N, H, W, C] in [0, 1], "
            f"found {image.dtype} {list(image.shape)}: divide bytes by 255 first."
        )


def _check_scale(low: tuple[int, ...], high: tuple[int, ...]) -> None:
    scale = high[1] // low[1]
    if high != (low[0], low[1] * scale, low[2] * scale, low[3]):
        raise ValueError(
            f"Paired images need sizes [N, h, w, C] and [N, s·h, s·w, C], found {list(low)} and {list(high)}."
        )

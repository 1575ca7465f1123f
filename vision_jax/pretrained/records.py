"""What is known about weights, as it stands inside a .safetensors file of this project: JSON in the metadata.

A file may come from anyone: nothing in its record is used before its type and range are checked.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import safetensors

from vision_jax import models
from vision_jax.models import network_options
from vision_jax.models.network import Classifier
from vision_jax.pretrained.array_files import TorchFileError
from vision_jax.utils.options import is_of, type_name
from vision_jax.utils.text import printable

METADATA = "vision_jax"  # the key of the record
_MAX_SIDE = 1 << 16  # pixels
_MAX_LAYERS = 10_000  # a ResNet of 1,202 layers is traced in 3,000 calls
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a photo goes through before these weights see it.

    Attributes:
        resize: length of the short side after resizing, in pixels.
        crop: side of the central square that is cut out, in pixels.
        interpolation: filter of the resizing: 'nearest', 'bilinear' or 'bicubic'; antialiased.
        mean, std: per channel, in units of [0, 1]: the network sees (image - mean) / std. They hold for a network
            built without options; where the publisher shifts the input inside the network (torchvision's
            `transform_input`), that is part of them.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"resize {self.resize}, crop {self.crop}, {self.interpolation}, "
            f"mean {'/'.join(f'{x:g}' for x in self.mean)}, std {'/'.join(f'{x:g}' for x in self.std)}"
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Returns the preprocessing described by JSON; see `third_party/README.md`.

        Raises:
            ValueError: something is missing or of another type.
        """
        values = dict(values)
        if values.pop("transform_input", False):
            # ImageNet's statistics, undone inside the network in favor of these.
            values |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        try:
            mean, std = (tuple(float(x) for x in values.pop(name)) for name in ("mean", "std"))
            found = cls(int(values.pop("resize")), int(values.pop("crop")), str(values.pop("interpolation")), mean, std)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"the preprocessing lacks something or has the wrong type: {error}") from None
        statistics = (
            all(map(math.isfinite, mean + std)) and 0 not in std and len(mean) == len(std) and len(mean) in (1, 3)
        )
        sizes = 1 <= found.crop <= found.resize <= _MAX_SIDE and found.interpolation in _INTERPOLATIONS
        if values or not statistics or not sizes:
            raise ValueError(f"the preprocessing makes no sense: {found} {values or ''}")
        return found


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known about weights; None where nothing is.

    Attributes:
        model: name of the network in `models.MODELS`.
        source: who published them, or the file.
        sha256: of the original file, if it came from one.
        license: SPDX identifier.
        options: those that the network has to be built with, besides `num_classes`.
        input_shape: (H, W, C) that it was made for; None is the table's.
        class_names: of the head's outputs, in order.
        preprocessing: of the images.
        top1: published accuracy in percent.
        note: sentences about what had to be assumed of a file, or ''.
    """

    model: str
    source: str
    sha256: str | None = None
    license: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    top1: float | None = None
    note: str = ""


_KINDS = {
    "model": str,
    "source": str,
    "sha256": str | None,
    "license": str | None,
    "options": dict,
    "input_shape": tuple[int, ...] | None,
    "class_names": tuple[str, ...] | None,
    "preprocessing": dict | None,
    "top1": float | None,
    "note": str,
}


def read(path: Path) -> Record | None:
    """Returns the record in a file of this project, None for any other file.

    Raises:
        TorchFileError: the file or its record is damaged, or describes no network.
    """
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return None
    try:
        with safetensors.safe_open(path, framework="np") as tensors:
            text = (tensors.metadata() or {}).get(METADATA)
    except safetensors.SafetensorError as error:
        raise TorchFileError(f"{path}: the .safetensors file is damaged: {str(error)[:200]}") from None
    if text is None:
        return None
    try:
        return _checked(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise TorchFileError(f"{path}: its record is damaged: {printable(str(error)[:200])}") from None


def _checked(values: dict[str, Any]) -> Record:
    if "licence" in values:  # as version 0.1 wrote it
        values["license"] = values.pop("licence")
    values.setdefault("note", "")  # earlier files have none
    for name, kind in _KINDS.items():
        if not is_of(values[name], kind):
            raise ValueError(f"{name} is a {type(values[name]).__name__}, expected {type_name(kind)}")
    shape, names, preprocessing = (values.pop(name) for name in ("input_shape", "class_names", "preprocessing"))
    if shape is not None and not (len(shape) in (1, 3) and all(1 <= side <= _MAX_SIDE for side in shape)):
        raise ValueError(f"input_shape is {shape}, expected (H, W, C)")
    known = network_options.options(values["model"])
    for option, value in values["options"].items():
        if option in known and (problem := known[option].problem(value)):
            raise ValueError(f"{option} {problem}")
    texts = {name: printable(values.pop(name)) for name in ("source", "license", "note") if values[name] is not None}
    return Record(
        **{**values, **texts},
        input_shape=None if shape is None else tuple(shape),
        class_names=None if names is None else tuple(map(printable, names)),
        preprocessing=None if preprocessing is None else Preprocessing.of(preprocessing),
    )


def shapes(record: Record, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the shapes of the variables that the record's network has, with as many classes as the tensors.

    Raises:
        TorchFileError: the options make no network, or one of far more layers than there are tensors.
    """
    left = min(4 * len(tensors) + 100, _MAX_LAYERS)

    def count(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        nonlocal left
        left -= context.method_name == "__call__"
        if left < 0:
            raise ValueError("it has far more layers than the file has tensors")
        return call(*args, **kwargs)

    try:
        model = models.build(record.model, **record.options)
        if isinstance(model, Classifier) and (bias := tensors.get(f"params/{model.head_layers[0]}/bias")) is not None:
            model = model.clone(num_classes=bias.size)
        with nn.intercept_methods(count):
            found = models.shapes(model, record.input_shape or models.entry(record.model).input_shape)
    except Exception as error:  # whatever a network runs into that is traced with options that make no sense
        raise TorchFileError(f"its record describes no {record.model}: {printable(str(error)[:200])}") from None
    return {name: found[name] for name in ("params", "batch_stats") if name in found}

"""Weights between PyTorch's names and layouts and this project's, in both directions, for every network.

Flax modules carry the reference's names, so that a mapping is a short list of rewritings per family; everything else is
layout: convolutions OIHW ↔ HWIO, dense kernels transposed, dense kernels after a flatten re-ordered from (C, H, W) to
(H, W, C), transposed convolutions flipped, BatchNorm's weight/bias/running_mean/running_var ↔ scale/bias/mean/var.

References: state dictionaries of `torchvision.models`, `pytorch_fid.inception` and akamaster/pytorch_resnet_cifar10.
For networks that none of these has (MLP, CNN, DCGAN, super-resolution) names are the module path with dots; an MLP
expects images flattened in (H, W, C) order.
"""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vision_jax.models import registry
from vision_jax.models.cnn import CNN
from vision_jax.models.densenet import DenseNet
from vision_jax.models.googlenet import GoogLeNet
from vision_jax.models.inception import InceptionV3
from vision_jax.models.mobilenet import MobileNetV2
from vision_jax.models.network import Classifier, Network
from vision_jax.models.resnet import ResNet
from vision_jax.models.vgg import VGG
from vision_jax.utils import trees

# Flax module path (joined with dots) → PyTorch module path, by family; families not listed keep their paths.
_NAMES: dict[type[Network], tuple[tuple[str, str], ...]] = {
    ResNet: ((r"\.downsample_(\d)$", r".downsample.\1"),),
    VGG: ((r"^(features|classifier)_(\d+)$", r"\1.\2"),),
    DenseNet: ((r"^features_", "features."),),
    GoogLeNet: ((r"\.branch(\d)_(\d)\.", r".branch\1.\2."),),
    MobileNetV2: (
        (r"^(features|classifier)_(\d+)", r"\1.\2"),
        (r"\.conv_(\d)_(\d)$", r".conv.\1.\2"),
        (r"\.conv_(\d)$", r".conv.\1"),
    ),
}

# Names in files made by older releases → today's.
_OLD_NAMES: dict[type[Network], tuple[tuple[str, str], ...]] = {
    DenseNet: ((r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
}

# BatchNorm's epsilon, where it is not PyTorch's default.
_EPSILON: dict[type[Network], float] = {GoogLeNet: 1e-3, InceptionV3: 1e-3}

# What a file may hold that the network leaves out when it has no auxiliary heads.
_AUXILIARY: dict[type[Network], str] = {GoogLeNet: r"^aux[12]\.", InceptionV3: r"^AuxLogits\."}


class PortError(ValueError):
    """Weights that do not fit a network; the message counts the problems and lists them."""


@dataclass(frozen=True)
class Leaf:
    """One array: where it is here, how it is called there, and how the layouts relate.

    Attributes:
        path: collection and module path here, with slashes, ending in kernel, scale, bias, mean or var.
        name: PyTorch's name.
        shape: shape here.
        layout: 'same', 'conv', 'conv_transpose', 'dense' or 'flatten' (dense after flattening a feature map).
        channels: channels of that feature map.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    layout: str
    channels: int = 0

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape of the same array in PyTorch."""
        s = self.shape
        match self.layout:
            case "conv":
                return (s[3], s[2], s[0], s[1])
            case "conv_transpose":
                return (s[2], s[3], s[0], s[1])
            case "dense" | "flatten":
                return (s[1], s[0])
        return s

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's array in this project's layout, float32."""
        array = np.asarray(array).astype(np.float32)
        match self.layout:
            case "conv":
                array = array.transpose(2, 3, 1, 0)
            case "conv_transpose":
                array = array[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
            case "dense":
                array = array.T
            case "flatten":
                out = array.shape[0]
                array = array.reshape(out, self.channels, -1).transpose(2, 1, 0).reshape(-1, out)
        return np.ascontiguousarray(array)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """This project's array in PyTorch's layout, float32."""
        array = np.asarray(array).astype(np.float32)
        match self.layout:
            case "conv":
                array = array.transpose(3, 2, 0, 1)
            case "conv_transpose":
                array = array.transpose(2, 3, 0, 1)[:, :, ::-1, ::-1]
            case "dense":
                array = array.T
            case "flatten":
                out = array.shape[1]
                array = array.reshape(-1, self.channels, out).transpose(2, 1, 0).reshape(out, -1)
        return np.ascontiguousarray(array)


_STATISTICS = (".running_mean", ".running_var")
_COUNTER = ".num_batches_tracked"
_HEAD_ARRAYS = 2
_TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def mapping(model: Network, shapes: Mapping[str, Any]) -> list[Leaf]:
    """Every array of `model` with its PyTorch name and layout.

    Args:
        model: the network.
        shapes: its variables, or their shapes as `models.shapes` gives them.
    """
    flattened = _flattened_channels(model)
    leaves = []
    for path, value in trees.flatten(shapes).items():
        collection, *module, kind = path.split("/")
        if collection not in ("params", "batch_stats"):
            continue
        name = _rewritten(".".join(module), _NAMES.get(type(model), ()))
        # A parameter of its own that no PyTorch layer has (the attention gate) keeps its name.
        name = ".".join(part for part in (name, _TORCH_LEAF.get(kind, kind)) if part)
        layout, channels = "same", 0
        if kind == "kernel" and len(value.shape) == 4:
            layout = "conv_transpose" if module[-1].startswith("convt") else "conv"
        elif kind == "kernel":
            channels = flattened.get("/".join(module), 0)
            layout = "flatten" if channels else "dense"
        leaves.append(Leaf(path, name, tuple(value.shape), layout, channels))
    return leaves


def _flattened_channels(model: Network) -> dict[str, int]:
    """Dense layers that see a flattened feature map → its channels."""
    if isinstance(model, VGG):
        return {"classifier_0": 512}
    if isinstance(model, GoogLeNet):
        return {"aux1/fc1": 128, "aux2/fc1": 128}
    if isinstance(model, CNN) and not model.global_pool:
        return {"hidden1" if model.hidden else "head": model.channels[-1]}
    return {}


def load_state_dict(
    name: str,
    state: Mapping[str, np.ndarray],
    *,
    input_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The variables {'params', 'batch_stats'} of network `name` from a PyTorch state dict.

    Args:
        name: a key of `models.MODELS`.
        state: PyTorch's names → arrays of any floating type; 'num_batches_tracked' may be there or not. Where all
            running means and variances are missing (folded into weight and bias), every BatchNorm becomes the affine
            map that weight and bias are.
        input_shape: (H, W, C) where parameters depend on it (MLP, CNN with flatten); the table's by default.
        **options: as for `models.build`; `num_classes` is read off the head when not given.

    Returns:
        Nested dicts of float32 NumPy arrays.

    Raises:
        PortError: something is missing, left over, or of another shape or type.
    """
    row = registry.entry(name)
    # A network without classes refuses the option, a classifier without the number takes it from its head below.
    model = registry.build(name, **options)
    state = {_rewritten(key, _OLD_NAMES.get(type(model), ())): value for key, value in state.items()}
    ignored = _AUXILIARY.get(type(model)) if not getattr(model, "aux_logits", True) else None
    if isinstance(model, Classifier) and options.get("num_classes") is None:
        head = _rewritten(model.head_layers[0].replace("/", "."), _NAMES.get(type(model), ()))
        bias = state.get(f"{head}.bias")
        if bias is not None and np.ndim(bias) == 1:
            model = model.clone(num_classes=len(bias))
    leaves = mapping(model, _shapes(model, input_shape or row.input_shape))
    counters = set(_counters(leaves))
    expected = {leaf.name: jax.ShapeDtypeStruct(leaf.torch_shape, np.float32) for leaf in leaves}
    found = {
        key: np.asarray(array)
        for key, array in state.items()
        if key not in counters and not (ignored and re.search(ignored, key))
    }
    statistics = {name: expected[name].shape for name in expected if name.endswith(_STATISTICS)}
    if not statistics.keys() & found.keys():
        variance = 1.0 - _EPSILON.get(type(model), 1e-5)
        found |= {
            name: np.full(shape, variance if name.endswith("var") else 0.0, np.float32)
            for name, shape in statistics.items()
        }
    problems = trees.differences(expected, found, types=False)
    problems += [
        f"type: {key} is {array.dtype}, expected floating point"
        for key, array in found.items()
        if key in expected and not _is_floating(array)
    ]
    if problems:
        fitting = len(state.keys() & (expected.keys() | counters))
        raise PortError(_report(name, problems, fitting, len(state), looks_like(state)))
    variables = {leaf.path: leaf.from_torch(found[leaf.name]) for leaf in leaves}
    return {"params": {}, "batch_stats": {}} | trees.unflatten(variables)


def to_state_dict(name: str, variables: Mapping[str, Any], **options: Any) -> dict[str, np.ndarray]:
    """The inverse of `load_state_dict`: a state dict that the reference loads with `strict=True`.

    Args:
        name: a key of `models.MODELS`.
        variables: {'params', 'batch_stats'} of that network (other collections are left out).
        **options: those that the network was built with and that change its layout (`channels`, `hidden` …).

    Returns:
        PyTorch's names → float32 arrays, and each BatchNorm's 'num_batches_tracked' as int64 zero (which PyTorch uses
        only when its momentum is None).
    """
    model = registry.build(name, **options)
    flat = trees.flatten(variables)
    leaves = mapping(model, variables)
    state = {leaf.name: leaf.to_torch(np.asarray(flat[leaf.path])) for leaf in leaves}
    return state | {counter: np.zeros((), np.int64) for counter in _counters(leaves)}


def looks_like(state: Mapping[str, np.ndarray]) -> str | None:
    """Returns the network whose arrays, but for a head of another width, a state dict has; None where there is none."""
    own = {name: np.shape(array) for name, array in state.items() if not name.endswith((*_STATISTICS, _COUNTER))}
    size = sum(math.prod(shape) for name, shape in own.items() if not re.search("|".join(_AUXILIARY.values()), name))
    # Tracing a network takes a second: only those of about this size are, the likeliest first.
    sizes = {name: abs(math.log(size / row.parameters)) for name, row in registry.MODELS.items() if size}
    for name in sorted((name for name in sizes if sizes[name] < math.log(2)), key=lambda name: sizes[name]):
        model = registry.build(name)
        leaves = mapping(model, _shapes(model, registry.entry(name).input_shape))
        expected = {leaf.name: leaf.torch_shape for leaf in leaves if not leaf.name.endswith(_STATISTICS)}
        old_names = {_rewritten(key, _OLD_NAMES.get(type(model), ())): shape for key, shape in own.items()}
        if sum(old_names.get(key) == shape for key, shape in expected.items()) >= len(expected) - _HEAD_ARRAYS:
            return name
    return None


@functools.lru_cache(maxsize=4)
def _shapes(model: Network, input_shape: tuple[int, ...]) -> Any:
    """As `models.shapes`, which traces the whole network."""
    return registry.shapes(model, input_shape)


def _counters(leaves: list[Leaf]) -> list[str]:
    """BatchNorm's batch counters, which PyTorch has and Flax has not."""
    suffix = ".running_mean"
    return [leaf.name.removesuffix(suffix) + _COUNTER for leaf in leaves if leaf.name.endswith(suffix)]


def _rewritten(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _is_floating(array: np.ndarray) -> bool:
    """Whether the array is float16, bfloat16 (which NumPy knows as a foreign kind), float32 or float64."""
    return np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"


def _report(name: str, problems: list[str], fitting: int, total: int, other: str | None) -> str:
    hint = (
        f"by their shapes they are of {other}"
        if other not in (None, name)
        else "check that they are of this network and of this number of classes"
    )
    return (
        f"these weights do not fit {name}: {len(problems)} problems ({fitting} of the file's {total} entries have a "
        f"place){trees.shown(problems)}\n{hint}"
    )

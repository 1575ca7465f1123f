"""What fine-tuning needs to know of a network: which parameters belong to which stage, and a new head.

Stage names are the network's (`model.stages`): 'stem', 'layer4', 'head' … A part can also be named by a path of
modules below it, such as 'layer4/1'.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util as traverse
import jax
from jax import numpy as jnp

from vision_jax.models.layers import linear_uniform
from vision_jax.models.network import Classifier, Network


def frozen_modules(model: Network, trained: Iterable[str]) -> tuple[str, ...]:
    """The value of the option `frozen` that leaves only the stages `trained` to be trained.

    Args:
        model: the network.
        trained: names of stages or of top-level modules: ('head',) for all but the head, ('layer4', 'head') …

    Raises:
        ValueError: a name that the network does not have.
    """
    trained = tuple(trained)
    modules = [module for names in model.stages.values() for module in names]
    for name in trained:
        if name not in model.stages and name not in modules:
            from vision_jax.config import closest

            raise ValueError(
                f"{type(model).__name__} has no stage {name!r}{closest(name, (*model.stages, *modules))}; "
                f"its stages are {', '.join(model.stages)}"
            )
    kept = {module for name in trained for module in model.stages.get(name, (name,))}
    return tuple(module for module in modules if module not in kept)


def is_frozen(path: tuple[str, ...], frozen: Iterable[str]) -> bool:
    """Whether the parameter at `path` (names below 'params') lies under one of the `frozen` paths."""
    return any(path[: len(prefix)] == prefix for prefix in (tuple(name.split("/")) for name in frozen))


def partition(params: Mapping[str, Any], frozen: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits parameters into (trained, held): only the first go to `jax.grad` and the optimizer; see `merge`."""
    frozen = tuple(frozen)
    flat = traverse.flatten_dict(params)
    trained = {path: leaf for path, leaf in flat.items() if not is_frozen(path, frozen)}
    held = {path: leaf for path, leaf in flat.items() if is_frozen(path, frozen)}
    return traverse.unflatten_dict(trained), traverse.unflatten_dict(held)


def merge(trained: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """Puts together what `partition` split."""
    return traverse.unflatten_dict({**traverse.flatten_dict(held), **traverse.flatten_dict(trained)})


def stage_of(model: Network, path: tuple[str, ...]) -> str:
    """The stage that the parameter at `path` (names below 'params') belongs to."""
    for stage, modules in model.stages.items():
        if path[0] in modules:
            return stage
    raise ValueError(f"{type(model).__name__} has no module {path[0]!r}; it has {dict(model.stages)}")


def replace_head(model: Classifier, variables: Mapping[str, Any], key: jax.Array) -> dict[str, Any]:
    """`variables` with new head layers of `model.num_classes` outputs, auxiliary heads' last layers included.

    Kernels are drawn uniformly within ±1/sqrt(inputs) (PyTorch's default for a linear layer), biases are zero. The
    `variables` may come from a network with another number of classes; nothing else of them changes.
    """
    params = traverse.flatten_dict(variables["params"], sep="/")
    for layer, layer_key in zip(model.head_layers, jax.random.split(key, len(model.head_layers)), strict=True):
        inputs = params[f"{layer}/kernel"].shape[0]
        params[f"{layer}/kernel"] = linear_uniform(layer_key, (inputs, model.num_classes), jnp.float32)
        params[f"{layer}/bias"] = jnp.zeros((model.num_classes,), jnp.float32)
    return {**variables, "params": traverse.unflatten_dict(params, sep="/")}

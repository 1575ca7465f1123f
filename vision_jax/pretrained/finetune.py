"""Fine-tuning: which parameters train and how fast, and what a network takes over from pretrained weights.

Stages are the network's own (`Network.stages`), from input to head, as Yosinski et al. 2014 ("How transferable are
features in deep neural networks?") speak of them. A new head keeps the initialization of the network's own last layer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision_jax.models.network import AuxiliaryClassifier, Classifier, Network
from vision_jax.pretrained import weights as weights_lib
from vision_jax.utils import trees
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

Path = tuple[str, ...]
Tree = Any


def frozen_modules(model: Network, freeze: Sequence[str]) -> Path:
    """Returns the top-level modules of `model` that `config.model.freeze` keeps fixed.

    Args:
        model: the network.
        freeze: names of stages, or 'all_but' followed by the stages that train; `('all_but', 'head')` trains the head
            alone. Empty freezes nothing.

    Raises:
        ConfigError: a name that is no stage of this network, or nothing left to train.
    """
    if not freeze:
        return ()
    stages = model.stages
    named = freeze[1:] if freeze[0] == "all_but" else freeze
    for name in named:
        if name not in stages:
            raise ConfigError(
                f"config.model.freeze names {name!r}{closest(name, stages)}; the stages are {', '.join(stages)}, and "
                "'all_but' before those that train."
            )
    fixed = [name for name in stages if (name in named) != (freeze[0] == "all_but")]
    if len(fixed) == len(stages):
        raise ConfigError("config.model.freeze leaves nothing to train.")
    return tuple(module for name in fixed for module in stages[name])


def rate_multiplier(
    model: Network, head_multiplier: float, stage_decay: float, bias_multiplier: float = 1.0
) -> Callable[[str], float] | None:
    """Returns the factor of the learning rate by path: the head's, and `stage_decay` to the power of the stages above.

    Biases and normalization parameters below the head have `bias_multiplier` besides. None where all factors are 1.
    """
    if head_multiplier == stage_decay == bias_multiplier == 1.0:
        return None
    stages = list(model.stages.items())
    factors = {
        module: head_multiplier if name == "head" else stage_decay ** (len(stages) - 1 - depth)
        for depth, (name, modules) in enumerate(stages)
        for module in modules
    }
    head = stages[-1][1]

    def factor(path: str) -> float:
        module, _, leaf = path.partition("/")
        vector = leaf.rpartition("/")[2] in ("bias", "scale") and module not in head
        return factors[module] * (bias_multiplier if vector else 1.0)

    return factor


def load_pretrained(model: Network, name: str, weights: str, variables: Mapping[str, Tree]) -> dict[str, Tree]:
    """Returns `variables` with everything replaced that pretrained weights hold; a head of other width stays new.

    Args:
        model: the network, with its own number of classes.
        name: its name in the table of models.
        weights: as in `config.model.weights`.
        variables: {'params', 'batch_stats'} as initialized.

    Raises:
        ValueError: the weights are of another network (see `vision_jax.pretrained.weights.load`).
        DownloadError: they cannot be fetched.
    """
    options: dict[str, Any] = {"aux_logits": model.aux_logits} if isinstance(model, AuxiliaryClassifier) else {}
    loaded, _ = weights_lib.load(name, weights, **options)
    old, new = trees.flatten(variables), trees.flatten(loaded)
    new = {path: new[path] for path in old if path in new}  # what has no place here is left behind
    for head in model.head_layers if isinstance(model, Classifier) else ():
        # A head is taken over as a whole or not at all.
        parts = [path for path in new if path.partition("/")[2].startswith(f"{head}/")]
        if any(new[path].shape != old[path].shape for path in parts):
            new |= {path: old[path] for path in parts}
    if problems := trees.differences(old, new, types=False):
        raise ValueError(f"The weights {weights!r} do not fit {name} as configured:{trees.shown(problems)}")
    return trees.unflatten(
        {path: leaf if new[path] is leaf else np.asarray(new[path], leaf.dtype) for path, leaf in old.items()}
    )


def resolve_preprocessing(config: ConfigDict, *, photos: bool) -> str:
    """Fills in what the config leaves to the weights: mean and std, and for photos resizing and cropping.

    Without weights, what is not set stays as it is: images in [0, 1].

    Returns:
        Sentences about what had to be assumed of the weights, or ''.

    Raises:
        ConfigError: nobody knows how images were normalized for the weights, or photos of a folder without a size.
    """
    data, record, note = config.data, None, ""
    if config.model.weights:
        row = weights_lib.published(config.model.name, config.model.weights)
        if row is not None:
            record = row.preprocessing
        else:
            found = weights_lib.load(config.model.name, config.model.weights)[1]
            if not (data.mean and data.std):
                try:
                    found = weights_lib.with_preprocessing(found)
                except ValueError as error:
                    raise ConfigError(f"{error} Or set config.data.mean and std.") from None
            record, note = found.preprocessing, found.note
    if record is not None:
        data.mean, data.std = data.mean or record.mean, data.std or record.std
    if photos and record and not data.image_size:
        data.image_size, data.crop_fraction = record.crop, record.crop / record.resize
        data.interpolation = record.interpolation
    whole = config.task == "super_resolution"  # Patches are of one size, and pictures are tested one by one.
    if photos and data.name == "folder" and not (data.image_size or whole):
        raise ConfigError(
            "A batch takes photos of one size, and neither weights nor config say which; set config.data.image_size."
        )
    return note


def logits_and_features(
    model: Classifier, variables: Mapping[str, Tree], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns float32 logits [N, K] and what the head sees, float32 [N, F], for normalized images [N, H, W, C]."""
    logits, kept = model.apply(variables, images, train=False, mutable=["intermediates"])
    return logits, kept["intermediates"]["features"][0].astype(jnp.float32)

"""The literal table of networks: name → module, exact parameter count, input, weights.

A test counts every row's parameters, another fails when a row has no parity test against its reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jax
from jax import numpy as jnp

from vision_jax.models.cnn import CNN
from vision_jax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from vision_jax.models.mlp import MLP
from vision_jax.models.mlp_gan import MLPDiscriminator, MLPGenerator
from vision_jax.models.network import Classifier, Network
from vision_jax.models.srcnn import SRCNN


@dataclass(frozen=True)
class Entry:
    """One network of the table.

    Attributes:
        module: its class.
        parameters: trainable values at the defaults below (running statistics not counted).
        input_shape: default input without the batch axis: (H, W, C), or (latent,) for generators.
        preset: options that make it this network; a caller may override them.
        weights: its key in third_party/weights.json, which holds URL, checksum and preprocessing; None without weights.
        top1: ImageNet (CIFAR: CIFAR-10 test) top-1 in per cent as published with those weights.
    """

    module: type[Network]
    parameters: int
    input_shape: tuple[int, ...]
    preset: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    top1: float | None = None


MODELS: dict[str, Entry] = {
    # Perceptrons and small convolutional networks.
    "mlp": Entry(MLP, 1_707_274, (32, 32, 3)),
    "fcn_baseline": Entry(MLP, 309_530, (32, 32, 3), dict(hidden=(100, 20))),
    "fcn_best": Entry(MLP, 1_707_274, (32, 32, 3), dict(hidden=(512, 256), dropout=0.5)),
    "cnn": Entry(CNN, 113_738, (32, 32, 3)),
    "small_filters_cnn": Entry(CNN, 57_332, (32, 32, 3), dict(num_classes=100, channels=(8, 16, 32))),
    "garbage_cnn": Entry(CNN, 4_288_454, (128, 128, 3), dict(num_classes=6, channels=(32, 64, 128), hidden=(128,))),
    "svhn_cnn": Entry(CNN, 545_098, (32, 32, 3), dict(channels=(32, 64), hidden=(128,))),
    "cifar10_cnn": Entry(
        CNN, 551_466, (32, 32, 3),
        dict(convs_per_block=2, norm="batch", block_dropout=(0.2, 0.3, 0.4), hidden=(128,), dropout=0.5),
    ),
    # Generators, discriminators, super-resolution.
    "dcgan_generator": Entry(DCGANGenerator, 370_624, (100,)),
    "dcgan_discriminator": Entry(DCGANDiscriminator, 167_808, (32, 32, 3)),
    "mlp_gan_generator": Entry(MLPGenerator, 1_486_352, (100,)),
    "mlp_gan_discriminator": Entry(MLPDiscriminator, 533_505, (28, 28, 1)),
    "srcnn": Entry(SRCNN, 69_251, (32, 32, 3)),
}


def entry(name: str) -> Entry:
    """The row called `name`.

    Raises:
        ValueError: no network has that name.
    """
    if name not in MODELS:
        from vision_jax.config import closest

        raise ValueError(f"no network is called {name!r}{closest(name, tuple(MODELS))}; there are {', '.join(MODELS)}")
    return MODELS[name]


def options(name: str) -> dict[str, Any]:
    """Every option of network `name` with its value there (presets included)."""
    row = entry(name)
    own = [f for f in fields(row.module) if f.name not in ("parent", "name")]
    return {f.name: row.preset.get(f.name, f.default) for f in own}


def build(name: str, *, num_classes: int | None = None, dtype: Any = jnp.float32, **overrides: Any) -> Network:
    """The network `name`, not yet initialised.

    Args:
        name: a key of `MODELS`.
        num_classes: classes of a classifier; None keeps the network's own number.
        dtype: compute type; parameters are float32 whatever it is.
        **overrides: the network's options; None keeps the network's own value.

    Raises:
        ValueError: an unknown name or option.
    """
    row = entry(name)
    overrides = {"num_classes": num_classes, "dtype": dtype, **overrides}
    given = {key: value for key, value in overrides.items() if value is not None}
    valid = options(name)
    for key in given:
        if key not in valid:
            from vision_jax.config import closest

            if key == "num_classes":
                raise ValueError(f"{name} has no classes, so num_classes={num_classes} means nothing; leave it out")
            raise ValueError(
                f"{name} has no option {key!r}{closest(key, tuple(valid))}; its options are {', '.join(sorted(valid))}"
            )
    # Lists come out of JSON and locked configs; a module's fields have to be hashable.
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return row.module(**{**row.preset, **given})


def shapes(model: Network, input_shape: tuple[int, ...]) -> Any:
    """Shapes and dtypes of `model`'s variables for one input of `input_shape`, without computing anything."""
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), x)


def parameter_count(variables: Mapping[str, Any]) -> int:
    """Number of trainable values in `variables['params']`."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


__all__ = ["MODELS", "Classifier", "Entry", "build", "entry", "options", "parameter_count", "shapes"]

"""What all networks share: compute type, frozen parts, and the names of their stages.

A network's stages are what fine-tuning speaks about: "all but the head", "layer4 and the head", a rate per stage.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import BatchNorm, Dense, Dropout


class Network(nn.Module):
    """Base of all networks.

    `dtype` is the compute type (parameters stay float32). `frozen` names parts by path prefix ('layer1', 'layer4/0'):
    their BatchNorm uses its running statistics and updates nothing, and their Dropout is off, even when training. The
    caller keeps the parameters of those parts out of `jax.grad`'s argument.
    """

    dtype: Any = jnp.float32
    frozen: tuple[str, ...] = ()

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Run the network; needs rng 'dropout' and mutable 'batch_stats' when training, where it has them."""
        with _frozen_as_in_evaluation(self.frozen, depth=len(self.path)):
            return self.forward(x, train=train)

    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The network itself (each subclass's own)."""
        raise NotImplementedError

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage → names of its top-level modules, from the input to the output; the last is 'head'."""
        raise NotImplementedError

    def keep(self, stage: str, x: jax.Array) -> jax.Array:
        """Offer `x` as `intermediates[stage][0]` to callers that make that collection mutable, and pass it on.

        As `sow` does, but a stage may carry the name of the module that computes it.
        """
        if self.is_mutable_collection("intermediates"):
            self.put_variable("intermediates", stage, (x,))
        return x


class Classifier(Network):
    """A network that ends in one score per class; also keeps 'features', the vector the head sees."""

    num_classes: int = 1000

    @property
    def head_layers(self) -> tuple[str, ...]:
        """Paths of the Dense layers whose width is `num_classes`; the first is the main head."""
        raise NotImplementedError

    @property
    def head_dropout(self) -> float:
        """Dropout rate between the features and the head."""
        return getattr(self, "dropout", 0.0)

    def head_module(self) -> "Head":
        """The head alone, on 'features': its params are this network's, cut down to the main head layer."""
        return Head(self.num_classes, self.head_dropout, self.head_layers[0], self.dtype)


class Head(nn.Module):
    """Dropout and the last Dense layer, to train on features computed once from a frozen network."""

    num_classes: int
    dropout: float
    layer: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Features [N,F] → float32 logits [N,num_classes]."""
        x = Dropout(self.dropout)(x, train=train)
        return Dense(self.num_classes, dtype=self.dtype, name=self.layer)(x).astype(jnp.float32)


def _frozen_as_in_evaluation(frozen: tuple[str, ...], depth: int) -> AbstractContextManager:
    """Within the context, BatchNorm and Dropout under a frozen path run with `train=False`."""
    prefixes = [tuple(path.split("/")) for path in frozen]

    def intercept(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, BatchNorm | Dropout) and context.method_name == "__call__":
            path = context.module.path[depth:]
            if any(path[: len(prefix)] == prefix for prefix in prefixes):
                kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)

"""What all networks share: compute type, frozen parts, and the names of their stages.

A network's stages are what fine-tuning speaks about: "all but the head", "layer4 and the head", a rate per stage.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from vision_jax.models.layers import BatchNorm, Conv, Dense, Dropout, at_least_float32


class Network(nn.Module):
    """Base of all networks.

    `dtype` is the compute type (parameters stay float32). `frozen` names parts by path prefix ('layer1', 'layer4/0'):
    their BatchNorm uses its running statistics and updates nothing, and their Dropout is off, even when training. The
    caller keeps the parameters of those parts out of `jax.grad`'s argument. `freeze_statistics` does so to BatchNorm
    everywhere, whose scale and bias go on training: an affine map.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("dtype", "frozen", "freeze_statistics")  # Fields that are no options.
    fits_images: ClassVar[bool] = (
        False  # Whether a part of the initialization depends on training images; see `fitted`.
    )

    dtype: Any = jnp.float32
    frozen: tuple[str, ...] = ()
    freeze_statistics: bool = False

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Run the network; needs rng 'dropout' and mutable 'batch_stats' when training, where it has them."""
        with _frozen_as_in_evaluation(self.frozen, self.freeze_statistics, depth=len(self.path)):
            return self.forward(x, train=train)

    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The network itself (each subclass's own)."""
        raise NotImplementedError

    def fitted(self, variables: Mapping[str, Any], images: np.ndarray) -> dict[str, Any]:
        """Variables whose part that depends on images is that for these, normalized, float32 [N,H,W,C]."""
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


class AdversarialNetwork(Network):
    """A generator or discriminator, which may be told the class of what it makes or judges.

    `num_classes` is 0 for a network that is not told.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("num_classes",)

    num_classes: int = 0

    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Run the network on noise or images [N,...], with classes int [N] if it is conditional."""
        if (label is not None) != (self.num_classes > 0):
            raise ValueError(
                f"{type(self).__name__} has num_classes={self.num_classes} and was {'not ' * (label is None)}given "
                "labels; a conditional network needs them, another takes none"
            )
        with _frozen_as_in_evaluation(self.frozen, self.freeze_statistics, depth=len(self.path)):
            return self.forward(x, label, train=train)

    def forward(self, x: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """The network itself (each subclass's own)."""
        raise NotImplementedError


class Discriminator(AdversarialNetwork):
    """A discriminator, which may also say of which class an image is (Odena et al. 2017, arXiv 1610.09585).

    Its class scores, float32 [N, num_classes], then stand as 'scores' in collection 'class_scores' (make it mutable).

    Attributes:
        classifies: have the layer of the class scores.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("classifies",)

    classifies: bool = False

    def keep_scores(self, features: jax.Array) -> None:
        """Offer the class scores of features [N,D], if the network classifies."""
        if self.classifies:
            scores = at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="scores")(features))
            if self.is_mutable_collection("class_scores") and not self.is_initializing():
                self.put_variable("class_scores", "scores", scores)

    @property
    def class_modules(self) -> tuple[str, ...]:
        """Names of the modules of the head that know classes."""
        return ("class",) * (self.num_classes > 0) + ("scores",) * self.classifies


class Classifier(Network):
    """A network that ends in one score per class; also keeps 'features', the vector the head sees."""

    set_by_task: ClassVar[tuple[str, ...]] = ("num_classes",)

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
        return Head(self.num_classes, self.head_dropout, self.head_layers[0], self.dtype, parent=None)


class AuxiliaryClassifier(Classifier):
    """A classifier with further heads inside, whose losses help it train.

    In training each head's logits stand under its name in collection 'aux_logits' (make it mutable); add
    `aux_weights[name]` times their loss to the main one. They are not computed in evaluation.

    Attributes:
        aux_logits: have and train the auxiliary heads.
    """

    aux_logits: bool = False

    @property
    def aux_weights(self) -> dict[str, float]:
        """Name of each auxiliary head → weight of its loss."""
        raise NotImplementedError

    def keep_aux(self, name: str, logits: jax.Array) -> None:
        """Offer `logits` as `aux_logits[name]`."""
        if self.is_mutable_collection("aux_logits") and not self.is_initializing():
            self.put_variable("aux_logits", name, logits)


class ConvNormRelu(nn.Module):
    """Convolution without bias, BatchNorm with ε = 0.001, ReLU: the unit of GoogLeNet and Inception."""

    features: int
    kernel_size: tuple[int, int]
    stride: int
    padding: Any
    dtype: Any
    kernel_init: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H',W',features]."""
        x = Conv(
            self.features,
            self.kernel_size,
            (self.stride, self.stride),
            self.padding,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        return nn.relu(BatchNorm(epsilon=0.001, dtype=self.dtype, name="bn")(x, train=train))


def imagenet_to_unit_range(x: jax.Array) -> jax.Array:
    """From ImageNet's mean and deviation per channel to mean 0.5 and deviation 0.5, that is [0, 1] → [-1, 1]."""
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return x * jnp.asarray(deviation / 0.5, x.dtype) + jnp.asarray((mean - 0.5) / 0.5, x.dtype)


class Head(nn.Module):
    """Dropout and the last Dense layer, to train on features computed once from a frozen network."""

    num_classes: int
    dropout: float
    layer: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Features [N,F] → float32 logits [N,num_classes]."""
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name=self.layer)(x))


def _frozen_as_in_evaluation(frozen: tuple[str, ...], statistics: bool, depth: int) -> AbstractContextManager:
    """Within the context, BatchNorm and Dropout under a frozen path (or every BatchNorm) run with `train=False`."""
    prefixes = [tuple(path.split("/")) for path in frozen]

    def intercept(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, BatchNorm | Dropout) and context.method_name == "__call__":
            path = context.module.path[depth:]
            fixed = any(path[: len(prefix)] == prefix for prefix in prefixes)
            if fixed or (statistics and isinstance(context.module, BatchNorm)):
                kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)

"""Multi-layer perceptron on flattened images: the FCN baselines of CIFAR-10 and the digit recognizer's ANN.

Reference implementation: `torch.nn.Sequential` of Linear, activation and Dropout. Source: Rumelhart, Hinton &
Williams 1986; dropout: Srivastava et al. 2014.
"""

from typing import Annotated

import flax.linen as nn
import jax

from vision_jax.models.layers import BatchNorm, Dense, Dropout, activation, at_least_float32, kaiming_fan_in
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between, OneOf

NORMS = ("none", "batch")


class MLP(Classifier):
    """[N,...] → flatten → (Dense, activation, dropout) per width in `hidden` → logits [N,num_classes].

    Attributes:
        hidden: widths of the hidden layers.
        norm: 'none', or 'batch' between a hidden layer, which then has no bias, and its activation.
        activation: a name that `layers.activation` knows.
        dropout: rate after each hidden layer.
    """

    num_classes: int = 10
    hidden: Annotated[tuple[int, ...], Between(1)] = (512, 256)
    norm: Annotated[str, OneOf(NORMS)] = "none"
    activation: str = "relu"
    dropout: Annotated[float, Between(0, 0.95)] = 0.0

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """One stage per hidden layer, then the head."""
        hidden = {f"hidden{i}": (f"hidden{i}", f"norm{i}", f"dropout{i}") for i in range(1, len(self.hidden) + 1)}
        return {**hidden, "head": ("head",)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("head",)

    @property
    def head_dropout(self) -> float:
        """The dropout after the last hidden layer."""
        return self.dropout if self.hidden else 0.0

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,...] → float32 logits."""
        act = activation(self.activation)
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for i, width in enumerate(self.hidden, 1):
            normalized = self.norm == "batch"
            x = Dense(width, use_bias=not normalized, dtype=self.dtype, kernel_init=kaiming_fan_in, name=f"hidden{i}")(
                x
            )
            if normalized:
                x = BatchNorm(dtype=self.dtype, name=f"norm{i}")(x, train=train)
            x = act(x)
            x = self.keep(f"hidden{i}", x)
            if i == len(self.hidden):
                self.keep("features", x)
            x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="head")(x))

"""The network of the CIFAR-10 speed runs: patch whitening, then three groups of two convolutions.

Reference implementation: `CifarNet` of KellerJordan/cifar10-airbench (airbench94_muon.py); source: Jordan, "94% on
CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498). Here the head has a bias, and the reference's factor
of the logits is one of the features, so that the head is a plain Dense layer.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from vision_jax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    activation,
    at_least_float32,
    linear_uniform,
    max_pool,
)
from vision_jax.models.network import Classifier
from vision_jax.utils import trees
from vision_jax.utils.options import Between

_WHITENED = 2 * 2 * 3  # Values in a patch of the first layer.


class Airbench(Classifier):
    """[N,H,W,3] with H and W from 25 to 32 → logits [N,num_classes].

    Attributes:
        widths: channels of the three groups.
        activation: a name that `layers.activation` knows.
        feature_scale: factor of the features before the head.
    """

    fits_images: ClassVar[bool] = True

    num_classes: int = 10
    widths: Annotated[tuple[int, ...], Between(1)] = (64, 256, 256)
    activation: str = "gelu"
    feature_scale: float = 1.0 / 9.0

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """The whitening layer, one stage per group, the head."""
        groups = {f"group{i}": (f"group{i}",) for i in range(1, len(self.widths) + 1)}
        return {"whitening": ("whitening",), **groups, "head": ("head",)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("head",)

    def fitted(self, variables: Mapping[str, Any], images: np.ndarray) -> dict[str, Any]:
        """Returns variables whose first layer whitens the 2×2 patches of these normalized images.

        Its filters are the eigenvectors of the patches' second moments over the roots of the eigenvalues, and their
        negatives, as in the reference (`init_whiten`, ε = 5e-4).

        Args:
            variables: as initialized.
            images: float32 [N,H,W,3].
        """
        windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))  # [N,H-1,W-1,C,2,2]
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, _WHITENED).astype(np.float64)
        values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
        filters = vectors / np.sqrt(values + 5e-4)
        kernel = np.concatenate([filters, -filters], axis=1).reshape(2, 2, 3, 2 * _WHITENED).astype(np.float32)
        flat = trees.flatten(variables)
        return trees.unflatten({**flat, "params/whitening/kernel": kernel})

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,3] → float32 logits."""
        act = activation(self.activation)
        whitening = Conv(
            2 * _WHITENED, (2, 2), padding="VALID", dtype=self.dtype, bias_init=_torch_bias, name="whitening"
        )
        x = self.keep("whitening", act(whitening(x.astype(self.dtype))))
        for i, width in enumerate(self.widths, 1):
            group = Group(width, self.activation, self.dtype, name=f"group{i}")
            x = self.keep(f"group{i}", group(x, train=train))
        if x.shape[1:3] != (3, 3):
            raise ValueError(f"airbench94 ends in maps of 3×3, from images of 25 to 32 pixels; found {x.shape[1:3]}")
        x = max_pool(x, 3, 3).reshape(x.shape[0], -1) * jnp.asarray(self.feature_scale, x.dtype)
        x = self.keep("features", x)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, name="head")(x))


class Group(nn.Module):
    """Convolution, 2×2 max-pooling, BatchNorm, activation; convolution, BatchNorm, activation."""

    width: int
    activation: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H/2,W/2,width]."""
        act = activation(self.activation)
        for i in (1, 2):
            conv = Conv(
                self.width, (3, 3), padding=1, use_bias=False, dtype=self.dtype, kernel_init=_dirac, name=f"conv{i}"
            )
            x = conv(x)
            if i == 1:
                x = max_pool(x, 2, 2)
            norm = BatchNorm(momentum=0.4, epsilon=1e-12, use_scale=False, dtype=self.dtype, name=f"norm{i}")
            x = act(norm(x, train=train))
        return x


def _torch_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """PyTorch's initialization of the first layer's bias, which tells its filters apart from their negatives."""
    bound = _WHITENED**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """PyTorch's initialization of a convolution, but the first outputs, as many as inputs, pass these on."""
    kernel = linear_uniform(key, shape, dtype)
    height, width, inputs, outputs = shape
    passed = min(inputs, outputs)
    kernel = kernel.at[..., :passed].set(0.0)
    return kernel.at[height // 2, width // 2, jnp.arange(passed), jnp.arange(passed)].set(1.0)

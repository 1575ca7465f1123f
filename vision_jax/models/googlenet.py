"""GoogLeNet (Inception v1) with BatchNorm and auxiliary heads.

Source: Szegedy et al. 2015 (arXiv 1409.4842). Reference implementation: `torchvision.models.googlenet`, down to its
3×3 convolution in the "5×5" branch; module names are torchvision's (`inception3a/branch2_0` is
`inception3a.branch2.0`).
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import Dense, Dropout, adaptive_avg_pool, at_least_float32, global_avg_pool, max_pool
from vision_jax.models.network import AuxiliaryClassifier, ConvNormRelu, imagenet_to_unit_range
from vision_jax.utils.options import Between

_INIT = nn.initializers.normal(0.01)

# Widths of a module: 1×1; 1×1 before 3×3, 3×3; 1×1 before "5×5", "5×5"; 1×1 after pooling. None is a max-pool.
_MODULES: dict[str, tuple[int, ...] | None] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "maxpool3": None,
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "maxpool4": None,
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
_AUXILIARY = {"inception4a": "aux1", "inception4d": "aux2"}


class GoogLeNet(AuxiliaryClassifier):
    """[N,H,W,3] (H, W ≥ 15) → logits [N,num_classes].

    Attributes:
        aux_logits: have the two auxiliary heads; in training their logits stand in collection 'aux_logits'.
        dropout: rate before the head.
        aux_dropout: rate in the auxiliary heads.
        transform_input: take images normalized with ImageNet's mean and deviation and bring them to the range
            [-1, 1] that the published weights expect. Leave False for images normalized with mean and deviation 0.5.
    """

    dropout: Annotated[float, Between(0, 0.95)] = 0.2
    aux_dropout: Annotated[float, Between(0, 0.95)] = 0.7
    transform_input: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, the three groups of modules, the heads."""
        groups = {
            f"inception{i}": tuple(name for name in _MODULES if name.startswith(f"inception{i}")) for i in (3, 4, 5)
        }
        aux = tuple(_AUXILIARY.values()) if self.aux_logits else ()
        return {"stem": ("conv1", "conv2", "conv3"), **groups, "head": ("dropout", "fc", *aux)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer, and those of the auxiliary heads."""
        return ("fc", *(f"{aux}/fc2" for aux in _AUXILIARY.values() if self.aux_logits))

    @property
    def aux_weights(self) -> dict[str, float]:
        """The paper's weight of 0.3 for each auxiliary loss."""
        return dict.fromkeys(_AUXILIARY.values(), 0.3) if self.aux_logits else {}

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,3] → float32 logits."""
        if self.transform_input:
            x = imagenet_to_unit_range(x)
        x = _conv(64, 7, 2, self.dtype, "conv1")(x.astype(self.dtype), train=train)
        x = max_pool(x, 3, 2, ceil_mode=True)
        x = _conv(64, 1, 1, self.dtype, "conv2")(x, train=train)
        x = _conv(192, 3, 1, self.dtype, "conv3")(x, train=train)
        x = self.keep("stem", max_pool(x, 3, 2, ceil_mode=True))
        for name, widths in _MODULES.items():
            if widths is None:
                x = max_pool(x, 3 if name == "maxpool3" else 2, 2, ceil_mode=True)
                continue
            x = self.keep(name, Inception(widths, self.dtype, name=name)(x, train=train))
            if name in _AUXILIARY and self.aux_logits and (train or self.is_initializing()):
                aux = AuxiliaryHead(self.num_classes, self.aux_dropout, self.dtype, name=_AUXILIARY[name])
                self.keep_aux(_AUXILIARY[name], aux(x, train=train))
        x = self.keep("features", global_avg_pool(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, kernel_init=_INIT, name="fc")(x))


class Inception(nn.Module):
    """Four branches side by side: 1×1; 1×1, 3×3; 1×1, 3×3; 3×3 max-pool, 1×1."""

    widths: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H,W,sum of the branches' widths]."""
        w1, w2a, w2b, w3a, w3b, w4 = self.widths
        b1 = _conv(w1, 1, 1, self.dtype, "branch1")(x, train=train)
        b2 = _conv(w2a, 1, 1, self.dtype, "branch2_0")(x, train=train)
        b2 = _conv(w2b, 3, 1, self.dtype, "branch2_1")(b2, train=train)
        b3 = _conv(w3a, 1, 1, self.dtype, "branch3_0")(x, train=train)
        b3 = _conv(w3b, 3, 1, self.dtype, "branch3_1")(b3, train=train)
        b4 = _conv(w4, 1, 1, self.dtype, "branch4_1")(max_pool(x, 3, 1, 1), train=train)
        return jnp.concatenate([b1, b2, b3, b4], axis=-1)


class AuxiliaryHead(nn.Module):
    """4×4 means, 1×1 convolution, Dense 1024, dropout, Dense."""

    num_classes: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → float32 logits."""
        x = _conv(128, 1, 1, self.dtype, "conv")(adaptive_avg_pool(x, 4), train=train)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(1024, dtype=self.dtype, kernel_init=_INIT, name="fc1")(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, kernel_init=_INIT, name="fc2")(x))


def _conv(features: int, side: int, stride: int, dtype: Any, name: str) -> ConvNormRelu:
    """Convolution, BatchNorm, ReLU, keeping the size at stride 1."""
    return ConvNormRelu(features, (side, side), stride, side // 2, dtype, _INIT, name=name)

"""Inception v3, as published with torchvision and as the Fréchet Inception Distance uses it.

Source: Szegedy et al. 2016 (arXiv 1512.00567). Reference implementations: `torchvision.models.inception_v3`, and for
the FID network `pytorch_fid.inception`, which rebuilds the TensorFlow graph of 2015-12-05 that all FID figures rest
on. Module names are torchvision's.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import Dense, Dropout, at_least_float32, avg_pool, global_avg_pool, max_pool
from vision_jax.models.network import AuxiliaryClassifier, ConvNormRelu, imagenet_to_unit_range
from vision_jax.utils.options import Between

_INIT = nn.initializers.normal(0.1)

# A branch is a chain of (module name, features, kernel height, kernel width, stride). A convolution of stride 1 keeps
# the size, one of stride 2 has no padding. A tuple of two at the end of a chain runs both and joins their channels.
_Branch = tuple[Any, ...]


def _a(pool_features: int) -> tuple[_Branch, ...]:
    return (
        (("branch1x1", 64, 1, 1, 1),),
        (("branch5x5_1", 48, 1, 1, 1), ("branch5x5_2", 64, 5, 5, 1)),
        (("branch3x3dbl_1", 64, 1, 1, 1), ("branch3x3dbl_2", 96, 3, 3, 1), ("branch3x3dbl_3", 96, 3, 3, 1)),
        ("pool", ("branch_pool", pool_features, 1, 1, 1)),
    )


_B: tuple[_Branch, ...] = (
    (("branch3x3", 384, 3, 3, 2),),
    (("branch3x3dbl_1", 64, 1, 1, 1), ("branch3x3dbl_2", 96, 3, 3, 1), ("branch3x3dbl_3", 96, 3, 3, 2)),
    ("reduce",),
)


def _c(c7: int) -> tuple[_Branch, ...]:
    return (
        (("branch1x1", 192, 1, 1, 1),),
        (("branch7x7_1", c7, 1, 1, 1), ("branch7x7_2", c7, 1, 7, 1), ("branch7x7_3", 192, 7, 1, 1)),
        (
            ("branch7x7dbl_1", c7, 1, 1, 1),
            ("branch7x7dbl_2", c7, 7, 1, 1),
            ("branch7x7dbl_3", c7, 1, 7, 1),
            ("branch7x7dbl_4", c7, 7, 1, 1),
            ("branch7x7dbl_5", 192, 1, 7, 1),
        ),
        ("pool", ("branch_pool", 192, 1, 1, 1)),
    )


_D: tuple[_Branch, ...] = (
    (("branch3x3_1", 192, 1, 1, 1), ("branch3x3_2", 320, 3, 3, 2)),
    (
        ("branch7x7x3_1", 192, 1, 1, 1),
        ("branch7x7x3_2", 192, 1, 7, 1),
        ("branch7x7x3_3", 192, 7, 1, 1),
        ("branch7x7x3_4", 192, 3, 3, 2),
    ),
    ("reduce",),
)

_E: tuple[_Branch, ...] = (
    (("branch1x1", 320, 1, 1, 1),),
    (("branch3x3_1", 384, 1, 1, 1), (("branch3x3_2a", 384, 1, 3, 1), ("branch3x3_2b", 384, 3, 1, 1))),
    (
        ("branch3x3dbl_1", 448, 1, 1, 1),
        ("branch3x3dbl_2", 384, 3, 3, 1),
        (("branch3x3dbl_3a", 384, 1, 3, 1), ("branch3x3dbl_3b", 384, 3, 1, 1)),
    ),
    ("pool", ("branch_pool", 192, 1, 1, 1)),
)

_MIXED: dict[str, tuple[_Branch, ...]] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _B,
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _D,
    "Mixed_7b": _E,
    "Mixed_7c": _E,
}


class InceptionV3(AuxiliaryClassifier):
    """[N,H,W,3] (H, W ≥ 75) → logits [N,num_classes].

    Keeps 'pool1' (64 channels), 'pool2' (192), each 'Mixed_…' (768 at Mixed_6e) and 'features' (2048).

    Attributes:
        aux_logits: have the auxiliary head, which needs images of about 299 pixels in training; its logits then
            stand in collection 'aux_logits'.
        dropout: rate before the head.
        transform_input: as for GoogLeNet: from ImageNet's normalization to the range [-1, 1] of the weights.
        fid: the variant behind FID figures: mean pooling leaves the padding out, the last module pools by maximum.
    """

    aux_logits: bool = True
    dropout: Annotated[float, Between(0, 0.95)] = 0.5
    transform_input: bool = False
    fid: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stem, the groups 5, 6 and 7 of modules, the heads."""
        stem = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
        groups = {f"mixed{i}": tuple(name for name in _MIXED if name[6] == str(i)) for i in (5, 6, 7)}
        aux = ("AuxLogits",) if self.aux_logits else ()
        return {"stem": stem, **groups, "head": ("dropout", "fc", *aux)}

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer, and the auxiliary head's."""
        return ("fc", "AuxLogits/fc") if self.aux_logits else ("fc",)

    @property
    def aux_weights(self) -> dict[str, float]:
        """The weight 0.4 that torchvision's training reference gives the auxiliary loss."""
        return {"AuxLogits": 0.4} if self.aux_logits else {}

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,3] → float32 logits."""
        if self.transform_input:
            x = imagenet_to_unit_range(x)
        x = _conv(32, 3, 3, 2, self.dtype, "Conv2d_1a_3x3")(x.astype(self.dtype), train=train)
        x = _conv(32, 3, 3, 1, self.dtype, "Conv2d_2a_3x3", padding=0)(x, train=train)
        x = _conv(64, 3, 3, 1, self.dtype, "Conv2d_2b_3x3")(x, train=train)
        x = self.keep("pool1", max_pool(x, 3, 2))
        x = _conv(80, 1, 1, 1, self.dtype, "Conv2d_3b_1x1")(x, train=train)
        x = _conv(192, 3, 3, 1, self.dtype, "Conv2d_4a_3x3", padding=0)(x, train=train)
        x = self.keep("pool2", max_pool(x, 3, 2))
        for name, branches in _MIXED.items():
            pool = "max" if self.fid and name == "Mixed_7c" else "avg_inside" if self.fid else "avg"
            x = self.keep(name, Mixed(branches, pool, self.dtype, name=name)(x, train=train))
            if name == "Mixed_6e" and self.aux_logits and (train or self.is_initializing()):
                aux = AuxiliaryHead(self.num_classes, self.dtype, name="AuxLogits")
                self.keep_aux("AuxLogits", aux(x, train=train))
        x = self.keep("features", global_avg_pool(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return at_least_float32(Dense(self.num_classes, dtype=self.dtype, kernel_init=_INIT, name="fc")(x))


class Mixed(nn.Module):
    """Branches side by side, joined along the channels."""

    branches: tuple[_Branch, ...]
    pool: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,C] → [N,H',W',C']."""
        return jnp.concatenate([self._branch(branch, x, train) for branch in self.branches], axis=-1)

    def _branch(self, branch: _Branch, x: jax.Array, train: bool) -> jax.Array:
        for step in branch:
            if step == "reduce":
                x = max_pool(x, 3, 2)
            elif step == "pool":
                x = max_pool(x, 3, 1, 1) if self.pool == "max" else avg_pool(x, 3, 1, 1, self.pool == "avg")
            elif isinstance(step[0], tuple):
                x = jnp.concatenate([self._branch((half,), x, train) for half in step], axis=-1)
            else:
                name, features, height, width, stride = step
                x = _conv(features, height, width, stride, self.dtype, name)(x, train=train)
        return x


class AuxiliaryHead(nn.Module):
    """5×5 means of stride 3, 1×1 and 5×5 convolutions, global mean, Dense."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N,H,W,768] (H, W ≥ 17) → float32 logits."""
        if min(x.shape[1:3]) < 17:
            raise ValueError(
                f"the auxiliary head of inception_v3 needs a 17×17 map and got {x.shape[1]}×{x.shape[2]}; "
                "train with images of 299 pixels, or set config.model.aux_logits=False"
            )
        x = _conv(128, 1, 1, 1, self.dtype, "conv0")(avg_pool(x, 5, 3), train=train)
        small = nn.initializers.normal(0.01)
        x = ConvNormRelu(768, (5, 5), 1, 0, self.dtype, small, name="conv1")(x, train=train)
        head = Dense(self.num_classes, dtype=self.dtype, kernel_init=nn.initializers.normal(0.001), name="fc")
        return at_least_float32(head(global_avg_pool(x)))


def _conv(
    features: int, height: int, width: int, stride: int, dtype: Any, name: str, padding: int | None = None
) -> ConvNormRelu:
    """Convolution, BatchNorm, ReLU; without `padding` given, size is kept at stride 1 and cut at stride 2."""
    pads: Any = padding
    if padding is None:
        pads = ((height // 2,) * 2, (width // 2,) * 2) if stride == 1 else 0
    return ConvNormRelu(features, (height, width), stride, pads, dtype, _INIT, name=name)

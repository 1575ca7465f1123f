"""VGG networks of 11, 13, 16 and 19 layers, with and without BatchNorm.

Source: Simonyan & Zisserman 2015 (arXiv 1409.1556). Reference implementation: `torchvision.models.vgg`, whose sequence
numbers the modules carry (`features_0` is torchvision's `features.0`).
"""

from typing import Annotated

import flax.linen as nn
import jax
from jax import numpy as jnp

from vision_jax.models.layers import BatchNorm, Conv, Dense, Dropout, adaptive_avg_pool, at_least_float32, max_pool
from vision_jax.models.network import Classifier
from vision_jax.utils.options import Between

CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_DENSE_KERNEL = nn.initializers.normal(0.01)


class VGG(Classifier):
    """Five blocks of 3×3 convolutions and three dense layers; [N,H,W,3] (H, W ≥ 32) → logits [N,num_classes].

    Attributes:
        depth: 11, 13, 16 or 19 layers with weights.
        batch_norm: normalize after each convolution.
        dropout: rate after each of the two hidden dense layers.
        include_top: False stops after the fifth block and returns its features averaged to [N,512]: the network
            that a perceptual loss looks into needs none of the 120 million parameters after it.
    """

    depth: int = 16
    batch_norm: bool = False
    dropout: Annotated[float, Between(0, 0.95)] = 0.5
    include_top: bool = True

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Five blocks, the two hidden dense layers, the head."""
        step = 3 if self.batch_norm else 2
        stages, index = {}, 0
        for block, convs in enumerate(CONVS[self.depth], 1):
            names = []
            for _ in range(convs):
                names += [f"features_{index}"] + [f"features_{index + 1}"] * self.batch_norm
                index += step
            index += 1
            stages[f"block{block}"] = tuple(names)
        if self.include_top:
            stages["hidden"] = ("classifier_0", "classifier_2", "classifier_3")
            stages["head"] = ("classifier_5", "classifier_6")
        return stages

    @property
    def head_layers(self) -> tuple[str, ...]:
        """The last Dense layer."""
        return ("classifier_6",)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images [N,H,W,C] → float32 logits. Also keeps 'relu1_1' … 'relu5_4', the outputs of each convolution."""
        if self.depth not in CONVS:
            raise ValueError(f"VGG has 11, 13, 16 or 19 layers, not {self.depth}; set depth to one of these")
        x, index = x.astype(self.dtype), 0
        for block, (convs, features) in enumerate(zip(CONVS[self.depth], _CHANNELS, strict=True), 1):
            for i in range(convs):
                x = Conv(features, (3, 3), padding=1, dtype=self.dtype, name=f"features_{index}")(x)
                if self.batch_norm:
                    x = BatchNorm(dtype=self.dtype, name=f"features_{index + 1}")(x, train=train)
                x = self.keep(f"relu{block}_{i + 1}", nn.relu(x))
                index += 3 if self.batch_norm else 2
            x = self.keep(f"block{block}", max_pool(x, 2, 2))
            index += 1
        if not self.include_top:
            return self.keep("features", x.mean((1, 2), dtype=jnp.float32))
        x = adaptive_avg_pool(x, 7).reshape(x.shape[0], -1)
        for i in (0, 3):
            x = nn.relu(Dense(4096, dtype=self.dtype, kernel_init=_DENSE_KERNEL, name=f"classifier_{i}")(x))
            if i == 3:
                self.keep("hidden", x)
                self.keep("features", x)
            x = Dropout(self.dropout, name=f"classifier_{i + 2}")(x, train=train)
        head = Dense(self.num_classes, dtype=self.dtype, kernel_init=_DENSE_KERNEL, name="classifier_6")
        return at_least_float32(head(x))

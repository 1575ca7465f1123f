"""ESPCN: three convolutions on the low-resolution image, whose last channels are the pixels of the large one.

Source: Shi et al. 2016 (arXiv 1609.05158), "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network": f1 = 5, f2 = f3 = 3, n1 = 64, n2 = 32, tanh.
"""

from typing import Annotated

import flax.linen as nn
import jax

from vision_jax.models.layers import Conv, activation, at_least_float32, kaiming_fan_in
from vision_jax.models.upscaler import Upscaler, pixel_shuffle
from vision_jax.utils.options import OneOf


class ESPCN(Upscaler):
    """[N,h,w,channels] in [0, 1] → float32 [N,h·scale,w·scale,channels], not clipped.

    Attributes:
        kernel_sizes: sides of the three kernels in pixels.
        features: channels of the two hidden layers.
        activation: after these.
    """

    kernel_sizes: tuple[int, int, int] = (5, 3, 3)
    features: tuple[int, int] = (64, 32)
    activation: Annotated[str, OneOf(("tanh", "relu"))] = "tanh"

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Two hidden layers, and the one that makes the pixels (the head)."""
        return {"conv1": ("conv1",), "conv2": ("conv2",), "head": ("conv3",)}

    @property
    def context(self) -> int:
        return sum(k // 2 for k in self.kernel_sizes)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Low resolution → high resolution; `train` changes nothing."""
        x = x.astype(self.dtype)
        widths = (*self.features, self.channels * self.scale**2)
        for i, (width, k) in enumerate(zip(widths, self.kernel_sizes, strict=True), 1):
            x = Conv(width, (k, k), padding="SAME", dtype=self.dtype, kernel_init=kaiming_fan_in, name=f"conv{i}")(x)
            if i < 3:
                x = self.keep(f"conv{i}", activation(self.activation)(x))
        return at_least_float32(pixel_shuffle(x, self.scale))

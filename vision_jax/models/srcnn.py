"""SRCNN: a low-resolution image enlarged by bicubic interpolation → a sharper one of the same size.

Source: Dong, Loy, He & Tang 2015 (arXiv 1501.00092), whose models are called "9-1-5", "9-3-5" and "9-5-5" by their
three kernel sizes. The paper trains without padding and tests with repeated borders; zero padding here, as in the
common PyTorch implementations, gives the same inside.
"""

from typing import ClassVar

import flax.linen as nn
import jax

from vision_jax.models.layers import Conv, at_least_float32, kaiming_fan_in
from vision_jax.models.upscaler import Upscaler

# The paper draws all filters from a normal of deviation 0.001; only the last layer does here, so that training starts
# from a small output and does not stall in the first two layers.
_LAST = nn.initializers.normal(0.001)


class SRCNN(Upscaler):
    """[N,H,W,channels] in [0, 1] → float32 [N,H,W,channels], not clipped: two ReLU convolutions and a linear one.

    Attributes:
        kernel_sizes: sides of the three kernels in pixels.
        features: channels of the two hidden layers.
        residual: add the input to the output, so that the network learns what bicubic interpolation lost.
    """

    sees_enlarged: ClassVar[bool] = True

    kernel_sizes: tuple[int, int, int] = (9, 5, 5)
    features: tuple[int, int] = (64, 32)
    residual: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Patch extraction, non-linear mapping, reconstruction (the head)."""
        return {"conv1": ("conv1",), "conv2": ("conv2",), "head": ("conv3",)}

    @property
    def context(self) -> int:
        return sum(k // 2 for k in self.kernel_sizes)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Enlarged images → restored images; `train` changes nothing."""
        y = x.astype(self.dtype)
        for i, (features, k) in enumerate(zip(self.features, self.kernel_sizes[:2], strict=True), 1):
            conv = Conv(features, (k, k), padding="SAME", dtype=self.dtype, kernel_init=kaiming_fan_in, name=f"conv{i}")
            y = self.keep(f"conv{i}", nn.relu(conv(y)))
        k = self.kernel_sizes[2]
        y = Conv(self.channels, (k, k), padding="SAME", dtype=self.dtype, kernel_init=_LAST, name="conv3")(y)
        y = at_least_float32(y)
        return y + at_least_float32(x) if self.residual else y

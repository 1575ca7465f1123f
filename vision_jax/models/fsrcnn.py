"""FSRCNN: SRCNN's successor, which works on the low-resolution image and ends in a transposed convolution.

Source: Dong, Loy & Tang 2016 (arXiv 1608.00367), FSRCNN(d, s, m): d features, shrunk to s for m mapping layers.
"""

from typing import Annotated

import flax.linen as nn
import jax

from vision_jax.models.layers import Conv, ConvTranspose, PReLU, at_least_float32, kaiming_fan_in
from vision_jax.models.upscaler import Upscaler
from vision_jax.utils.options import Between

_LAST = nn.initializers.normal(0.001)  # The paper's, of the transposed convolution.


class FSRCNN(Upscaler):
    """[N,h,w,channels] in [0, 1] → float32 [N,h·scale,w·scale,channels], not clipped.

    Attributes:
        features: channels of the first and the last but one layer, the paper's d.
        shrunk: channels of the mapping layers, the paper's s.
        mappings: their number, the paper's m.
    """

    features: Annotated[int, Between(1)] = 56
    shrunk: Annotated[int, Between(1)] = 12
    mappings: Annotated[int, Between(0, 32)] = 4

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Feature extraction, shrinking, mapping, expanding, and the transposed convolution (the head)."""
        mapping = tuple(f"{kind}{i}" for i in range(3, 3 + self.mappings) for kind in ("conv", "prelu"))
        last = 3 + self.mappings
        return {
            "extract": ("conv1", "prelu1"),
            "shrink": ("conv2", "prelu2"),
            **({"map": mapping} if mapping else {}),
            "expand": (f"conv{last}", f"prelu{last}"),
            "head": ("convt",),
        }

    @property
    def context(self) -> int:
        # The transposed convolution's 9 pixels of the output reach 4 to either side, at most 2 pixels of the input.
        return 2 + self.mappings + -(-4 // self.scale)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Low resolution → high resolution; `train` changes nothing."""
        x = x.astype(self.dtype)
        widths = (self.features, self.shrunk, *[self.shrunk] * self.mappings, self.features)
        sides = (5, 1, *[3] * self.mappings, 1)
        for i, (width, k) in enumerate(zip(widths, sides, strict=True), 1):
            x = Conv(width, (k, k), padding="SAME", dtype=self.dtype, kernel_init=kaiming_fan_in, name=f"conv{i}")(x)
            x = self.keep(f"conv{i}", PReLU(dtype=self.dtype, name=f"prelu{i}")(x))
        last = ConvTranspose(
            self.channels,
            9,
            self.scale,
            4,
            output_padding=self.scale - 1,
            dtype=self.dtype,
            kernel_init=_LAST,
            name="convt",
        )
        return at_least_float32(last(x))

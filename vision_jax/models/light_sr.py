"""A light network for super-resolution: trained wide, deployed as plain 3×3 convolutions.

While it trains, each convolution is a sum of linear branches, which is easier to optimize; a sum of linear maps is one
linear map, so that in use each is a single 3×3 convolution. Branches that meet no bias before their padding collapse
exactly. The collapsed kernel is computed from the branches' at every training step, so that training costs what the
deployed network does.

Sources: Zhang, Zeng & Zhang 2021, "Edge-oriented Convolution Block for Real-time Super Resolution" (ECBSR: the
branches, and the repeated input that is added to the end); Bhardwaj et al. 2022, SESR (arXiv 2103.09404: collapsing
before the convolution while training).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from vision_jax import ops
from vision_jax.models.layers import PReLU, at_least_float32
from vision_jax.models.upscaler import Upscaler, pixel_shuffle
from vision_jax.utils.options import Between

# Sobel's two derivatives and the Laplacian, [filter, row, column].
EDGES = np.array(
    [
        [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    ],
    np.float32,
)


def _scaled(scale: float) -> jax.nn.initializers.Initializer:
    return nn.initializers.variance_scaling(scale, "fan_in", "normal")


class CollapsibleConv(nn.Module):
    """A 3×3 convolution [N,h,w,C] → [N,h,w,features] with zero padding, which trains as a sum of branches.

    These are a 3×3 convolution; a 1×1 convolution to `expansion` · features channels and a 3×3 one back; a 1×1
    convolution followed by each of `EDGES` on every channel, with a factor per channel; and the input itself where it
    has as many channels. One bias belongs to their sum.

    Attributes:
        features: channels of the output.
        expansion: of the inner channels of the second branch; 0 leaves it out.
        collapsed: have the one kernel instead of the branches' (see `collapse`).
        dtype: compute type.
        gain: of the initialization: the last layer's is small, so that training starts from the repeated input.
    """

    features: int
    expansion: int
    collapsed: bool
    dtype: Any = jnp.float32
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w {self.features}"]:
        """Convolve `x`."""
        inputs = x.shape[-1]
        if self.collapsed:
            kernel = self.param("kernel", _scaled(1.0), (3, 3, inputs, self.features), jnp.float32)
        else:
            inner = self.expansion * self.features
            params = {
                "square": self.param("square", _scaled(0.5 * self.gain), (3, 3, inputs, self.features), jnp.float32),
                "edge_kernel": self.param("edge_kernel", _scaled(0.5), (3, inputs, self.features), jnp.float32),
                "edge_scale": self.param("edge_scale", nn.initializers.normal(0.001), (3, self.features), jnp.float32),
            }
            if inner:
                params["expand"] = self.param("expand", _scaled(1.0), (inputs, inner), jnp.float32)
                params["project"] = self.param(
                    "project", _scaled(0.25 * self.gain), (3, 3, inner, self.features), jnp.float32
                )
            kernel = collapse(params)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        same = ((1, 1), (1, 1))
        y = ops.conv_general_dilated(
            x.astype(self.dtype), kernel.astype(self.dtype), (1, 1), same, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + bias.astype(self.dtype)


def collapse(params: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the kernel [3,3,C,features] of the one convolution that equals the sum of a layer's branches."""
    kernel = params["square"]
    if "expand" in params:
        kernel = kernel + jnp.einsum("im,yxmo->yxio", params["expand"], params["project"], precision="highest")
    edges = params["edge_kernel"], params["edge_scale"], jnp.asarray(EDGES, kernel.dtype)
    kernel = kernel + jnp.einsum("eio,eo,eyx->yxio", *edges, precision="highest")
    inputs, outputs = kernel.shape[2:]
    return kernel.at[1, 1].add(jnp.eye(inputs, dtype=kernel.dtype)) if inputs == outputs else kernel


class LightSR(Upscaler):
    """[N,h,w,channels] in [0, 1] → float32 [N,h·scale,w·scale,channels], not clipped.

    `depth` + 2 collapsible convolutions with PReLU between them, and a pixel shuffle, to whose result the input is
    added with its pixels repeated.

    Attributes:
        features: channels of the hidden layers.
        depth: convolutions from hidden layer to hidden layer.
        expansion: how many times as many channels the inner layers of the branches have; 0 leaves that branch out.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("collapsed",)

    features: Annotated[int, Between(1)] = 16
    depth: Annotated[int, Between(0, 64)] = 10
    expansion: Annotated[int, Between(0, 64)] = 4
    collapsed: bool = False

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Every layer with its activation; the last convolution is the head."""
        body = {f"layer{i}": (f"conv{i}", f"prelu{i}") for i in range(self.depth + 1)}
        return body | {"head": (f"conv{self.depth + 1}",)}

    @property
    def context(self) -> int:
        return self.depth + 2

    def deployed(self, variables: Mapping[str, Any]) -> tuple["LightSR", Mapping[str, Any]]:
        """The network with one kernel per convolution."""
        if self.collapsed:
            return self, variables
        params = {
            name: {"kernel": collapse(layer), "bias": layer["bias"]} if name.startswith("conv") else layer
            for name, layer in variables["params"].items()
        }
        return self.clone(collapsed=True, parent=None), {**variables, "params": params}

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Low resolution → high resolution; `train` changes nothing."""
        outputs = self.channels * self.scale**2
        y = x.astype(self.dtype)
        for i in range(self.depth + 1):
            y = CollapsibleConv(self.features, self.expansion, self.collapsed, self.dtype, name=f"conv{i}")(y)
            y = self.keep(f"layer{i}", PReLU(dtype=self.dtype, name=f"prelu{i}")(y))
        name = f"conv{self.depth + 1}"
        last = CollapsibleConv(outputs, self.expansion, self.collapsed, self.dtype, gain=1e-4, name=name)
        repeated = jnp.repeat(at_least_float32(x), self.scale**2, axis=-1)
        return pixel_shuffle(at_least_float32(last(y)) + repeated, self.scale)

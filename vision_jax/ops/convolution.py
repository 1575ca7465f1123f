"""The public convolutions: argument checking and padding, then the primitives of `primitive.py`."""

from collections.abc import Sequence

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Shaped

from vision_jax.ops import primitive
from vision_jax.ops.geometry import Geometry, pair

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: Shaped[Array, "..."],
    rhs: Shaped[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision=None,
    preferred_element_type=None,
) -> Shaped[Array, "..."]:
    """`lax.conv_general_dilated`, fast on a CPU for [N,H,W,C] images and [h,w,C/groups,O] kernels.

    Same arguments, result and errors. What is not a two-dimensional NHWC/HWIO convolution of floats without image
    dilation and with padding of at least zero is handed to `lax.conv_general_dilated` as it is.
    """

    def plain() -> jax.Array:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )

    if not (jnp.ndim(lhs) == jnp.ndim(rhs) == 4 and lhs.dtype == rhs.dtype and jnp.issubdtype(lhs.dtype, jnp.floating)):
        return plain()
    if dimension_numbers is None or batch_group_count != 1 or any(d != 1 for d in lhs_dilation or ()):
        return plain()
    if preferred_element_type not in (None, lhs.dtype):
        return plain()
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if numbers != lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC):
        return plain()
    dilation = tuple(rhs_dilation or (1, 1))
    kernel = rhs.shape[:2]
    if isinstance(padding, str):
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], spans, window_strides, padding)
    pads = tuple((int(lo), int(hi)) for lo, hi in padding)
    consistent = (
        len(pads) == len(window_strides) == len(dilation) == 2
        and lhs.shape[3] == rhs.shape[2] * feature_group_count
        and rhs.shape[3] % feature_group_count == 0
        and min(*kernel, *window_strides, *dilation) >= 1
    )
    if not consistent or min(min(p) for p in pads) < 0:
        return plain()  # which raises the error that fits
    g = Geometry(
        pair(lhs.shape[1:3]),
        pair(kernel),
        pair(window_strides),
        pair(pads),
        pair(dilation),
        feature_group_count,
        precision,
    )
    return primitive.forward(lhs, rhs, g)


def conv_transpose(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c o"],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> Float[Array, "n h2 w2 o"]:
    """`lax.conv_transpose`, fast on a CPU.

    `padding` is 'SAME' (H' = H * stride), 'VALID' or pairs: zeros around the spread image, before the kernel slides
    over it. It is the input gradient of a convolution with the reversed kernel, and is computed as that.
    """

    def plain() -> jax.Array:
        return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=_NHWC)

    size, k, s = x.shape[1:3], kernel.shape[:2], tuple(strides)
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return plain()
        pairs = tuple(_transpose_pads(a, b, padding) for a, b in zip(k, s, strict=True))
    else:
        pairs = tuple((int(lo), int(hi)) for lo, hi in padding)
    image = tuple((n - 1) * b + 1 + lo + hi - a + 1 for n, a, b, (lo, hi) in zip(size, k, s, pairs, strict=True))
    # Padding of the convolution whose transpose this is: kernel - 1 - what is put around the spread image.
    pads = tuple((a - 1 - lo, a - 1 - hi) for a, (lo, hi) in zip(k, pairs, strict=True))
    if x.dtype != kernel.dtype or min(min(p) for p in pads) < 0 or min(image) < 1 or x.shape[3] != kernel.shape[2]:
        return plain()
    g = Geometry(pair(image), pair(k), pair(s), pair(pads))
    assert g.out == size, (g, size)
    return primitive.input_gradient(x, jnp.swapaxes(lax.rev(kernel, (0, 1)), 2, 3), g)


def _transpose_pads(k: int, s: int, padding: str) -> tuple[int, int]:
    """Zeros around the spread image, as `lax.conv_transpose` counts them."""
    if padding == "SAME":
        total = k + s - 2
        before = k - 1 if s > k - 1 else -(-total // 2)
    else:
        total = k + s - 2 + max(k - s, 0)
        before = k - 1
    return before, total - before

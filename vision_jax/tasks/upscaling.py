"""Making low resolution, and enlarging it: by bicubic interpolation and by a network, which the tool does as well."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vision_jax.metrics import image_quality
from vision_jax.models.upscaler import Upscaler
from vision_jax.ops import resize

METHOD = "pillow_bicubic"  # Antialiased where it reduces; a = -0.5.
Variables = Mapping[str, Any]


def cropped(images: Any, scale: int) -> Any:
    """Images [..., H, W, C] without the last rows and columns that are no multiple of `scale`."""
    height, width = images.shape[-3:-1]
    return images[..., : height - height % scale, : width - width % scale, :]


def reduce(high: jax.Array, scale: int) -> jax.Array:
    """Images [N, H, W, C] in [0, 1] -> [N, H // scale, W // scale, C], clipped; H and W are multiples of `scale`."""
    height, width = high.shape[1:3]
    return jnp.clip(resize.resize(high, (height // scale, width // scale), METHOD), 0.0, 1.0)


def enlarge(low: jax.Array, scale: int) -> jax.Array:
    """Bicubic interpolation [N, h, w, C] -> [N, h * scale, w * scale, C], clipped to [0, 1]."""
    height, width = low.shape[1:3]
    return jnp.clip(resize.resize(low, (height * scale, width * scale), METHOD), 0.0, 1.0)


def margin(model: Upscaler) -> int:
    """Returns how many pixels around a low-resolution pixel its restoration depends on."""
    if model.sees_enlarged:
        return -(-model.context // model.scale) + 2  # Bicubic interpolation looks at two pixels on each side.
    return model.context


def restore(model: Upscaler, variables: Variables, low: jax.Array) -> jax.Array:
    """Low resolution [N, h, w, C] in [0, 1] -> [N, h * scale, w * scale, C] in [0, 1].

    The outermost pixels are repeated around the image as far as the network looks, as SRCNN's published code does.
    """
    seen = enlarge(low, model.scale) if model.sees_enlarged else low
    context = model.context
    surrounded = jnp.pad(seen, ((0, 0), (context, context), (context, context), (0, 0)), mode="edge")
    cut = context if model.sees_enlarged else context * model.scale
    restored = model.apply(variables, surrounded, train=False)
    return jnp.clip(restored[:, cut:-cut, cut:-cut], 0.0, 1.0)


def restore_rgb(model: Upscaler, variables: Variables, low: jax.Array) -> jax.Array:
    """RGB in low resolution [N, h, w, 3] in [0, 1] -> RGB in high resolution, by a network for RGB or for luma.

    With a network for luma, the other two channels are enlarged by bicubic interpolation, as they are in papers.
    """
    if model.channels == low.shape[-1]:
        return restore(model, variables, low)
    planes = image_quality.rgb_to_ycbcr(low)
    luma = restore(model, variables, planes[..., :1])
    planes = jnp.concatenate([luma, enlarge(planes[..., 1:], model.scale)], -1)
    return jnp.clip(image_quality.ycbcr_to_rgb(planes), 0.0, 1.0)

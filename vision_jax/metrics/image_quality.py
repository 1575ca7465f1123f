"""Peak signal-to-noise ratio as super-resolution papers measure it: on luma, in 8 bits, borders shaved."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def luma(images: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """RGB in [0, 1] -> Y of ITU-R BT.601 in [16, 235], as MATLAB's `rgb2ycbcr`; gray is scaled."""
    if images.shape[-1] == 1:
        return 16.0 + 219.0 * images[..., 0]
    return 16.0 + images @ jnp.asarray([65.481, 128.553, 24.966], jnp.float32)


def psnr_y(images: Float[Array, "n h w c"], references: Float[Array, "n h w c"], shave: int) -> Float[Array, " n"]:
    """Returns the PSNR in dB between images in [0, 1], on luma with peak 255, `shave` pixels cut off.

    Both are rounded to 8 bits first, as if written to files. Identical images give infinity.
    """

    def prepare(x: jax.Array) -> jax.Array:
        height, width = x.shape[1:3]
        x = jnp.round(jnp.clip(x, 0.0, 1.0) * 255.0) / 255.0
        return luma(x[:, shave : height - shave, shave : width - shave])

    error = jnp.mean((prepare(images) - prepare(references)) ** 2, (1, 2))
    return 20.0 * jnp.log10(255.0) - 10.0 * jnp.log10(error)

"""How close a restored picture comes to the original, measured as super-resolution papers do: PSNR, SSIM, features.

The same restoration differs by more than most papers' gains depending on how it is measured: luma in [16, 235] against
RGB is worth about 1.5 dB, luma in [0, 255] costs 1.3, a reduction without antialiasing adds 0.4 to 0.7 to bicubic
interpolation. So a metric's name says the channel, the scale and the shaved border (`psnr_y_x2_shave2`), and a
`Protocol` the rest.

Images are in [0, 1] and are rounded to 8 bits first, as if written to files.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

REDUCTION = "bicubic (Keys, a = -0.5), antialiased, as MATLAB's imresize and Pillow"
# ITU-R BT.601 from RGB in [0, 1]: rows Y, Cb, Cr; added: the offsets. As MATLAB's `rgb2ycbcr`.
_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32)
_OFFSETS = np.array([16.0, 128.0, 128.0], np.float32)
_WINDOW, _SIGMA = 11, 1.5  # Of SSIM.


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What two figures of super-resolution have to share to be compared.

    Attributes:
        scale: factor between low and high resolution.
        shave: pixels cut off at every border before measuring.
        channel: 'y' (luma in [16, 235] of 8-bit RGB, peak 255) or 'rgb' (the mean over all values, peak 255).
        planes: whether 'y' is reduced, restored and rounded to 8 bits as a picture of its own (SRCNN's and FSRCNN's
            published code), and not computed from restored RGB.
        rounded: whether the low resolution is rounded to 8 bits, as in a file.
        reduction: how the low resolution is made, in words.
    """

    scale: int
    shave: int
    channel: str
    planes: bool
    rounded: bool
    reduction: str = REDUCTION

    def metric(self, measure: str) -> str:
        """Returns the name of a measure: 'psnr' -> 'psnr_y_x2_shave2'."""
        return f"{measure}_{self.channel}_x{self.scale}_shave{self.shave}"

    def receipt(self, metric: str, value: float, examples: int) -> dict[str, Any]:
        """Returns what JSON can hold: the figure with all of this."""
        return {"metric": metric, "value": value, "examples": examples, "protocol": dataclasses.asdict(self)}


def luma(images: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """RGB in [0, 1] -> Y of ITU-R BT.601 in [16, 235], as MATLAB's `rgb2ycbcr`; gray is scaled."""
    if images.shape[-1] == 1:
        return 16.0 + 219.0 * images[..., 0]
    return 16.0 + images @ jnp.asarray(_YCBCR[0])


def rgb_to_ycbcr(images: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """RGB in [0, 1] -> Y, Cb, Cr of ITU-R BT.601 over 255: Y in [16, 235] / 255, the others in [16, 240] / 255."""
    return (jnp.einsum("...c,yc->...y", images, jnp.asarray(_YCBCR), precision="highest") + _OFFSETS) / 255.0


def ycbcr_to_rgb(images: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """The inverse of `rgb_to_ycbcr`, not clipped."""
    inverse = jnp.asarray(np.linalg.inv(_YCBCR.astype(np.float64)), jnp.float32)
    return jnp.einsum("...y,cy->...c", 255.0 * images - _OFFSETS, inverse, precision="highest")


def psnr(images: Float[Array, "n h w c"], references: Float[Array, "n h w c"], shave: int) -> Float[Array, " n"]:
    """Returns the PSNR in dB between images in [0, 1] over all their values, peak 1, `shave` pixels cut off.

    Identical images give infinity.
    """
    return _psnr(255.0 * _prepared(images, shave), 255.0 * _prepared(references, shave))


def psnr_y(images: Float[Array, "n h w c"], references: Float[Array, "n h w c"], shave: int) -> Float[Array, " n"]:
    """The same of the luma of RGB or gray images, [16, 235], with peak 255 (not 219)."""
    return _psnr(*(luma(_prepared(x, shave))[..., None] for x in (images, references)))


def ssim(images: Float[Array, "n h w c"], references: Float[Array, "n h w c"], shave: int) -> Float[Array, " n"]:
    """Returns the mean structural similarity between images in [0, 1], over all channels, `shave` pixels cut off.

    Wang et al. 2004: Gaussian windows of 11×11 pixels and σ = 1.5 that lie wholly inside, K1 = 0.01, K2 = 0.03, peak
    255; the authors' MATLAB code but for its reduction of large images. Equal images give 1.

    Raises:
        ValueError: less than 11 pixels are left in a direction.
    """
    return _ssim(255.0 * _prepared(images, shave), 255.0 * _prepared(references, shave))


def ssim_y(images: Float[Array, "n h w c"], references: Float[Array, "n h w c"], shave: int) -> Float[Array, " n"]:
    """The same of the luma of RGB or gray images, in [16, 235]."""
    return _ssim(*(luma(_prepared(x, shave))[..., None] for x in (images, references)))


def feature_distance(
    images: Mapping[str, Float[Array, "n ..."]], references: Mapping[str, Float[Array, "n ..."]]
) -> Float[Array, " n"]:
    """Returns how far features [N, h, w, C] of images are from those of their references: 0 is the same.

    Zhang et al. 2018 (LPIPS, arXiv 1801.03924) before the weights that they learned: each position's features are
    brought to length 1, squared differences are summed over channels, averaged over positions, summed over layers. It
    is no LPIPS, and compares with others in the same features only.

    Args:
        images: features by layer.
        references: the same of the references.
    """

    def directions(x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        return x / (jnp.sqrt(jnp.sum(x**2, -1, keepdims=True)) + 1e-10)

    layers = [(directions(x), directions(references[name])) for name, x in images.items()]
    return jnp.stack([jnp.mean(jnp.sum((a - b) ** 2, -1), (1, 2)) for a, b in layers]).sum(0)


def _prepared(x: jax.Array, shave: int) -> jax.Array:
    """Rounded to 8 bits and without its border, in [0, 1]."""
    height, width = x.shape[1:3]
    return jnp.round(jnp.clip(x[:, shave : height - shave, shave : width - shave], 0.0, 1.0) * 255.0) / 255.0


def _psnr(images: jax.Array, references: jax.Array) -> jax.Array:
    error = jnp.mean((images - references) ** 2, (1, 2, 3))
    return 20.0 * jnp.log10(255.0) - 10.0 * jnp.log10(error)


def _ssim(images: jax.Array, references: jax.Array) -> jax.Array:
    height, width = images.shape[1:3]
    if min(height, width) < _WINDOW:
        raise ValueError(
            f"SSIM looks through windows of {_WINDOW}×{_WINDOW} pixels; {height}×{width} are left of the images. Use "
            "larger images or shave less."
        )
    distances = np.arange(_WINDOW) - _WINDOW // 2
    bell = np.exp(-(distances**2) / (2.0 * _SIGMA**2))
    weights = [float(weight) for weight in bell / bell.sum()]

    def mean(x: jax.Array) -> jax.Array:
        """Over every window."""
        rows, columns = height - _WINDOW + 1, width - _WINDOW + 1
        x = functools.reduce(jnp.add, (weight * x[:, i : i + rows] for i, weight in enumerate(weights)))
        return functools.reduce(jnp.add, (weight * x[:, :, i : i + columns] for i, weight in enumerate(weights)))

    # Variances do not change with the origin, and their rounding errors are smaller around the middle gray.
    a, b = images - 128.0, references - 128.0
    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    mean_a, mean_b = mean_a + 128.0, mean_b + 128.0
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    similarity = (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
    return jnp.mean(similarity / ((mean_a**2 + mean_b**2 + c1) * (variances + c2)), (1, 2, 3))

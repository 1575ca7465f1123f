"""Test-time augmentation: the mean of a network's logits over views of an image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

VIEWS = {"none": 1, "flip": 2, "flip_shift": 6}


def averaged(logits_of: Callable[[jax.Array], jax.Array], images: jax.Array, logits: jax.Array, kind: str) -> jax.Array:
    """Returns logits averaged over views, float32 [N, K].

    'flip' takes an image and its mirror image. 'flip_shift' gives them half of the weight, and the other half to the
    image moved by one pixel to the lower right and to the upper left, each with its mirror image, the edge filled by
    reflection: levels 1 and 2 of KellerJordan/cifar10-airbench.

    Args:
        logits_of: images [N, H, W, C] -> logits [N, K].
        images: uint8 [N, H, W, C].
        logits: of `images`.
        kind: a key of `VIEWS`.

    Raises:
        ValueError: a kind that does not exist, or 'none'.
    """

    def mirrored(images: jax.Array, logits: jax.Array | None = None) -> jax.Array:
        return 0.5 * ((logits_of(images) if logits is None else logits) + logits_of(images[:, :, ::-1]))

    if kind == "flip":
        return mirrored(images, logits)
    if kind != "flip_shift":
        raise ValueError(f"there are no views {kind!r}; there are 'flip' and 'flip_shift'")
    height, width = images.shape[1:3]
    framed = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = mirrored(framed[:, :height, :width]) + mirrored(framed[:, 2:, 2:])
    return 0.5 * mirrored(images, logits) + 0.25 * shifted

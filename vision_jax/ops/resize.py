"""Resizing as other libraries do it, to the last digits, where a measure depends on which one did it.

A resize is linear in rows and in columns: a matrix for each, made on the host, and two products.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp


def _keys_cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5 at distances from the center."""
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - x, 0.0)


# Half widths and filters of those that average over what they shrink.
_HALF_WIDTHS = {"pillow_bilinear": 1, "pillow_bicubic": 2}
_FILTERS = {"pillow_bilinear": _triangle, "pillow_bicubic": _keys_cubic}
METHODS = ("nearest", "torch_bilinear", "tensorflow_bilinear", *_FILTERS)


def resize(images: jax.Array, size: int | tuple[int, int], method: str) -> jax.Array:
    """Resizes float32 images [N, H, W, C] to [N, height, width, C] (pure), the aspect ratio not kept.

    Args:
        images: in any range; bicubic overshoots it.
        size: (height, width) of the result, or the side of a square.
        method: 'torch_bilinear': PyTorch's `interpolate(mode='bilinear', align_corners=False)`, which neither averages
            over what it shrinks; 'tensorflow_bilinear': TensorFlow 1's `resize_bilinear(align_corners=False)`, without
            half-pixel centers; 'pillow_bilinear' and 'pillow_bicubic': Pillow's filters on its float images (mode F),
            which average (antialias); 'nearest'.
    """
    size = _sides(size)
    if images.shape[1:3] == size:
        return images
    rows, columns = (jnp.asarray(matrix(n, m, method)) for n, m in zip(images.shape[1:3], size, strict=True))
    planes = images.transpose(0, 3, 1, 2)
    planes = jnp.matmul(jnp.matmul(rows, planes, precision="highest"), columns.T, precision="highest")
    return planes.transpose(0, 2, 3, 1)


def resize_on_host(image: np.ndarray, size: int | tuple[int, int], method: str) -> np.ndarray:
    """Resizes one image [H, W, C] to float32 as `resize` does, whatever its size, compiling nothing."""
    height, width, channels = image.shape
    size = new_height, new_width = _sides(size)
    image = image.astype(np.float32)
    if (height, width) == size:
        return image
    rows, columns = _sparse(height, new_height, method), _sparse(width, new_width, method)
    halfway = (rows @ image.reshape(height, -1)).reshape(new_height, width, channels).transpose(1, 0, 2)
    return (columns @ halfway.reshape(width, -1)).reshape(new_width, new_height, channels).transpose(1, 0, 2)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


@functools.lru_cache(maxsize=512)
def matrix(inputs: int, outputs: int, method: str) -> np.ndarray:
    """Returns float32 [outputs, inputs], read-only, whose rows add up to 1: the weights of each output's inputs.

    Raises:
        ValueError: no such method.
    """
    found = np.zeros((outputs, inputs))
    places, here = np.arange(outputs), np.arange(outputs)
    if method == "nearest":
        found[here, np.minimum((places + 0.5) * inputs / outputs, inputs - 1).astype(int)] = 1.0
    elif method in ("torch_bilinear", "tensorflow_bilinear"):
        # Positions in float32, as both compute them: in a large image their rounding shows.
        sources, scale = places.astype(np.float32), np.float32(inputs / outputs)
        if method == "torch_bilinear":
            sources = np.maximum((sources + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
        else:
            sources = sources * scale
        low = np.minimum(sources.astype(int), inputs - 1)
        fraction = sources - low
        np.add.at(found, (here, low), 1.0 - fraction)
        np.add.at(found, (here, np.minimum(low + 1, inputs - 1)), fraction)
    elif method in _FILTERS:
        half_width = _HALF_WIDTHS[method]
        stretch = max(inputs / outputs, 1.0)
        centers = (places + 0.5) * (inputs / outputs)
        first = np.maximum((centers - half_width * stretch + 0.5).astype(int), 0)
        last = np.minimum((centers + half_width * stretch + 0.5).astype(int), inputs)
        columns = np.arange(inputs)
        found = _FILTERS[method](np.abs(columns + 0.5 - centers[:, None]) / stretch)
        found = np.where((first[:, None] <= columns) & (columns < last[:, None]), found, 0.0)
        found /= found.sum(1, keepdims=True)
    else:
        raise ValueError(f"There is no way of resizing called {method!r}; there are {', '.join(METHODS)}.")
    result = found.astype(np.float32)
    result.setflags(write=False)
    return result


@functools.lru_cache(maxsize=512)
def _sparse(inputs: int, outputs: int, method: str) -> Any:
    from scipy.sparse import csr_array

    return csr_array(matrix(inputs, outputs, method))

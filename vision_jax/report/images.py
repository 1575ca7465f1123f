"""How a page gets at the images of a split, which a run does not copy into its folder, and makes them small."""

from collections.abc import Callable, Iterable

import numpy as np

# Split and indices in it -> its images there as evaluation sees them, uint8 [N, H, W, C].
ImagesOf = Callable[[str, Iterable[int]], np.ndarray]
_AT_ONCE = 100  # Photos held in memory at their full size.


def thumbnails(images_of: ImagesOf, split: str, indices: np.ndarray, side: int) -> np.ndarray:
    """Returns the images at `indices` within `side` × `side` pixels, uint8 [N, h, w, C]; small ones as they are."""
    from PIL import Image

    parts = []
    for start in range(0, len(indices), _AT_ONCE):
        images = images_of(split, indices[start : start + _AT_ONCE])
        height, width = images.shape[1:3]
        if (factor := side / max(height, width)) < 1:
            size = max(round(width * factor), 1), max(round(height * factor), 1)
            small = [
                np.asarray(Image.fromarray(image.squeeze()).resize(size, Image.Resampling.BOX)) for image in images
            ]
            images = np.stack(small).reshape(len(images), size[1], size[0], -1)
        parts.append(images)
    return np.concatenate(parts)

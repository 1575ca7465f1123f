"""How a page gets at the images of a split, which a run does not copy into its folder."""

from collections.abc import Callable

import numpy as np

ImagesOf = Callable[[str, int], np.ndarray]  # Split and how many -> its first images, uint8 [N, H, W, C].

"""The picture of all augmentations."""

import numpy as np
from PIL import Image

from vision_jax.data import augment
from vision_jax.tools import show_augment


def test_one_of_each_operation_is_shown():
    names = [spec.partition("(")[0] for spec in show_augment.SHOWN]
    assert sorted(names) == sorted(augment.OPERATIONS)


def test_draws_are_of_the_first_picture():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    drawn = show_augment.draw(pictures, ("horizontal_flip",), seed=0, count=9)
    original = pictures[0].astype(np.float32) / 255
    seen = {"as it is": 0, "mirrored": 0}
    for image in drawn:
        seen["as it is"] += np.array_equal(image, original)
        seen["mirrored"] += np.array_equal(image, original[:, ::-1])
    assert sum(seen.values()) == 9 and all(seen.values())


def test_grid_lays_out_rows_of_labeled_tiles():
    side = show_augment.TILE
    tiles = [np.full((side, side, 3), level, np.float32) for level in np.linspace(0.1, 0.7, 7)]
    sheet = show_augment.grid(tiles, [f"tile(number={n}, name='a longer label')" for n in range(7)])
    assert isinstance(sheet, Image.Image)
    pixels = np.asarray(sheet)
    for number in range(7):
        row, column = divmod(number, show_augment.COLUMNS)
        y, x = 6 + row * (side + 36), 6 + column * (side + 6)
        assert (pixels[y : y + side, x : x + side] == np.rint(255 * tiles[number][0, 0, 0])).all()
        assert (pixels[y + side : y + side + 28, x : x + side] < 128).any()  # its label

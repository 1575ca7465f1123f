"""Patches are aligned windows of their pictures, drawn equally often everywhere, however the work is divided."""

import jax
import numpy as np
import pytest

from vision_jax import parallel
from vision_jax.data import patches
from vision_jax.data.pipeline import Rows
from vision_jax.utils.options import ConfigError


class Pictures:
    """Pictures of different sizes whose pixels say which picture they are of, their row and their column."""

    sizes = ((12, 20), (17, 10), (8, 9))
    labels = np.zeros(3, np.int32)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        rows, columns = np.indices(self.sizes[index], np.uint8)
        return {"image": np.stack([np.full_like(rows, index), rows, columns], -1), "label": np.int32(0)}


def pair(image):
    """Every second pixel, and the picture, cut to an even size."""
    height, width = (n - n % 2 for n in image.shape[:2])
    return [(image[0:height:2, 0:width:2], image[:height, :width])]


def loader(patch=8):
    return patches.PatchLoader(Pictures(), pair, patch=patch, scale=2, transform=None)


def test_patches_are_aligned_windows():
    found = loader().at(np.arange(loader().places[-1]))
    assert found["low"].shape[1:] == (4, 4, 3) and found["high"].shape[1:] == (8, 8, 3)
    np.testing.assert_array_equal(found["high"][:, ::2, ::2], found["low"])
    number, row, column = found["high"][:, 0, 0].T.astype(int)
    for offset, axis in ((row, 1), (column, 2)):
        steps = offset[:, None] + np.arange(8)
        np.testing.assert_array_equal(found["high"][..., axis].take(0, axis=3 - axis), steps)
    # Each place of each picture once: (6 - 3) * (10 - 3), (8 - 3) * (5 - 3), 1 * 1.
    assert len(found["low"]) == 21 + 10 + 1 == len({*zip(number, row, column, strict=True)})
    assert np.bincount(number).tolist() == [21, 10, 1]
    np.testing.assert_array_equal(found["index"], number)


def test_places_are_drawn_equally_often():
    made = loader()
    batch = next(made.train(3200, seed=0))
    corners = batch["high"][:, 0, 0].astype(int) @ [10_000, 100, 1]
    _, counts = np.unique(corners, return_counts=True)
    assert len(counts) == 32 and counts.min() > 60 and counts.max() < 150  # 100 expected.


def test_a_batch_is_a_function_of_seed_and_number(monkeypatch):
    made = loader()
    stream = made.train(6, seed=3)
    first = [next(stream) for _ in range(3)]
    stream.close()
    again = next(made.train(6, seed=3, start=2))
    np.testing.assert_array_equal(first[2]["high"], again["high"])
    assert not np.array_equal(first[0]["high"], first[1]["high"])
    assert not np.array_equal(first[2]["high"], next(made.train(6, seed=4, start=2))["high"])
    # Two processes load its halves.
    parts = [patches._Patches(made, Rows(6, process, 2), 3, 2)[0]["high"] for process in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), again["high"])


def test_small_pictures_are_left_out_and_nothing_left_is_an_error():
    made = loader(patch=10)
    assert {*made.at(np.arange(made.places[-1]))["high"][:, 0, 0, 0]} == {0, 1}
    with pytest.raises(ConfigError, match=r"None of the 3 training pictures has the 30 pixels of .*patch_size"):
        loader(patch=30)


def test_more_than_fits_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(patches, "IN_MEMORY", 1000)
    with pytest.raises(ConfigError, match=r"set config\.data\.image_size or config\.data\.limit"):
        loader()


@pytest.mark.devices(2)
def test_whole_pictures_come_one_by_one_and_count_once():
    mesh = parallel.make_mesh(2)
    batches = list(patches.WholePictures(Pictures(), mesh).evaluation(16))
    assert [batch["image"].shape for batch in batches] == [(2, *size, 3) for size in Pictures.sizes]
    assert all(batch["mask"].tolist() == [1.0, 0.0] for batch in batches)
    assert [int(batch["image"][0, 0, 0, 0]) for batch in batches] == [0, 1, 2]
    assert jax.process_count() == 1


def test_the_common_window_is_the_middle():
    images = [Pictures()[i]["image"] for i in range(3)]
    window = patches.common_window(images, 4)
    assert window.shape == (3, 8, 8, 3)
    assert window[:, 0, 0, 1:].tolist() == [[2, 6], [4, 1], [0, 0]]

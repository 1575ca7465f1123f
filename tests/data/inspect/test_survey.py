import io

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.inspect import survey
from vision_jax.data.sources import ArraySource, Subset

RNG = np.random.default_rng(0)


def arrays(size, shape=(4, 5, 3), classes=3):
    return ArraySource(RNG.integers(0, 256, (size, *shape), np.uint8), np.arange(size) % classes)


class Photos:
    """Photos kept as files, of different sizes."""

    def __init__(self, images, decoded=True):
        self.images, self._decoded = images, decoded
        self.labels = np.zeros(len(images), np.int32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        out = io.BytesIO()
        Image.fromarray(self.images[index]).save(out, "PNG")
        return {"image": self.images[index] if self._decoded else out.getvalue(), "label": self.labels[index]}

    def undecoded(self):
        return Photos(self.images, decoded=False)


def test_counts_include_classes_that_do_not_occur():
    counts = survey.counts({"train": arrays(7), "val": arrays(2)}, 4)
    assert counts["train"].tolist() == [3, 2, 2, 0] and counts["val"].tolist() == [1, 1, 0, 0]


def test_channel_statistics_of_arrays():
    source = arrays(1203)
    mean, std, number = survey.channel_statistics(source)
    assert number == 1203
    np.testing.assert_allclose(mean, source.images.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(std, source.images.std((0, 1, 2)) / 255)


def test_channel_statistics_of_photos_weigh_every_photo_the_same():
    photos = Photos([np.full((2, 2, 3), 100, np.uint8), np.full((20, 30, 3), 200, np.uint8)])
    mean, std, number = survey.channel_statistics(photos)
    assert number == 2
    np.testing.assert_allclose(mean, 150 / 255)
    np.testing.assert_allclose(std, 50 / 255)
    assert survey.channel_statistics(Photos([*photos.images] * 5), limit=3)[2] == 3


def test_sizes():
    assert survey.sizes(arrays(2)).tolist() == [[4, 5], [4, 5]]
    photos = Photos([np.zeros((2, 7, 3), np.uint8), np.zeros((9, 3, 3), np.uint8)])
    assert survey.sizes(photos).tolist() == [[2, 7], [9, 3]]
    assert survey.sizes(Subset(photos, [1])).tolist() == [[9, 3]]


@pytest.mark.parametrize("kind", ["arrays", "photos"])
def test_duplicates(kind):
    images = RNG.integers(0, 256, (6, 4, 4, 3), np.uint8)
    images[3] = images[1]

    def make(part):
        return ArraySource(part, np.zeros(len(part))) if kind == "arrays" else Photos(list(part))

    splits = {"train": make(images[:5]), "val": make(images[5:]), "test": make(images[[0, 4, 4]])}
    groups = survey.duplicates(splits)
    assert groups == [
        [("train", 0), ("test", 0)],
        [("train", 1), ("train", 3)],
        [("train", 4), ("test", 1), ("test", 2)],
    ]
    assert survey.across_splits(groups) == [groups[0], groups[2]]


def test_equal_bytes_of_different_shape_are_no_duplicates():
    flat = np.zeros((1, 2, 8, 1), np.uint8)
    splits = {"train": ArraySource(flat, np.zeros(1)), "test": ArraySource(flat.reshape(1, 4, 4, 1), np.zeros(1))}
    assert survey.duplicates(splits) == []


def test_cifar100_has_ten_images_in_both_splits(unpacked_data):
    from vision_jax.data.prepare import formats

    splits = {}
    for split in ("train", "test"):
        content = (unpacked_data / "cifar-100-binary" / f"{split}.bin").read_bytes()
        rows, labels = formats._cifar_batch(content, 2, split)
        splits[split] = ArraySource(rows.reshape(-1, 32, 32, 3), labels)
    assert len(survey.across_splits(survey.duplicates(splits))) == 10


def test_spread():
    labels = np.array([0, 1] * 50)
    assert survey.spread(labels, 1, 3).tolist() == [1, 49, 99]
    assert survey.spread(labels, 0, 200).tolist() == list(range(0, 100, 2))
    assert survey.spread(labels, 2, 3).tolist() == []

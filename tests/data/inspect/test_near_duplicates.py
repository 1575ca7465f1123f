"""Planted near-duplicates are found, and what only looks similar is not."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.inspect import near_duplicates
from vision_jax.data.sources import ArraySource

RNG = np.random.default_rng(0)


class Photos:
    """Pictures of different sizes."""

    def __init__(self, images):
        self.images, self.labels = images, np.zeros(len(images), np.int32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index]}


def pictures(number, side=48):
    """Pictures like photos: much of the large, little of the fine."""
    layers = [RNG.normal(size=(number, n, n, 3)) / n**0.7 for n in (3, 6, 12, side)]
    total = sum(layer.repeat(side // layer.shape[1], 1).repeat(side // layer.shape[1], 2) for layer in layers)
    low, high = total.min((1, 2, 3), keepdims=True), total.max((1, 2, 3), keepdims=True)
    return (255 * (total - low) / (high - low)).astype(np.uint8)


def saved_again(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image, factor):
    height, width = (round(side * factor) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


CHANGES = {
    "saved again": lambda image: saved_again(image, 50),
    "halved": lambda image: resized(image, 0.5),
    "enlarged": lambda image: resized(image, 1.7),
    "saved again, smaller": lambda image: saved_again(resized(image, 0.75), 75),
    "brighter": lambda image: (image * 0.8 + 40).astype(np.uint8),
}


def found_of(originals, changed):
    """Recall and precision of pairs when the changed versions of the first pictures stand in another split."""
    groups = near_duplicates.near_duplicates({"train": Photos(list(originals)), "test": Photos(list(changed))})
    pairs = {pair for group in groups for pair in itertools.combinations(group, 2)}
    planted = {(("train", i), ("test", i)) for i in range(len(changed))}
    return len(pairs & planted) / len(planted), len(pairs & planted) / max(len(pairs), 1)


@pytest.mark.parametrize("change", CHANGES)
def test_planted_ones_are_found(change):
    """Of 40 among 200 pictures at least 97.5 % are found, and nothing else."""
    originals = pictures(200)
    recall, precision = found_of(originals, [CHANGES[change](image) for image in originals[:40]])
    assert recall >= 0.975 and precision == 1.0


def test_planted_ones_are_found_in_real_photos(test_data):
    """Of 60 CIFAR-10 test images at least 96 % are found among 2,000; of what is found at least 90 % is planted."""
    sheet = np.asarray(Image.open(test_data / "cifar10" / "test_00.webp").convert("RGB"))
    images = sheet.reshape(-1, 32, 50, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    changes = list(CHANGES.values())
    changed = [changes[i % len(changes)](image) for i, image in enumerate(images[:60])]
    recall, precision = found_of(images, changed)
    assert recall >= 0.96 and precision >= 0.9


def test_groups_are_chains_in_the_order_of_the_splits():
    images = pictures(6)
    splits = {
        "train": ArraySource(images, np.zeros(6)),
        "val": ArraySource(np.stack([saved_again(images[4], 60), images[1]]), np.zeros(2)),
        "test": Photos([resized(images[4], 2), resized(images[5], 1.5)]),
    }
    assert near_duplicates.near_duplicates(splits) == [
        [("train", 1), ("val", 1)],
        [("train", 4), ("val", 0), ("test", 0)],
        [("train", 5), ("test", 1)],
    ]


def test_pictures_of_one_color_agree_when_they_are_close():
    colors = np.array([10, 12, 200], np.uint8)
    flat = np.broadcast_to(colors[:, None, None, None], (3, 8, 8, 1))
    groups = near_duplicates.near_duplicates({"train": ArraySource(np.ascontiguousarray(flat), np.zeros(3))})
    assert groups == [[("train", 0), ("train", 1)]]


def test_blocks_of_any_size_give_the_same(monkeypatch):
    images = pictures(30)
    images[20:25] = images[3:8]
    source = {"train": ArraySource(images, np.zeros(30))}
    whole = near_duplicates.near_duplicates(source)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 70)
    assert near_duplicates.near_duplicates(source) == whole and len(whole) == 5


def test_no_pictures_and_one_picture():
    assert near_duplicates.near_duplicates({"train": ArraySource(pictures(1), np.zeros(1))}) == []

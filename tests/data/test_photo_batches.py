"""Photos from files to batches: the same for every number of worker processes, resumable in the middle of an epoch."""

import itertools

import numpy as np
import pytest
from PIL import Image

from vision_jax import parallel
from vision_jax.data import cached, decode, folder, transforms
from vision_jax.data.pipeline import Loader

BATCH = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for c, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for i in range(5):
            pixels = rng.integers(0, 256, (30 + i, 40 - c, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return folder.load(root, val_fraction=0, test_fraction=0, seed=0).splits["train"]


def loader(source, workers=0):
    mesh = parallel.make_mesh(1)
    view, center = transforms.RandomResizedCrop(16), transforms.ResizeCenterCrop(20, 16)
    return Loader(source, mesh, train_transform=view, eval_transform=center, workers=workers)


def first(source, count, *, workers=0, seed=1, start=0):
    batches = loader(source, workers).train(BATCH, seed=seed, start=start)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


def test_any_number_of_workers_gives_the_same_batches(photos):
    expected = first(photos, 6)
    assert expected[0]["image"].shape == (BATCH, 16, 16, 3) and expected[0]["image"].dtype == np.uint8
    assert_equal(first(photos, 6, workers=2), expected)


def test_it_goes_on_in_the_middle_of_an_epoch_with_other_workers(photos):
    expected = first(photos, 6)
    assert_equal(first(photos, 4, start=2), expected[2:])
    assert_equal(first(photos, 2, start=4, workers=1), expected[4:])


def test_every_photo_once_per_epoch_each_time_cropped_anew(photos):
    labels = np.concatenate([b["label"] for b in first(photos, 5)])  # two epochs of ten photos
    assert np.bincount(labels[:10]).tolist() == np.bincount(labels[10:]).tolist() == [5, 5]
    images = np.concatenate([b["image"] for b in first(photos, 5)])
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20
    assert np.any(first(photos, 1)[0]["image"] != first(photos, 1, seed=2)[0]["image"])


def test_a_cache_serves_the_same_pipeline(photos, tmp_path):
    made = cached.CachedSource(photos, tmp_path, 24)
    (batch,) = first(made, 1)
    assert batch["image"].shape == (BATCH, 16, 16, 3)
    np.testing.assert_array_equal(batch["label"], first(photos, 1)[0]["label"])


def test_evaluation_sees_every_photo_once_in_order(photos):
    batches = list(loader(photos).evaluation(BATCH))
    real = np.concatenate([b["mask"] for b in batches]) > 0
    images = np.concatenate([b["image"] for b in batches])[real]
    view = transforms.ResizeCenterCrop(20, 16)
    np.testing.assert_array_equal(images, [view(photos[i])["image"] for i in range(len(photos))])
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches])[real], photos.labels)


@pytest.mark.parametrize(("workers", "decoded"), [(0, True), (0, False), (1, False)])
def test_a_photo_damaged_during_training_is_named(photos, tmp_path, workers, decoded):
    broken = photos.subset(np.arange(len(photos)))
    broken = broken if decoded else broken.undecoded()
    broken.root = str(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for path in broken.paths:
        (tmp_path / path).write_bytes(b"no longer an image")
    with pytest.raises(decode.ImageError, match=r"(cat|dog)/\d\.png: not an image"):
        first(broken, 1, workers=workers)

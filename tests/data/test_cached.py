import json
import os
import pickle
import types

import numpy as np
import pytest
from PIL import Image

from vision_jax.data import cached, decode, folder, sources, transforms
from vision_jax.data.cached import CachedSource
from vision_jax.data.sources import ArraySource, Source, Subset


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for c, name in enumerate(("cat", "dog")):
        for i in range(5):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (40 + 10 * i, 60 - 5 * c, 3)
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return folder.load(tmp_path / "photos", val_fraction=0, test_fraction=0, seed=0).splits["train"]


def test_examples_are_those_of_the_source_resized(photos, tmp_path):
    for source in (photos, folder.undecoded(photos), Subset(photos, [7, 2])):
        made = CachedSource(source, tmp_path / "maps", 48)
        assert isinstance(made, Source) and len(made) == len(source)
        np.testing.assert_array_equal(made.labels, source.labels)
        assert made.labels.dtype == np.int32
        for i in range(len(source)):
            example = made[i]
            image = source[i]["image"]
            image = decode.decode_image(image) if isinstance(image, bytes) else image
            if min(image.shape[:2]) > 48:
                image = np.asarray(transforms.resize_short_side(Image.fromarray(image), 48))
            np.testing.assert_array_equal(example["image"], image)
            assert example["label"] == source.labels[i]


def test_evaluation_sees_the_same_pixels_as_without(photos, tmp_path):
    view = transforms.ResizeCenterCrop(32, 28)
    made = CachedSource(photos, tmp_path, 32)
    for i in range(len(photos)):
        np.testing.assert_array_equal(view(made[i])["image"], view(photos[i])["image"])


def test_nothing_is_decoded_twice(photos, tmp_path, monkeypatch):
    CachedSource(photos, tmp_path, 32)
    monkeypatch.setattr(decode, "open_image", lambda data: pytest.fail("decoded again"))
    again = CachedSource(photos, tmp_path, 32)
    assert len([again[i] for i in range(len(again))]) == 10


def test_a_worker_opens_the_map_itself(photos, tmp_path):
    made = CachedSource(photos, tmp_path, 32)
    expected = made[3]["image"]
    data = pickle.dumps(made)
    assert len(data) < 5000
    np.testing.assert_array_equal(pickle.loads(data)[3]["image"], expected)


def test_each_content_size_and_filter_has_its_own_map(photos, tmp_path):
    maps = tmp_path / "maps"
    CachedSource(photos, maps, 32)
    CachedSource(photos, maps, 24)
    CachedSource(photos, maps, 32, "bicubic")
    CachedSource(photos.subset(np.arange(5)), maps, 32)
    CachedSource(photos, maps, 32)
    assert len(list(maps.iterdir())) == 4


@pytest.mark.parametrize("damage", ["pixels.bin", "index.npy", "complete.json"])
def test_an_incomplete_map_is_made_anew(photos, tmp_path, damage):
    expected = CachedSource(photos, tmp_path / "maps", 32)[9]["image"].copy()
    (made,) = (tmp_path / "maps").iterdir()
    (made / damage).write_bytes((made / damage).read_bytes()[:-3])
    np.testing.assert_array_equal(CachedSource(photos, tmp_path / "maps", 32)[9]["image"], expected)
    (made,) = (tmp_path / "maps").iterdir()
    assert json.loads((made / "complete.json").read_text())["pixels"] == (made / "pixels.bin").stat().st_size


def test_an_interrupted_start_leaves_nothing(photos, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        CachedSource(photos, tmp_path / "maps", 32)
    assert list((tmp_path / "maps").iterdir()) == []


def test_a_faster_process_wins(photos, tmp_path, monkeypatch):
    """Another process moves the same map into place while this one is still writing."""
    rename, races = os.rename, []

    def race(temporary, target):
        if not races:
            races.append(1)
            cached._make(target, photos, 32, "bilinear")
        rename(temporary, target)

    monkeypatch.setattr(os, "rename", race)
    assert len(CachedSource(photos, tmp_path / "maps", 32)) == 10
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_a_source_must_know_its_content(tmp_path):
    source = types.SimpleNamespace(labels=np.zeros(2))
    with pytest.raises(ValueError, match="SimpleNamespace has no `fingerprint`"):
        CachedSource(source, tmp_path, 4)
    assert not list(tmp_path.iterdir())


def test_a_map_has_a_fingerprint_of_content_size_and_filter(photos, tmp_path):
    made = CachedSource(photos, tmp_path / "maps", 32)
    again = CachedSource(photos, tmp_path / "elsewhere", 32)
    assert sources.fingerprint(made) == sources.fingerprint(again)
    others = [
        photos,
        CachedSource(photos, tmp_path / "maps", 24),
        CachedSource(photos, tmp_path / "maps", 32, "bicubic"),
        CachedSource(photos.subset(np.arange(5)), tmp_path / "maps", 32),
        Subset(made, np.arange(5)),
    ]
    assert len({sources.fingerprint(source) for source in (made, *others)}) == 1 + len(others)


def test_arrays_have_maps_too(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 9, 12, 3), dtype=np.uint8)
    made = CachedSource(ArraySource(images, np.arange(3)), tmp_path, 6)
    assert made[2]["image"].shape == (6, 8, 3) and made[2]["label"] == 2
    gray = CachedSource(ArraySource(images[..., :1], np.arange(3)), tmp_path, 9)
    np.testing.assert_array_equal(gray[1]["image"], np.repeat(images[1, ..., :1], 3, axis=2))

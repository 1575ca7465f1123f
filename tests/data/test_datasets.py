"""Data sets by name: what is embedded, which splits are cut, what a limit takes."""

import numpy as np
import pytest
from PIL import Image

from vision_jax import config as config_lib
from vision_jax.data import datasets, splits
from vision_jax.data.sources import ArraySource, Dataset, Subset


def load(**options):
    config = config_lib.default()
    config.data.update(options)
    return datasets.load(config.data)


@pytest.fixture
def own(monkeypatch):
    """Lets a data set of the given sources be loaded by the name 'own'."""

    def register(**sources):
        dataset = Dataset("own", sources, ("even", "odd"), {"source": "a test"})
        monkeypatch.setitem(datasets.DATASETS, "own", lambda options: dataset)

    return register


def numbered(examples, first=0):
    """An array source whose pixels are the examples' numbers."""
    numbers = np.arange(first, first + examples)
    images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (examples, 2, 2, 1))
    return ArraySource(images, numbers % 2)


def numbers_of(source):
    return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def test_digits_are_scikit_learn_s_in_bytes():
    from sklearn.datasets import load_digits

    dataset = load(name="digits", val_fraction=0.1, test_fraction=0.2)
    assert dataset.name == "digits" and dataset.class_names == tuple("0123456789")
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 1294, "val": 144, "test": 359}
    assert list(dataset.splits) == ["train", "val", "test"]
    source = datasets.digits({}).splits["train"]
    bunch = load_digits()
    assert source.images.shape == (1797, 8, 8, 1) and source.images.max() == 255
    np.testing.assert_array_equal(source.images[..., 0], np.round(bunch.images / 16 * 255))
    np.testing.assert_array_equal(source.labels, bunch.target)


def test_tiles_are_the_photos_without_the_right_and_lower_rest():
    from sklearn.datasets import load_sample_images

    source = datasets.photo_tiles({}).splits["train"]
    assert source.images.shape == (120, 64, 64, 3) and not source.labels.any()
    photos = load_sample_images().images
    np.testing.assert_array_equal(source.images[0], photos[0][:64, :64])
    np.testing.assert_array_equal(source.images[13], photos[0][64:128, 192:256])  # Row by row, ten in a row.
    np.testing.assert_array_equal(source.images[119], photos[1][320:384, 576:640])
    assert datasets.photo_tiles({}).class_names == ()


def test_the_splits_that_a_set_has_stand_and_the_others_are_cut_from_train(own):
    own(train=numbered(20), test=numbered(6, 100))
    made = load(name="own", val_fraction=0.2, test_fraction=0.3).splits
    assert numbers_of(made["test"]) == list(range(100, 106))
    expected = splits.stratified(np.arange(20) % 2, {"val": 0.2}, config_lib.default().data.split_seed)
    assert numbers_of(made["val"]) == expected["val"].tolist() and len(expected["val"]) == 4
    assert numbers_of(made["train"]) == expected["train"].tolist()
    own(train=numbered(20), val=numbered(5, 50))
    made = load(name="own", val_fraction=0.2, test_fraction=0.0).splits
    assert list(made) == ["train", "val"] and len(made["train"]) == 20


def test_the_test_split_is_the_same_for_every_validation_fraction(own):
    own(train=numbered(40))
    tests = [numbers_of(load(name="own", val_fraction=v, test_fraction=0.25).splits["test"]) for v in (0.1, 0.5)]
    assert tests[0] == tests[1] and len(tests[0]) == 10
    assert tests[0] != numbers_of(load(name="own", val_fraction=0.1, test_fraction=0.25, split_seed=5).splits["test"])


def pictures(folder, count, first=0):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")


@pytest.mark.parametrize("layout", ["train", "T91"])
def test_pictures_to_test_on_are_the_same_for_every_validation_fraction(layout, tmp_path):
    pictures(tmp_path / layout, 20)
    where = {"name": "t91", "data_dir": str(tmp_path)} if layout == "T91" else {"name": "folder", "root": str(tmp_path)}

    def tests(val_fraction):
        options = {**config_lib.default().data, **where, "val_fraction": val_fraction, "test_fraction": 0.25}
        return numbers_of(datasets.load(options, classes=False).splits["test"])

    assert tests(0.1) == tests(0.5) and len(tests(0.1)) == 5


def test_beside_a_folder_for_validation_the_test_split_is_cut_by_position(tmp_path):
    pictures(tmp_path / "train", 20)
    pictures(tmp_path / "val", 4, first=100)
    options = {**config_lib.default().data, "name": "folder", "root": str(tmp_path), "test_fraction": 0.25}
    made = datasets.load(options, classes=False).splits
    expected = splits.stratified(np.zeros(20), {"test": 0.25}, options["split_seed"])
    paths = sorted(str(number) for number in range(20))
    for split in ("train", "test"):
        assert numbers_of(made[split]) == [int(paths[index]) for index in expected[split]]
    assert numbers_of(made["val"]) == [100, 101, 102, 103]


def test_a_limit_takes_examples_evenly_from_first_to_last(own):
    own(train=numbered(21), val=numbered(3, 50), test=numbered(4, 100))
    made = load(name="own", limit=3).splits
    assert numbers_of(made["train"]) == [0, 10, 20]
    assert numbers_of(made["val"]) == [50, 51, 52] and numbers_of(made["test"]) == [100, 101, 103]
    assert numbers_of(load(name="own", limit=1).splits["train"]) == [0]
    assert len(load(name="own", limit=0).splits["train"]) == 21


def test_empty_splits_are_refused(own):
    own(train=numbered(20))
    with pytest.raises(ValueError, match=r"'val' of own is empty; set config\.data\.val_fraction above 0"):
        load(name="own", val_fraction=0.0)
    own(train=numbered(0), val=numbered(2), test=numbered(2))
    with pytest.raises(ValueError, match=r"training split of own is empty; lower config\.data\.val_fraction"):
        load(name="own")


def test_parts_of_arrays_are_arrays_and_parts_of_others_subsets():
    source = numbered(5)
    part = datasets.take(source, np.array([4, 1]))
    assert isinstance(part, ArraySource) and numbers_of(part) == [4, 1] and part.labels.tolist() == [0, 1]
    nested = datasets.take(Subset(source, [3, 2]), np.array([1]))
    assert isinstance(nested, Subset) and numbers_of(nested) == [2]


def test_names_that_are_none_and_folders_that_lack_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'digit' is no data set; did you mean 'digits'"):
        load(name="digit")
    with pytest.raises(ValueError, match=r"needs config\.data\.root"):
        load(name="folder")
    with pytest.raises(FileNotFoundError, match="mnist"):
        load(name="mnist", data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="tfds:iris"):
        load(name="tfds:iris", data_dir=str(tmp_path))

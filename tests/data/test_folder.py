import hashlib
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from vision_jax.data import checks, folder
from vision_jax.data.sources import Subset


def photo(path, seed, size=(12, 9)):
    """A picture that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(root, splits=("",), classes=("cat", "dog"), each=6):
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            for i in range(each):
                photo(root / split / name / f"{i}.png", 1000 * s + 100 * c + i)
    return root


def load(root, val_fraction=0.25, test_fraction=0.25, seed=0, **options):
    return folder.load(root, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, **options)


def members(dataset):
    return {name: sorted(source.paths) for name, source in dataset.splits.items()}


def test_class_folders_are_split_by_class(tmp_path):
    dataset = load(tree(tmp_path, each=8))
    assert dataset.name == "folder" and dataset.class_names == ("cat", "dog")
    assert np.bincount(dataset.splits["test"].labels).tolist() == [2, 2]
    assert sorted(np.bincount(dataset.splits["val"].labels)) == [1, 2]
    assert len(dataset.splits["train"]) == 9
    paths = [p for listed in members(dataset).values() for p in listed]
    assert len(set(paths)) == len(paths) == 16


def test_photos_without_class_folders_have_no_classes(tmp_path):
    for i in range(8):
        photo(tmp_path / "one" / f"{i}.png", i)
    dataset = load(tmp_path / "one")
    assert dataset.class_names == ()
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert not np.concatenate([source.labels for source in dataset.splits.values()]).any()
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            photo(tmp_path / "own" / split / f"{i}.png", 10 * count + i)
    dataset = load(tmp_path / "own")
    assert dataset.class_names == ()
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 3, "val": 1, "test": 2}


def test_without_classes_the_photos_of_all_folders_are_taken(tmp_path):
    photo(tmp_path / "a.png", 0)
    photo(tmp_path / "trips" / "2019" / "b.png", 1, size=(30, 20))
    photo(tmp_path / "others" / "c.png", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = load(tmp_path, 0.0, 0.0, classes=False)
    source = dataset.splits["train"]
    assert source.paths == ("a.png", "others/c.png", "trips/2019/b.png") and dataset.class_names == ()
    assert folder.sizes(Subset(source, [2, 0])).tolist() == [[20, 30], [9, 12]]
    for split in ("train", "val"):
        for i in range(2):
            photo(tmp_path / "own" / split / "deeper" / f"{i}.png", 10 * len(split) + i)
    dataset = load(tmp_path / "own", classes=False)
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 2, "val": 2}
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"empty has no image \(.*\), neither itself nor in its folders"):
        load(tmp_path / "empty", classes=False)


def test_examples_are_decoded_or_bytes(tmp_path):
    source = load(tree(tmp_path)).splits["train"]
    raw = folder.undecoded(source)
    for i in range(len(source)):
        example = source[i]
        path = tmp_path / source.paths[i]
        np.testing.assert_array_equal(example["image"], np.asarray(Image.open(path)))
        assert example["label"] == source.labels[i] == {"cat": 0, "dog": 1}[path.parent.name]
        assert example["label"].dtype == np.int32
        assert raw[i]["image"] == path.read_bytes() and raw[i]["label"] == example["label"]
        assert source.digests[i] == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(source.sizes, [[9, 12]] * len(source))
    part = folder.undecoded(Subset(source, [2, 1]))
    assert part[0]["image"] == raw[2]["image"]
    again = pickle.loads(pickle.dumps(source.subset(np.array([3, 1]))))
    np.testing.assert_array_equal(again[1]["image"], source[1]["image"])


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ["train", "val", "test"]),
        (("Train", "valid"), ["train", "val"]),
        (("training", "Validation", "TEST"), ["train", "val", "test"]),
        (("train", "test"), ["train", "val", "test"]),
    ],
)
def test_own_splits_stand(tmp_path, names, splits):
    dataset = load(tree(tmp_path, names))
    assert list(dataset.splits) == splits
    held_out = "val" not in [folder._SPLITS[n.lower()] for n in names]
    assert len(dataset.splits["train"]) == (9 if held_out else 12)
    for name, source in dataset.splits.items():
        assert {folder._SPLITS[p.split(os.sep)[0].lower()] for p in source.paths} == {
            "train" if held_out and name == "val" else name
        }


def test_train_alone_is_split_as_a_folder_of_classes_is(tmp_path):
    whole, trained = load(tree(tmp_path / "whole")), load(tree(tmp_path / "own", ("train",)))
    assert {name: [f"train/{path}" for path in paths] for name, paths in members(whole).items()} == members(trained)
    tests = [members(load(tmp_path / "own", val_fraction=fraction))["test"] for fraction in (0.0, 0.25, 0.5)]
    assert tests == [members(trained)["test"]] * 3
    assert list(load(tmp_path / "own", test_fraction=0.0).splits) == ["train", "val"]


def test_files_are_found_in_any_case_and_depth_but_hidden_ones_are_not(tmp_path):
    tree(tmp_path, each=2)
    photo(tmp_path / "cat" / "2020" / "june" / "a.PNG", 50)
    photo(tmp_path / "cat" / "b.JpG", 51)
    photo(tmp_path / "dog" / "c.TIFF", 52)
    photo(tmp_path / "dog" / "d.bmp", 53)
    photo(tmp_path / "dog" / "e.webp", 54)
    photo(tmp_path / "dog" / "f.gif", 55)
    for hidden in ("cat/._0.png", "cat/.trash/0.png", ".git/0.png", "__MACOSX/cat/0.png"):
        photo(tmp_path / hidden, 56)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    dataset = load(tmp_path, 0, 0)
    assert members(dataset) == {
        "train": sorted(
            f"{name}/{path}"
            for name, paths in {
                "cat": ("0.png", "1.png", "2020/june/a.PNG", "b.JpG"),
                "dog": ("0.png", "1.png", "c.TIFF", "d.bmp", "e.webp", "f.gif"),
            }.items()
            for path in paths
        )
    }


def test_links_are_followed_once(tmp_path):
    tree(tmp_path / "real", each=2)
    tree(tmp_path / "data", classes=("bird",), each=2)
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "real" / "dog" / "loop").symlink_to(tmp_path / "real" / "dog")
    assert len(load(tmp_path / "data", 0, 0).splits["train"]) == 4


def test_splits_depend_on_content_class_and_seed_alone(tmp_path):
    tree(tmp_path / "a", each=10)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.png"):
        path.rename(path.with_name(f"x{9 - int(path.stem)}.png"))
    digests = [{n: set(s.digests) for n, s in load(tmp_path / name).splits.items()} for name in "ab"]
    assert digests[0] == digests[1]
    other = {n: set(s.digests) for n, s in load(tmp_path / "a", seed=1).splits.items()}
    assert other != digests[0]
    assert members(load(tmp_path / "a", val_fraction=0.5))["test"] == members(load(tmp_path / "a"))["test"]


def test_every_broken_file_is_listed(tmp_path):
    tree(tmp_path)
    (tmp_path / "cat" / "empty.jpg").write_bytes(b"")
    (tmp_path / "dog" / "page.png").write_text("<html>404</html>")
    half = photo(tmp_path / "dog" / "half.jpg", 70, (200, 200))
    half.write_bytes(half.read_bytes()[:2000])
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert "4 of 16 files" in message and "on_broken='skip'" in message
    for text in ("cat/empty.jpg: the file is empty", "dog/page.png: not an image", "dog/half.jpg: damaged", "gone.png"):
        assert text in message
    with pytest.warns(UserWarning, match=r"without 4 of 16 files:\n  cat/empty\.jpg"):
        dataset = load(tmp_path, on_broken="skip")
    assert sum(len(s) for s in dataset.splits.values()) == 12
    assert dataset.provenance["broken_files"] == "4"
    with pytest.raises(ValueError, match="expected 'error' or 'skip'"):
        load(tmp_path, on_broken="ignore")


@pytest.mark.parametrize("splits", [("",), ("train",), ("train", "val")])
def test_skipping_may_not_leave_nothing_to_train_on(splits, tmp_path):
    for path in tree(tmp_path, splits).rglob("*.png"):
        if "val" not in path.parts:
            path.write_bytes(b"")
    with pytest.warns(UserWarning, match="going on"), pytest.raises(ValueError, match="no usable photo to train"):
        load(tmp_path, on_broken="skip")


def test_the_check_is_remembered_and_renewed(tmp_path, monkeypatch):
    tree(tmp_path)
    opened = []
    original = checks.decode.open_image
    monkeypatch.setattr(checks.decode, "open_image", lambda data: opened.append(1) or original(data))
    first = load(tmp_path)
    assert len(opened) == 12
    second = load(tmp_path)
    assert len(opened) == 12 and second.provenance == first.provenance
    photo(tmp_path / "cat" / "0.png", 80)
    os.utime(tmp_path / "cat" / "0.png", ns=(1, 1))
    third = load(tmp_path)
    assert len(opened) == 13 and third.provenance["fingerprint"] != first.provenance["fingerprint"]


def test_duplicates_across_splits_and_classes_are_listed(tmp_path):
    tree(tmp_path, ("train", "test"))
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "test/cat/copy.png")
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "train/dog/copy.png")
    shutil.copy(tmp_path / "train/cat/2.png", tmp_path / "train/cat/harmless.png")
    with pytest.warns(UserWarning, match="2 photos stand in more than one split or class") as caught:
        dataset = load(tmp_path, val_fraction=0)
    message = str(caught[0].message)
    assert "train/cat/0.png (train, cat) = test/cat/copy.png (test, cat)" in message
    assert "train/cat/1.png (train, cat) = train/dog/copy.png (train, dog)" in message
    assert "harmless" not in message
    assert len(folder.duplicates(dataset.splits, dataset.class_names)) == 2


def test_a_class_missing_from_a_held_out_split_is_a_warning(tmp_path):
    tree(tmp_path, ("train", "val"))
    shutil.rmtree(tmp_path / "val" / "dog")
    with pytest.warns(UserWarning, match="val split has no photo of dog"):
        load(tmp_path)


def test_a_class_missing_from_train_is_an_error(tmp_path):
    tree(tmp_path, ("train", "val"), ("cat", "dog", "horse"))
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "Dog")
    with pytest.raises(ValueError, match="without an image in train: Dog; did you mean 'dog'"):
        load(tmp_path)


def test_wrong_folders_are_told_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*Expected ROOT/train/CLASS"):
        load(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"no class folder; .*ROOT/CLASS/photo\.jpg"):
        load(tmp_path)
    tree(tmp_path / "one", classes=("cat",))
    with pytest.raises(ValueError, match="only the class 'cat'"):
        load(tmp_path / "one")
    (tree(tmp_path / "empty") / "bird").mkdir()
    with pytest.raises(ValueError, match=r"no image .* in the class bird"):
        load(tmp_path / "empty")
    tree(tmp_path / "no_train", ("val", "test"))
    with pytest.raises(ValueError, match="test, val, but no train"):
        load(tmp_path / "no_train")
    tree(tmp_path / "twice", ("train", "val", "valid"))
    with pytest.raises(ValueError, match="val and valid, which mean the same"):
        load(tmp_path / "twice")


def test_what_is_left_aside_is_said(tmp_path):
    tree(tmp_path, ("train", "annotations"))
    photo(tmp_path / "train" / "stray.jpg", 90)
    (tmp_path / "train" / "cat" / "phone.HEIC").write_bytes(b"...")
    with pytest.warns(UserWarning) as caught:
        load(tmp_path)
    said = " ".join(str(w.message) for w in caught)
    assert "ignored annotations" in said and "stray.jpg" in said and "1 .heic" in said


def test_a_class_may_be_called_train(tmp_path):
    dataset = load(tree(tmp_path, classes=("car", "plane", "train")))
    assert dataset.class_names == ("car", "plane", "train")


def test_skipping_may_not_empty_a_class(tmp_path):
    tree(tmp_path, each=4)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="without 4"), pytest.raises(ValueError, match="left to train on for cat"):
        load(tmp_path, on_broken="skip")


def test_nine_classes_of_clothing(test_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = load(test_data / "clothing9")
    assert len(dataset.class_names) == 9
    assert np.bincount(dataset.splits["train"].labels).tolist() == [103] * 9
    assert min(dataset.splits["train"].sizes.min(1)) == 256
    assert dataset.splits["val"][0]["image"].dtype == np.uint8


@pytest.mark.parametrize(
    ("splits", "how"),
    [
        (("",), "by class and content, seed 7, test 0.25, val 0.25 of train"),
        (("train",), "its own folders, test 0.25, val 0.25 of train"),
        (("train", "test"), "its own folders, val 0.25 of train"),
        (("train", "val", "test"), "its own folders"),
    ],
)
def test_the_report_learns_how_the_splits_came_about(tmp_path, splits, how):
    dataset = load(tree(tmp_path, splits), seed=7)
    assert dataset.provenance["splits"] == how
    assert dataset.provenance["root"] == os.fspath(tmp_path.resolve())
    assert dataset.provenance["broken_files"] == "0"


def test_warnings_point_to_whoever_loads(tmp_path):
    tree(tmp_path, ("train", "val"))
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"")
    shutil.rmtree(tmp_path / "val" / "dog")
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "train" / "dog" / "copy.png")
    with pytest.warns(UserWarning) as caught:
        folder.load(tmp_path, val_fraction=0, test_fraction=0, seed=0, on_broken="skip")
    words = ("going on without 1 of", "has no photo of dog", "1 photo stands in more than one")
    assert all(any(word in str(warning.message) for warning in caught) for word in words)
    assert {warning.filename for warning in caught} == {__file__}


def test_other_files_beside_the_classes_are_no_warning(tmp_path):
    tree(tmp_path, classes=("cat.jpg", "dog"))  # A folder may be called like a file.
    (tmp_path / "README.md").write_text("photos of pets")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path).class_names == ("cat.jpg", "dog")

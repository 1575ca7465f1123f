import re

import numpy as np
import pytest
from PIL import Image

from tests import classifier_runs
from vision_jax import config as config_lib
from vision_jax.analysis.record import Record
from vision_jax.data import sources
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.report import data_page

RNG = np.random.default_rng(0)


def make(sizes, shape, classes, **splits):
    made = {
        split: ArraySource(RNG.integers(0, 256, (size, *shape), np.uint8), np.arange(size) % max(classes, 1))
        for split, size in sizes.items()
    }
    names = tuple(f"class <{i}>" for i in range(classes))
    return Dataset("invented", {**made, **splits}, names, {"license": "none & free"})


def text(path):
    html = re.sub(r'src="data:[^"]*"', "", path.read_text())
    assert not re.search(r'(src|href)="(?!data:)', html), "the page asks for something outside itself"
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_page_of_a_classification_set(tmp_path):
    config = config_lib.default("classification")
    config.data.augment = ("horizontal_flip", "mixup(alpha=0.4)")
    dataset = make({"train": 23, "val": 7, "test": 9}, (8, 8, 3), 4)
    dataset.splits["test"].images[2] = dataset.splits["train"].images[5]
    dataset.splits["test"].images[3] = dataset.splits["train"].images[6]
    shown = text(data_page.write(tmp_path, dataset, config))
    for part in (
        "none &amp; free",
        "class &lt;3&gt;",
        "in both train and test 2",
        "in both train and val 0",
        "train 5 (class &lt;1&gt;), test 2 (class &lt;2&gt;)",
        "All pictures are 8 pixels wide and 8 high",
        "horizontal_flip, then mixup(alpha=0.4)",
    ):
        assert part in shown
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert {"classes_train.png", "classes_test.png", "class_000.png", "class_003.png", "augmented.png"} <= pictures
    mean = dataset.splits["train"].images.mean((0, 1, 2)) / 255
    assert f"config.data.mean = ({mean[0]:.4f}".rstrip("0") in shown


def smooth(number):
    small = RNG.integers(0, 256, (number, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in small])


def test_near_duplicates_are_listed_beside_equal_pictures(tmp_path):
    train, test = smooth(12), smooth(4)
    test[1] = train[5]  # Equal: no near-duplicate.
    file = tmp_path / "again.jpg"
    Image.fromarray(train[7]).save(file, quality=60)
    test[2] = np.asarray(Image.open(file))
    dataset = make({}, (), 4, train=ArraySource(train, np.arange(12) % 4), test=ArraySource(test, np.arange(4)))
    shown = text(data_page.write(tmp_path / "page", dataset, config_lib.default()))
    near = shown[shown.index("Near-duplicates") :]
    assert "in both train and test 1 more than once in all 1 under different classes 1" in near
    assert "train 7 (class &lt;3&gt;), test 2 (class &lt;2&gt;)" in near and "train 5" not in near
    assert (tmp_path / "page" / "near_duplicates.png").exists()
    shown = text(data_page.write(tmp_path / "without", dataset, config_lib.default(), near=False))
    assert "Near-duplicates" not in shown


def test_labels_that_a_run_disagrees_with(tmp_path):
    """Two planted flips are found and nothing else is a suspect: recall and precision 1."""
    labels = np.arange(40) % 4
    wrong = labels.copy()
    wrong[[6, 17]] = [3, 0]
    dataset = make({"train": 8}, (8, 8, 3), 4, test=ArraySource(smooth(40), wrong))
    logits = 3 * np.eye(4)[labels] + 0.3 * RNG.normal(size=(40, 4))
    outputs = {"index": np.arange(40), "label": wrong, "logits": logits.astype(np.float32)}
    fingerprint = sources.fingerprint(dataset.splits["test"])
    workdir = classifier_runs.write(
        tmp_path / "run", {"test": outputs}, names=dataset.class_names, fingerprints={"test": fingerprint}
    )
    page = data_page.write(tmp_path / "page", dataset, config_lib.default(), near=False, record=Record(workdir))
    shown = text(page)
    assert "test: 2 suspects among 40 pictures." in shown and "has learned" not in shown
    for index, given, own in ((6, 3, 2), (17, 0, 1)):
        row = rf"{index} class &lt;{given}&gt; class &lt;{own}&gt; 0\.\d+ 0\.\d+ yes"
        assert re.search(row, shown)
    assert (tmp_path / "page" / "labels_test.png").exists()
    other = make({"train": 8, "test": 40}, (8, 8, 3), 4)
    with pytest.raises(ValueError, match="evaluated on other examples than those of 'test'"):
        data_page.write(tmp_path / "other", other, config_lib.default(), near=False, record=Record(workdir))


def test_page_of_gray_images_without_classes_for_super_resolution(tmp_path):
    config = config_lib.default("super_resolution")
    config.data.augment = ("rot90",)
    dataset = make({"train": 5, "val": 2, "test": 2}, (9, 9, 1), 0)
    shown = text(data_page.write(tmp_path, dataset, config))
    assert "gray" in shown and "Examples per class" not in shown
    assert (tmp_path / "pictures.png").exists() and (tmp_path / "augmented.png").exists()


def test_page_of_photos(tmp_path):
    from vision_jax.data import folder

    for split, number in (("train", 6), ("test", 3)):
        for i in range(number):
            place = tmp_path / "photos" / split / f"class_{i % 2}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 256, (150 + 10 * i, 200, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.jpg")
    dataset = folder.load(tmp_path / "photos", val_fraction=0.34, test_fraction=0.2, seed=0)
    config = config_lib.default("classification")
    shown = text(data_page.write(tmp_path / "page", dataset, config))
    assert "config.data.image_size is not set" in shown
    assert (tmp_path / "page" / "sizes_short.png").exists() and (tmp_path / "page" / "sizes_width.png").exists()
    config.data.image_size = 32
    shown = text(data_page.write(tmp_path / "page", dataset, config))
    assert "random_resized crop to 32 pixels, then no augmentation" in shown


def test_sizes_of_which_one_is_always_the_same(tmp_path):
    class Photos:
        labels = np.zeros(6, np.int32)

        def __len__(self):
            return 6

        def __getitem__(self, index):
            return {"image": np.zeros((40, 40 + 3 * index, 3), np.uint8), "label": self.labels[index]}

    dataset = Dataset("photos", {"train": Photos(), "test": Photos()}, (), {})
    shown = text(data_page.write(tmp_path, dataset, config_lib.default("super_resolution")))
    assert "All pictures have the same short side in pixels: 40." in shown
    assert (tmp_path / "sizes_width.png").exists() and not (tmp_path / "sizes_short.png").exists()


@pytest.mark.parametrize("classes", [20, 21])
def test_pages_of_many_classes_are_folded(tmp_path, classes):
    data_page.write(tmp_path, make({"train": classes, "test": classes}, (4, 4, 3), classes), config_lib.default())
    html = (tmp_path / "index.html").read_text()
    assert html.count("<details>") == (1 if classes == 20 else 3)

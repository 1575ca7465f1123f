"""TFDS's own builders, fed from files on this machine, give what the publishers' files give.

Nothing of TFDS is replaced but the addresses it fetches from: a server on this machine has the files.
"""

import dataclasses
import functools
import http.server
import importlib.util
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.data.prepare import publishers_files as files
from tests.data.prepare.test_prepared import pets, random_splits
from vision_jax.data import prepare, sources
from vision_jax.data.prepare import formats, manifest, store, tfds

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TFDS needs TensorFlow to prepare"),
    pytest.mark.filterwarnings("ignore"),  # TFDS's and TensorFlow's own
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address under which it can be fetched."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def both_ways(served, tmp_path, monkeypatch):
    """Prepares a set from the served folder through TFDS, and from that folder's files; returns both."""
    folder, url = served

    def run(name, examples):
        entry = manifest.entries()[name]
        at_home = {file.name: dataclasses.replace(file, url=url + file.name) for file in entry.files.values()}
        entry = dataclasses.replace(entry, examples=examples, files=at_home)
        monkeypatch.setattr(manifest, "entries", lambda: {name: entry})
        opened = []
        for way, options in (
            ("online", {"through": "tfds"}),
            ("archives", {"archives": folder, "allow_unverified": True}),
        ):
            target = prepare.prepare(name, tmp_path / way, say=lambda line: None, **options)
            opened.append((prepare.open_prepared(name, tmp_path / way), store.read_info(target)))
        assert not list((tmp_path / "online").glob(".*.partial"))
        return opened

    return run


def check_same(online, archives):
    (a, a_info), (b, b_info) = online, archives
    assert a_info["splits"] == b_info["splits"]  # sizes, and fingerprints of all pictures and labels in order
    assert a.class_names == b.class_names and a.splits.keys() == b.splits.keys()
    for split in a.splits:
        np.testing.assert_array_equal(a.splits[split].labels, b.splits[split].labels)
        for i in range(len(a.splits[split])):
            np.testing.assert_array_equal(a.splits[split][i]["image"], b.splits[split][i]["image"])
    assert "TensorFlow Datasets" in a.provenance["prepared_from"]


def test_real_mnist(test_data, served, both_ways, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    # The first digits only: TFDS takes a minute for all. The whole gives the same fingerprints as well.
    splits = {}
    for split, prefix, size in (("train", "train", 400), ("test", "t10k", 100)):
        paths = [test_data / "mnist" / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
        images, labels = formats.read_mnist(*paths, max_bytes=50_000_000)
        splits[split] = images[:size, :, :, 0], labels[:size]
    files.write_mnist(served[0], splits)
    monkeypatch.setattr(mnist.MNIST, "URL", served[1])
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 400)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 100)
    check_same(*both_ways("mnist", {"train": 400, "test": 100}))


def test_cifar10(served, both_ways, monkeypatch):
    from tensorflow_datasets.image_classification import cifar

    splits = random_splits({"train": 20, "test": 7}, (32, 32, 3), 10)
    contents = files.cifar_batches(splits, manifest.entries()["cifar10"].class_names, hundred=False, binary=True)
    path = served[0] / "cifar-10-binary.tar.gz"
    files.write_tar(path, {f"cifar-10-batches-bin/{name}": content for name, content in contents.items()})
    described = cifar.Cifar10._cifar_info.fget
    url = served[1] + path.name
    monkeypatch.setattr(cifar.Cifar10, "_cifar_info", property(lambda self: described(self)._replace(url=url)))
    check_same(*both_ways("cifar10", {"train": 20, "test": 7}))


def test_svhn(served, both_ways, monkeypatch):
    from tensorflow_datasets.datasets.svhn_cropped import svhn_cropped_dataset_builder as svhn

    splits = random_splits({"train": 30, "test": 12, "extra": 3}, (32, 32, 3), 10)
    files.write_svhn(served[0], splits)
    monkeypatch.setattr(svhn, "URL", served[1])
    online, archives = both_ways("svhn_cropped", {"train": 30, "test": 12})
    check_same(online, archives)
    np.testing.assert_array_equal(online[0].splits["train"].labels, splits["train"][1])


def test_pets(served, both_ways, monkeypatch):
    from tensorflow_datasets.datasets.oxford_iiit_pet import oxford_iiit_pet_dataset_builder as builder

    files.write_pets(served[0], pets(), manifest.entries()["oxford_iiit_pet"].class_names)
    monkeypatch.setattr(builder, "_BASE_URL", served[1].removesuffix("/"))
    check_same(*both_ways("oxford_iiit_pet", {"train": 4, "test": 2}))


def test_a_set_that_tfds_cannot_fetch(served, both_ways, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    monkeypatch.setattr(mnist.MNIST, "URL", served[1])
    with pytest.raises(ConnectionError, match="--archives"):
        both_ways("mnist", {"train": 1, "test": 1})


_READ = """
import sys
from vision_jax.data import prepare
dataset = prepare.open_prepared("tfds:kmnist", sys.argv[1])
source = dataset.splits["train"]
print(len(source), source[3]["image"].sum(), source[3]["image"].shape, source[3]["label"], "tensorflow" in sys.modules)
"""


def test_any_other_set_of_tfds(served, tmp_path, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    splits = random_splits({"train": 30, "test": 10}, (28, 28), 10)
    files.write_mnist(served[0], splits)
    monkeypatch.setattr(mnist.KMNIST, "URL", served[1])
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 30)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 10)
    monkeypatch.setattr(tfds, "unreachable", lambda urls: [])
    with pytest.raises(prepare.NotPreparedError, match="vision-jax prepare tfds:kmnist"):
        prepare.open_prepared("tfds:kmnist", tmp_path)
    prepare.prepare("tfds:kmnist", tmp_path)
    dataset = prepare.open_prepared("tfds:kmnist", tmp_path)
    assert dataset.name == "tfds:kmnist"
    assert dataset.class_names[:3] == ("o", "ki", "su")
    assert "clanuwat" in dataset.provenance["citation"]
    for split, (images, labels) in splits.items():  # in TFDS's own, shuffled, order
        source = dataset.splits[split]
        assert sorted(source.labels.tolist()) == sorted(labels.tolist())
        expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        for i in range(len(source)):
            example = source[i]
            assert expected.pop(example["image"].tobytes()) == example["label"] == source.labels[i]
        assert not expected

    again = prepare.open_prepared("tfds:kmnist", tmp_path).splits
    found = {split: sources.fingerprint(source) for split, source in dataset.splits.items()}
    assert found == {split: sources.fingerprint(source) for split, source in again.items()}
    assert len(set(found.values())) == 2

    said = []
    prepare.prepare("tfds:kmnist", tmp_path, say=said.append)
    assert "prepared already" in said[0]
    source = dataset.splits["train"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[2]["image"], source[2]["image"])

    # Another process reads it without loading TensorFlow.
    out = subprocess.run([sys.executable, "-c", _READ, tmp_path], check=True, capture_output=True, text=True).stdout
    assert out.split("\n")[0] == f"30 {source[3]['image'].sum()} (28, 28, 1) {source.labels[3]} False"


def test_sets_that_tfds_has_not_or_that_are_no_images_with_classes(tmp_path):
    for name in ("kminst", "mnist:9.9.9", "emnist/latin", "../../etc/passwd"):
        with pytest.raises(ValueError):
            prepare.prepare(f"tfds:{name}", tmp_path)
    with pytest.raises(ValueError, match="no classification set of 8-bit images"):
        prepare.prepare("tfds:iris", tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_set_that_needs_files_by_hand_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"fetched by hand(.|\n)*--archives DIR"):
        prepare.prepare("tfds:imagenet2012", tmp_path)


def test_any_other_set_without_network(tmp_path):
    with pytest.raises(ConnectionError, match=r"http://codh.rois.ac.jp cannot be reached"):
        prepare.prepare("tfds:kmnist", tmp_path)


def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vision_jax\[tensorflow\]'"):
        prepare.prepare("tfds:kmnist", tmp_path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"train": 3, "validation": 2, "test": 1}, {"train": 3, "val": 2, "test": 1}),
        ({"train": 3, "validation": 2}, {"train": 3, "test": 2}),
        ({"train": 3, "extra": 5}, {"train": 3}),
    ],
)
def test_a_validation_split_is_the_test_split_where_there_is_no_other(tmp_path, monkeypatch, theirs, ours):
    import tensorflow_datasets

    class Own(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = "1.0.0"
        name, url_infos = "own", {}

        def _info(self):
            features = tensorflow_datasets.features.FeaturesDict(
                {
                    "image": tensorflow_datasets.features.Image(shape=(2, 2, 1)),
                    "label": tensorflow_datasets.features.ClassLabel(names=["a", "b"]),
                }
            )
            keys = ("image", "label")
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(number) for split, number in theirs.items()}

        def _generate_examples(self, number):
            for i in range(number):
                yield i, {"image": np.full((2, 2, 1), i, np.uint8), "label": i % 2}

    monkeypatch.setattr(tfds, "_builder", lambda name, data_dir: Own(data_dir=data_dir, file_format="array_record"))
    monkeypatch.setattr(tfds, "unreachable", lambda urls: [])
    prepare.prepare("tfds:own", tmp_path, say=lambda line: None)
    dataset = prepare.open_prepared("tfds:own", tmp_path)
    assert {split: len(source) for split, source in dataset.splits.items()} == ours
    for source in dataset.splits.values():
        for i in range(len(source)):
            assert source[i]["image"][0, 0, 0] % 2 == source[i]["label"]


def test_the_pictures_that_are_repaired_are_those_that_tfds_repairs():
    builder = importlib.import_module("tensorflow_datasets.datasets.oxford_iiit_pet.oxford_iiit_pet_dataset_builder")
    (theirs,) = (value for value in vars(builder).values() if isinstance(value, list) and "beagle_116" in value)
    assert sorted(formats._REPAIRED_PETS) == sorted(theirs)


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1201])
def test_examples_read_in_pieces_come_once_each_and_in_order(number):
    class Stored:
        def __len__(self):
            return number

        def __getitems__(self, indices):
            return [f"example {i}" for i in indices]

    assert list(tfds._examples(Stored(), "train")) == [(i, f"example {i}") for i in range(number)]

"""Preparing from the publishers' files: what ends up on disk, what is verified, what happens when things go wrong."""

import dataclasses
import hashlib
import pickle
import shutil
import threading
import types
import urllib.request

import numpy as np
import pytest

from tests.data.prepare import publishers_files as files
from vision_jax.data import prepare, sources
from vision_jax.data.decode import decode_image
from vision_jax.data.prepare import manifest, originals, store, tfds
from vision_jax.data.prepare import prepared as preparation
from vision_jax.data.prepare.archives import ArchiveError

RNG = np.random.default_rng(0)


def random_splits(sizes, shape, classes):
    return {
        split: (RNG.integers(0, 256, (size, *shape), np.uint8), RNG.integers(0, classes, size))
        for split, size in sizes.items()
    }


@pytest.fixture
def publish(monkeypatch):
    """Pretends that the files in a folder are those that a publisher gave out."""
    published = dict(manifest.entries())
    monkeypatch.setattr(manifest, "entries", lambda: published)

    def pretend(name, folder, examples, names=None):
        entry = published[name]
        described = {}
        for file in entry.files.values():
            checksums = ()
            if (folder / file.name).exists():
                checksums = ({"sha256": manifest.digests(folder / file.name)["sha256"], "origin": "this test"},)
            described[file.name] = dataclasses.replace(file, checksums=checksums, content={})
        published[name] = dataclasses.replace(
            entry, examples=examples, files=described, class_names=tuple(names or entry.class_names)
        )

    return pretend


def prepared(name, tmp_path, archives, **options):
    said = []
    prepare.prepare(name, tmp_path / "data", archives=archives, say=said.append, **options)
    return prepare.open_prepared(name, tmp_path / "data"), "\n".join(said)


def check_arrays(dataset, splits):
    for split, (images, labels) in splits.items():
        source = dataset.splits[split]
        np.testing.assert_array_equal(source.images, images.reshape(source.images.shape))
        np.testing.assert_array_equal(source.labels, labels)
        assert len(source) == len(labels)
        example = source[1]
        assert example["image"].dtype == np.uint8 and example["image"].ndim == 3
        assert example["label"] == labels[1] and example["label"].dtype == np.int32


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_and_fashion_mnist(name, tmp_path, publish):
    splits = random_splits({"train": 9, "test": 4}, (28, 28), 10)
    files.write_mnist(tmp_path / "files", splits)
    publish(name, tmp_path / "files", {"train": 9, "test": 4})
    dataset, said = prepared(name, tmp_path, tmp_path / "files")
    check_arrays(dataset, splits)
    assert dataset.name == name and len(dataset.class_names) == 10
    assert said.count("verified by sha256") == 4
    assert dataset.provenance["citation"] and "verified" in dataset.provenance["prepared_from"]
    assert isinstance(dataset.splits["train"].images, np.memmap)


@pytest.mark.parametrize(
    "form", ["python.tar.gz", "binary.tar.gz", "python folder", "binary folder", "the folder itself"]
)
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_all_its_forms(name, form, tmp_path, publish):
    hundred = name == "cifar100"
    names = [f"class_{i}" for i in range(100 if hundred else 10)]
    splits = random_splits({"train": 10, "test": 4}, (32, 32, 3), len(names))
    binary = "python" not in form
    archive = f"cifar-{'100' if hundred else '10'}-{'binary' if binary else 'python'}.tar.gz"
    folder = originals.formats.CIFAR_LAYOUTS[archive].folder
    contents = files.cifar_batches(splits, names, hundred, binary)
    where = tmp_path / "files"
    where.mkdir()
    if form.endswith("gz"):
        files.write_tar(where / archive, {f"{folder}/{name}": content for name, content in contents.items()})
    else:
        (where / folder).mkdir()
        for file, content in contents.items():
            (where / folder / file).write_bytes(content)
    publish(name, where, {"train": 10, "test": 4}, names)
    dataset, said = prepared(name, tmp_path, where / folder if form == "the folder itself" else where)
    check_arrays(dataset, splits)
    assert dataset.class_names == tuple(names)
    assert ("verified by sha256" in said) == form.endswith("gz")


def test_svhn(tmp_path, publish):
    splits = random_splits({"train": 12, "test": 5}, (32, 32, 3), 10)
    files.write_svhn(tmp_path / "files", splits)
    publish("svhn_cropped", tmp_path / "files", {"train": 12, "test": 5})
    check_arrays(prepared("svhn_cropped", tmp_path, tmp_path / "files")[0], splits)


def pets():
    """Examples of the Pet set: different sizes, a PNG, a CMYK and a gray picture that are called .jpg."""
    names = manifest.entries()["oxford_iiit_pet"].class_names
    content = {
        "american_bulldog_7": files.encoded(files.picture(1, (30, 20))),
        "Abyssinian_100": files.encoded(files.picture(2, (25, 35)), quality=60),
        "Abyssinian_5": files.encoded(files.picture(3, mode="RGBA"), "PNG"),
        "yorkshire_terrier_1": files.encoded(files.picture(4, mode="L")),
        "Abyssinian_11": files.encoded(files.picture(5).convert("CMYK")),
        "pug_9": files.encoded(files.picture(6)),
    }
    examples = [(name, names.index(name.rpartition("_")[0]), data) for name, data in content.items()]
    return {"trainval": examples[:4], "test": examples[4:]}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_pets(tmp_path, publish, mode):
    splits = pets()
    names = manifest.entries()["oxford_iiit_pet"].class_names
    files.write_pets(tmp_path / "files", splits, names, mode)
    publish("oxford_iiit_pet", tmp_path / "files", {"train": 4, "test": 2})
    dataset, _ = prepared("oxford_iiit_pet", tmp_path, tmp_path / "files")
    assert dataset.class_names == names and len(names) == 37
    for split, listed in (("train", "trainval"), ("test", "test")):
        source = dataset.splits[split]
        assert source.labels.tolist() == [label for _, label, _ in splits[listed]]
        for i, (name, label, content) in enumerate(splits[listed]):
            example = source[i]
            assert example["label"] == label
            assert source.encoded(i) == originals.formats.repair_pet(name, content)
            np.testing.assert_array_equal(example["image"], decode_image(source.encoded(i)))
            assert example["image"].shape[2] == 3
    # What a worker process gets is a few paths, not the pictures; and it opens them itself.
    sent = pickle.dumps(dataset.splits["train"])
    np.testing.assert_array_equal(pickle.loads(sent)[2]["image"], dataset.splits["train"][2]["image"])
    assert len(sent) < 2000
    with pytest.raises(IndexError):
        dataset.splits["train"][4]
    with pytest.raises(IndexError):
        dataset.splits["train"][-1]


def test_pets_archive_without_a_listed_picture(tmp_path, publish):
    splits = pets()
    files.write_pets(tmp_path / "files", splits, manifest.entries()["oxford_iiit_pet"].class_names)
    (tmp_path / "files" / "images.tar.gz").unlink()
    files.write_tar(tmp_path / "files" / "images.tar.gz", {"images/pug_9.jpg": b"x"})
    publish("oxford_iiit_pet", tmp_path / "files", {"train": 4, "test": 2})
    with pytest.raises(ArchiveError, match="lacks 5 of the listed pictures, among them Abyssinian_100"):
        prepared("oxford_iiit_pet", tmp_path, tmp_path / "files")
    assert not (tmp_path / "data" / "oxford_iiit_pet").exists()


def test_real_mnist_is_recognized_by_its_content(tmp_path, test_data):
    # One of these four archives was packed anew: its content is known, its checksum is not.
    dataset, said = prepared("mnist", tmp_path, test_data / "mnist")
    assert said.count("verified by sha256") == 3 and said.count("content verified") == 1
    assert [len(dataset.splits[split]) for split in ("train", "test")] == [60000, 10000]
    assert np.bincount(dataset.splits["test"].labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


def test_real_cifar(tmp_path, unpacked_data):
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        dataset, _ = prepared(name, tmp_path, unpacked_data)
        for split, size in (("train", 50000), ("test", 10000)):
            assert (np.bincount(dataset.splits[split].labels) == size // classes).all()
    assert dataset.class_names[:2] == ("apple", "aquarium_fish")
    assert dataset.class_names[dataset.splits["train"].labels[0]] == "cattle"
    folder = unpacked_data / "cifar-100-binary"
    coarse_names = (folder / "coarse_label_names.txt").read_text().split()
    coarse, fine = np.fromfile(folder / "test.bin", np.uint8).reshape(-1, 3074)[:, :2].T
    named = {dataset.class_names[f]: coarse_names[c] for f, c in zip(fine, coarse, strict=True)}
    assert dict(zip(dataset.class_names, dataset.superclasses, strict=True)) == named


def test_other_files_than_the_published_ones(tmp_path):
    splits = random_splits({"train": 9, "test": 4}, (28, 28), 10)
    files.write_mnist(tmp_path / "files", splits)
    with pytest.raises(originals.VerificationError) as error:
        prepared("mnist", tmp_path, tmp_path / "files")
    found = manifest.digests(tmp_path / "files" / "train-images-idx3-ubyte.gz")
    for part in (found["sha256"], found["md5"], "440fcabf73cc546f", "f68b3c2dcbeaaa9f", "--allow_unverified"):
        assert part in str(error.value)
    assert list((tmp_path / "data").glob("[!.]*")) == []
    dataset, said = prepared("mnist", tmp_path, tmp_path / "files", allow_unverified=True)
    check_arrays(dataset, splits)
    assert "NOT verified" in said and "gives 9 examples in 'train'; published are 60,000" in said
    assert "NOT verified" in dataset.provenance["prepared_from"]


def test_unpacked_python_batches_are_verified_one_by_one(tmp_path, publish):
    names = manifest.entries()["cifar10"].class_names
    splits = random_splits({"train": 10, "test": 4}, (32, 32, 3), 10)
    where = tmp_path / "files" / "cifar-10-batches-py"
    where.mkdir(parents=True)
    for file, content in files.cifar_batches(splits, names, False, False).items():
        (where / file).write_bytes(content)
    with pytest.raises(originals.VerificationError, match=r"data_batch_1 has md5 .* c99cafc152244af753f735de768cd75f"):
        prepared("cifar10", tmp_path, tmp_path / "files")


def test_a_smaller_set_than_published_is_refused_even_where_no_checksum_is_known(tmp_path):
    names = manifest.entries()["cifar10"].class_names
    splits = random_splits({"train": 10, "test": 4}, (32, 32, 3), 10)
    where = tmp_path / "cifar-10-batches-bin"
    where.mkdir()
    for file, content in files.cifar_batches(splits, names, False, True).items():
        (where / file).write_bytes(content)
    with pytest.raises(originals.VerificationError, match="gives 10 examples"):
        prepared("cifar10", tmp_path, tmp_path)


def test_missing_files_are_listed_with_their_urls(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FileNotFoundError) as error:
        prepared("svhn_cropped", tmp_path, tmp_path)
    for part in (
        "test_32x32.mat (64,275,384 bytes)  http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        "holiday.jpg",
    ):
        assert part in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"one of\n.*cifar-10-python.tar.gz"):
        prepared("cifar10", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        prepared("cifar10", tmp_path, tmp_path / "nowhere")


@pytest.fixture
def small(tmp_path, publish):
    """A published MNIST of 13 digits."""
    splits = random_splits({"train": 9, "test": 4}, (28, 28), 10)
    files.write_mnist(tmp_path / "files", splits)
    publish("mnist", tmp_path / "files", {"train": 9, "test": 4})
    return types.SimpleNamespace(splits=splits, archives=tmp_path / "files", data=tmp_path / "data")


def test_a_second_call_does_nothing(small, tmp_path, monkeypatch):
    prepared("mnist", tmp_path, small.archives)
    before = {path: path.stat().st_mtime_ns for path in (small.data / "mnist").iterdir()}
    monkeypatch.setattr(originals, "prepare", None)
    shutil.rmtree(small.archives)
    small.archives.mkdir()
    dataset, said = prepared("mnist", tmp_path, small.archives)
    assert "prepared already" in said
    assert before == {path: path.stat().st_mtime_ns for path in (small.data / "mnist").iterdir()}
    (small.data / ".mnist.lock").unlink()
    prepared("mnist", tmp_path, small.archives)
    assert not (small.data / ".mnist.lock").exists()  # Others may only read there.
    check_arrays(dataset, small.splits)


def test_splits_know_what_they_hold(small, tmp_path, publish):
    first, _ = prepared("mnist", tmp_path, small.archives)
    again, _ = prepared("mnist", tmp_path / "again", small.archives)
    files.write_pets(tmp_path / "pets", pets(), manifest.entries()["oxford_iiit_pet"].class_names)
    publish("oxford_iiit_pet", tmp_path / "pets", {"train": 4, "test": 2})
    encoded, _ = prepared("oxford_iiit_pet", tmp_path, tmp_path / "pets")
    seen = [sources.fingerprint(source) for each in (first, encoded) for source in each.splits.values()]
    assert len(set(seen)) == 4
    for split, source in first.splits.items():
        assert sources.fingerprint(source) == sources.fingerprint(again.splits[split])


def test_an_interrupted_preparation_leaves_nothing_and_can_be_repeated(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(store, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepared("mnist", tmp_path, small.archives)
    with pytest.raises(prepare.NotPreparedError):
        prepare.open_prepared("mnist", small.data)
    # A process that was killed could not clean up.
    (small.data / ".mnist.partial").mkdir()
    (small.data / ".mnist.partial" / "train_images.npy").write_bytes(b"half")
    (small.data / ".mnist.partial" / "stale").touch()
    check_arrays(prepared("mnist", tmp_path, small.archives)[0], small.splits)
    assert sorted(path.name for path in (small.data / "mnist").iterdir()) == [
        "info.json",
        "test_images.npy",
        "test_labels.npy",
        "train_images.npy",
        "train_labels.npy",
    ]
    assert not (small.data / ".mnist.partial").exists()


def test_two_processes_do_not_prepare_the_same_set(small, tmp_path):
    with preparation._lock(small.data, "mnist"), pytest.raises(BlockingIOError, match="Another process"):
        prepared("mnist", tmp_path, small.archives)


def test_a_full_disk_is_noticed_before(small, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1_000_000))
    with pytest.raises(OSError, match=r"0\.0 GB free; about 0\.1 GB are needed"):
        prepared("mnist", tmp_path, small.archives)


def test_a_folder_of_another_kind_is_not_touched(small, tmp_path):
    (small.data / "mnist").mkdir(parents=True)
    (small.data / "mnist" / "thesis.txt").write_text("precious")
    with pytest.raises(OSError, match="is no prepared data set"):
        prepared("mnist", tmp_path, small.archives)
    assert (small.data / "mnist" / "thesis.txt").read_text() == "precious"


def test_damage_after_preparation_is_noticed(small, tmp_path):
    prepared("mnist", tmp_path, small.archives)
    info = small.data / "mnist" / "info.json"
    whole = info.read_text()
    info.write_text(whole.replace('"version": 1', '"version": 0'))
    with pytest.raises(ValueError, match="version 0"):
        prepare.open_prepared("mnist", small.data)
    info.write_text(whole)
    shutil.copy(small.data / "mnist" / "test_labels.npy", small.data / "mnist" / "train_labels.npy")
    with pytest.raises(ValueError):
        prepare.open_prepared("mnist", small.data)


def test_opening_says_which_command_prepares(tmp_path):
    with pytest.raises(prepare.NotPreparedError) as error:
        prepare.open_prepared("cifar10", tmp_path)
    assert f"vision-jax prepare cifar10 --data_dir {tmp_path}\n" in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"prepare tfds:eurosat\n"):
        prepare.open_prepared("tfds:eurosat")


def test_names():
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        prepare.open_prepared("cifar-10")
    with pytest.raises(ValueError, match="nothing to prepare"):
        prepare.prepare("digits")


def test_without_network_it_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "prepare_named", None)  # TFDS and its retries are not reached
    with pytest.raises(ConnectionError) as error:
        prepare.prepare("oxford_iiit_pet", tmp_path, through="tfds")
    for part in (
        "https://thor.robots.ox.ac.uk cannot be reached",
        "all of",
        "images.tar.gz (791,918,971 bytes)  https://",
        "annotations.tar.gz",
        "prepare_data oxford_iiit_pet --archives DIR",
    ):
        assert part in str(error.value)


def test_a_resolver_that_hangs_does_not_hold_us_up(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: released.wait())
    assert tfds.unreachable(["http://a/x", "https://b/y", "http://a/z"], seconds=0.2) == [
        "http://a",
        "https://b",
    ]
    released.set()


def test_the_manifest_is_whole():
    assert prepare.names() == ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped", "oxford_iiit_pet")
    for entry in manifest.entries().values():
        assert entry.license and entry.citation and entry.homepage.startswith("http")
        assert not entry.superclasses or len(entry.superclasses) == len(entry.class_names)
        for file in entry.files.values():
            assert file.checksums and file.url.endswith(file.name)
            assert file.unpacked_bytes >= (file.bytes or 0)
            for checksum in (*file.checksums, *file.content.values()):
                assert checksum["origin"]
                assert len(checksum.get("sha256", "")) == 64 or len(checksum.get("md5", "")) == 32


@pytest.mark.parametrize(("number", "more"), [(1, False), (20, False), (21, True), (22, True)])
def test_a_folder_of_other_files_is_listed_up_to_twenty(tmp_path, number, more):
    folder = tmp_path / "downloads"
    folder.mkdir()
    for i in range(number):
        (folder / f"{i:02}.jpg").touch()
    with pytest.raises(FileNotFoundError) as error:
        prepared("svhn_cropped", tmp_path, folder)
    listed = ", ".join(f"{i:02}.jpg" for i in range(min(number, 20)))
    assert str(error.value).endswith(f"Found there: {listed}{', ...' if more else ''}.")


def test_fetching_takes_room_for_archives_and_copies(tmp_path, monkeypatch):
    entry = manifest.entries()["svhn_cropped"]
    archives = entry.tfds_download_bytes or sum(file.bytes for file in entry.files.values())
    needed = 2 * archives + 2 * entry.prepared_bytes
    monkeypatch.setattr(tfds, "unreachable", lambda urls: [])

    class Fetched(Exception):
        pass

    def fetch(*args, **options):
        raise Fetched

    monkeypatch.setattr(tfds, "prepare_named", fetch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=f"{needed / 1e9:.1f} GB free; about {needed / 1e9:.1f} GB are needed"):
        prepare.prepare("svhn_cropped", tmp_path, through="tfds", say=lambda line: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=needed))
    with pytest.raises(Fetched):
        prepare.prepare("svhn_cropped", tmp_path, through="tfds", say=lambda line: None)


def test_the_folder_of_data_is_made_with_all_above_it(small, tmp_path):
    target = tmp_path / "new" / "disk" / "data"
    prepare.prepare("mnist", target, archives=small.archives, say=lambda line: None)
    check_arrays(prepare.open_prepared("mnist", target), small.splits)


@pytest.mark.parametrize("number", [1, 1024, 1025, 2100])
def test_a_fingerprint_is_the_digest_of_all_pixels_and_labels(tmp_path, number):
    images = np.random.default_rng(0).integers(0, 256, (number, 2, 2, 1), np.uint8)
    labels = np.arange(number, dtype=np.int32) % 7
    expected = hashlib.sha256(images.tobytes() + labels.astype("<i4").tobytes()).hexdigest()
    assert store.write_arrays(tmp_path, "train", images, labels) == expected

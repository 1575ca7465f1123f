"""The publishers' formats, written here independently of the parsers, and files that lie about themselves."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from tests.data.prepare import publishers_files as files
from vision_jax.data.decode import decode_image
from vision_jax.data.prepare import formats
from vision_jax.data.prepare.archives import ArchiveError

RNG = np.random.default_rng(0)
BOUND = 1 << 20


def random_split(size, shape, classes):
    return RNG.integers(0, 256, (size, *shape), np.uint8), RNG.integers(0, classes, size)


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_files(tmp_path, zipped):
    splits = {"train": random_split(7, (28, 28), 10), "test": random_split(3, (28, 28), 10)}
    files.write_mnist(tmp_path, splits, zipped)
    suffix = ".gz" if zipped else ""
    images, labels = formats.read_mnist(
        tmp_path / f"t10k-images-idx3-ubyte{suffix}", tmp_path / f"t10k-labels-idx1-ubyte{suffix}", max_bytes=BOUND
    )
    np.testing.assert_array_equal(images[..., 0], splits["test"][0])
    np.testing.assert_array_equal(labels, splits["test"][1])
    assert images.dtype == np.uint8 and labels.dtype == np.int32


def test_the_first_digits_of_mnist(test_data):
    folder = test_data / "mnist"
    images, labels = formats.read_mnist(
        folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz", max_bytes=50_000_000
    )
    assert images.shape == (60000, 28, 28, 1)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert abs(images.mean() / 255 - 0.1307) < 1e-4  # the mean that everybody normalizes with


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (b"\0\0\x08\x03" + struct.pack(">3I", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), b"x", "announces"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28), b"x" * 783, "announces"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 1, 28, 28), b"x" * 785, "announces"),
        (b"\0\0\x08\xff" + struct.pack(">3I", 1, 28, 28), b"", "no idx file"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1), b"xxxx", "no idx file"),  # floats
        (b"\0\0\x08\x00", b"", "no idx file"),
        (b"", b"", "no idx file"),
    ],
)
def test_idx_headers_that_lie(tmp_path, header, data, said):
    (tmp_path / "x").write_bytes(header + data)
    with pytest.raises(ArchiveError, match=said):
        formats.read_idx(tmp_path / "x", max_bytes=BOUND)


def test_mnist_files_that_do_not_belong_together(tmp_path):
    files.write_idx(tmp_path / "images", np.zeros((3, 28, 28), np.uint8))
    files.write_idx(tmp_path / "small", np.zeros((3, 8, 8), np.uint8))
    files.write_idx(tmp_path / "two", np.zeros(2, np.uint8))
    files.write_idx(tmp_path / "ten", np.array([1, 2, 10], np.uint8))
    for images, labels, said in (
        ("images", "two", "expected are"),
        ("small", "two", "expected are"),
        ("images", "ten", "a label 10"),
    ):
        with pytest.raises(ArchiveError, match=said):
            formats.read_mnist(tmp_path / images, tmp_path / labels, max_bytes=BOUND)


@pytest.mark.parametrize(("name", "hundred"), [("cifar-10", False), ("cifar-100", True)])
def test_cifar_binary_and_python_give_the_same_arrays(name, hundred):
    class_names = [f"class_{i}" for i in range(100 if hundred else 10)]
    splits = {split: random_split(size, (32, 32, 3), len(class_names)) for split, size in (("train", 11), ("test", 4))}
    for binary in (True, False):
        layout = formats.CIFAR_LAYOUTS[f"{name}-{'binary' if binary else 'python'}.tar.gz"]
        contents = files.cifar_batches(splits, class_names, hundred, binary)
        read = formats.read_cifar(layout, contents, class_names)
        assert set(layout.files) <= set(contents)
        for split, (images, labels) in splits.items():
            np.testing.assert_array_equal(read[split][0], images)
            np.testing.assert_array_equal(read[split][1], labels)
            assert read[split][0].dtype == np.uint8 and read[split][1].dtype == np.int32


def test_cifar_files_that_are_something_else():
    class_names = [str(i) for i in range(10)]
    splits = {split: random_split(5, (32, 32, 3), 10) for split in ("train", "test")}
    for binary, change, said in [
        (True, {"test_batch.bin": b"x" * 3074}, "not a multiple"),
        (True, {"test_batch.bin": b""}, "not a multiple"),
        (True, {"test_batch.bin": b"\xff" * 3073}, "a label 255"),
        (True, {"batches.meta.txt": b"a\nb\n"}, "names the classes"),
        (False, {"test_batch": files.pickled_py2({b"labels": [1]})}, "no array"),
        (False, {"test_batch": files.pickled_py2({b"data": np.zeros((2, 3000), np.uint8)})}, "no array"),
        (False, {"test_batch": files.pickled_py2({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]})}, "no list"),
        (
            False,
            {"test_batch": files.pickled_py2({b"data": np.zeros((1, 3072), np.uint8), b"labels": [700]})},
            "labels",
        ),
        (False, {"batches.meta": files.pickled_py2({b"label_names": [b"a"]})}, "names the classes"),
    ]:
        layout = formats.CIFAR_LAYOUTS[f"cifar-10-{'binary' if binary else 'python'}.tar.gz"]
        contents = {**files.cifar_batches(splits, class_names, False, binary), **change}
        with pytest.raises(ArchiveError, match=said):
            formats.read_cifar(layout, contents, class_names)


def test_svhn_label_ten_is_the_digit_zero(tmp_path):
    images = RNG.integers(0, 256, (12, 32, 32, 3), np.uint8)
    digits = np.array([*range(10), 0, 0])
    files.write_svhn(tmp_path, {"train": (images, digits)})
    assert 10 in scipy.io.loadmat(tmp_path / "train_32x32.mat")["y"]
    read, labels = formats.read_svhn(tmp_path / "train_32x32.mat", max_bytes=BOUND)
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(labels, digits)
    assert labels.dtype == np.int32 and read.flags.c_contiguous


def mat(path, compressed=True, **content):
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


X = np.zeros((32, 32, 3, 2), np.uint8)
Y = np.array([[1], [10]], np.uint8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"X": np.array([[1, "a"], [3, 2.0]], dtype=object), "y": Y}, "X is cell"),
        ({"X": {"a": X}, "y": Y}, "X is struct"),
        ({"X": X.astype(np.float64), "y": Y}, "X as float64"),
        ({"X": X[:16], "y": Y}, "expected is uint8"),
        ({"X": X, "y": Y[:1]}, "holds y as"),
        ({"X": X, "y": np.array([["a"], ["b"]])}, "y is char"),
        ({"X": X, "y": np.array([[1], [11]], np.uint8)}, "labels from 1 to 11"),
        ({"X": X, "y": np.array([[0], [1]], np.uint8)}, "labels from 0 to 1"),
        ({"X": X, "y": np.array([[1.5], [2.0]])}, "labels from 1.5"),
        ({"X": X, "y": Y + 1j}, "y is complex"),
        ({"y": Y}, "holds X as"),
        ({"X": X}, "holds y as"),
    ],
)
def test_mat_files_with_something_else_in_them(tmp_path, content, said):
    with pytest.raises(ArchiveError, match=said):
        formats.read_svhn(mat(tmp_path / "a.mat", **content), max_bytes=BOUND)


def test_mat_files_beyond_their_bound(tmp_path):
    big = np.zeros((32, 32, 3, 100), np.uint8)
    labels = np.ones((100, 1), np.uint8)
    for compressed in (True, False):
        path = mat(tmp_path / "a.mat", compressed, X=big, y=labels)
        formats.read_svhn(path, max_bytes=400_000)
        with pytest.raises(ArchiveError, match=r"bound|element"):
            formats.read_svhn(path, max_bytes=200_000)


def test_mat_file_with_huge_dimensions(tmp_path):
    path = mat(tmp_path / "a.mat", False, X=X, y=Y)
    content = path.read_bytes()
    dimensions = struct.pack("<4i", 32, 32, 3, 2)
    assert content.count(dimensions) == 1
    for count in (3, 1 << 20, 0x7FFFFFFF, -1):
        path.write_bytes(content.replace(dimensions, struct.pack("<4i", 32, 32, 3, count)))
        with pytest.raises(ArchiveError):
            formats.read_svhn(path, max_bytes=BOUND)


def test_mat_file_that_is_a_bomb(tmp_path):
    path = mat(tmp_path / "a.mat", True, X=X, y=Y)
    bomb = zlib.compress(bytes(16 << 20))
    path.write_bytes(path.read_bytes() + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(ArchiveError, match="bomb"):
        formats.read_svhn(path, max_bytes=BOUND)


def test_mat_files_that_are_damaged(tmp_path):
    content = mat(tmp_path / "a.mat", True, X=RNG.integers(0, 256, X.shape, np.uint8), y=Y).read_bytes()
    cases = [b"", b"\x89HDF\r\n\x1a\n" + bytes(500), content[:100], content[:200], content[:-9]]
    cases += [content[:i] + b"\xff\xff" + content[i + 2 :] for i in (128, 132, 140, 400)]
    for case in cases:
        (tmp_path / "b.mat").write_bytes(case)
        with pytest.raises(ArchiveError):
            formats.read_svhn(tmp_path / "b.mat", max_bytes=BOUND)


def test_pets_list():
    text = b"#Image CLASS-ID SPECIES BREED ID\nAbyssinian_100 1 1 1\namerican_bulldog_2 2 2 1\nAbyssinian_1 1 1 1\n\n"
    names = ["Abyssinian", "american_bulldog"]
    expected = [("Abyssinian_100", 0), ("american_bulldog_2", 1), ("Abyssinian_1", 0)]
    assert formats.read_pets_list(text, names, "trainval.txt") == expected
    for line in (
        b"../x_1 1 1 1",
        b"Abyssinian_1 3 1 1",
        b"Abyssinian_1 0 1 1",
        b"Abyssinian_1 2 1 1",
        b"Abyssinian_1",
        b"Abyssinian_1 1 1 1\nAbyssinian_1 1 1 1",
        b"/etc/passwd_1 1 1 1",
    ):
        with pytest.raises(ArchiveError):
            formats.read_pets_list(line, names, "trainval.txt")


def test_only_the_known_bad_pets_are_written_anew():
    picture = files.picture(0, mode="RGBA")
    png = files.encoded(picture, "PNG")
    assert formats.repair_pet("Abyssinian_6", png) is png
    repaired = formats.repair_pet("Abyssinian_5", png)
    np.testing.assert_array_equal(
        decode_image(repaired), decode_image(files.encoded(picture.convert("RGB"), quality=95))
    )
    with pytest.raises(ArchiveError, match="Abyssinian_5"):
        formats.repair_pet("Abyssinian_5", png[:200])


def test_labels_beyond_the_last_class_are_told_with_the_range(tmp_path):
    files.write_idx(tmp_path / "images", np.zeros((2, 28, 28), np.uint8))
    files.write_idx(tmp_path / "labels", np.array([0, 9], np.uint8))
    _, labels = formats.read_mnist(tmp_path / "images", tmp_path / "labels", max_bytes=BOUND)
    assert labels.tolist() == [0, 9]
    files.write_idx(tmp_path / "labels", np.array([0, 10], np.uint8))
    with pytest.raises(ArchiveError, match="a label 10; labels here go from 0 to 9"):
        formats.read_mnist(tmp_path / "images", tmp_path / "labels", max_bytes=BOUND)


def test_an_idx_file_may_hold_nothing(tmp_path):
    files.write_idx(tmp_path / "none", np.zeros((0, 28, 28), np.uint8))
    assert formats.read_idx(tmp_path / "none", max_bytes=BOUND).shape == (0, 28, 28)
    (tmp_path / "short").write_bytes(b"\0\0\x08\x01\0\0\0")
    with pytest.raises(ArchiveError, match="no idx file"):
        formats.read_idx(tmp_path / "short", max_bytes=BOUND)


@pytest.mark.parametrize(("label", "said"), [(255, "a label 255"), (256, "has labels from 256 to 256")])
def test_labels_that_fill_a_byte_and_more(label, said):
    class_names = [str(i) for i in range(10)]
    splits = {split: random_split(5, (32, 32, 3), 10) for split in ("train", "test")}
    batch = files.pickled_py2({b"data": np.zeros((1, 3072), np.uint8), b"labels": [label]})
    contents = {**files.cifar_batches(splits, class_names, False, False), "test_batch": batch}
    with pytest.raises(ArchiveError, match=said):
        formats.read_cifar(formats.CIFAR_LAYOUTS["cifar-10-python.tar.gz"], contents, class_names)

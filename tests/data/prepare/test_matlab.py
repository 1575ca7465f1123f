import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from vision_jax.data.prepare.archives import ArchiveError
from vision_jax.data.prepare.matlab import read_mat

RNG = np.random.default_rng(0)
ARRAYS = {
    "X": RNG.integers(0, 256, (4, 5, 3, 2), np.uint8),
    "y": np.array([[10], [1]], np.uint8),  # its data fit into the short form of an element
    "d": RNG.normal(size=(3, 2)),
    "a_rather_long_name": np.zeros((1, 9), np.uint8),
    "empty": np.zeros((0, 0)),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_reads_what_scipy_reads(tmp_path, compressed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {**ARRAYS, "other": {"field": "text"}}, do_compression=compressed)
    ours = read_mat(path, ARRAYS, max_bytes=1 << 20)
    theirs = scipy.io.loadmat(path)
    assert ours.keys() == ARRAYS.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
        assert array.dtype == theirs[name].dtype
    assert read_mat(path, ("X", "absent"), max_bytes=1 << 20).keys() == {"X"}


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name, shape, flags, stored, values):
    parts = (element(6, struct.pack("<II", flags, 0)), element(5, struct.pack(f"<{len(shape)}i", *shape)))
    return element(14, b"".join(parts) + element(1, name) + element(stored, values))


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def test_doubles_that_matlab_stored_as_bytes(tmp_path):
    (tmp_path / "a.mat").write_bytes(HEADER + matrix(b"y", (3, 1), 6, 2, bytes([1, 2, 10])))
    array = read_mat(tmp_path / "a.mat", "y", max_bytes=1000)["y"]
    assert array.dtype == np.float64 and array.tolist() == [[1.0], [2.0], [10.0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (matrix(b"y", (3, 2), 9, 2, b"123"), "announces the shape"),
        (matrix(b"y", (-3, -1), 9, 2, b"123"), "announces the shape"),
        (matrix(b"y", (2**31 - 1, 2**31 - 1), 9, 2, b"123"), "announces the shape"),
        (matrix(b"y", (3,), 9, 2, b"123"), "announces the shape"),
        (matrix(b"y", (1,) * 40, 9, 2, b"1"), "announces the shape"),
        (matrix(b"y", (3, 1), 4, 2, b"123"), "y is char"),
        (matrix(b"y", (3, 1), 200, 2, b"123"), "y is class 200"),
        (matrix(b"y", (3, 1), 0x809, 2, b"123"), "y is complex"),
        (matrix(b"y", (3, 1), 9, 14, b"123"), "stored in a form"),
        (matrix(b"y", (3, 1), 9, 2, b"123") * 2, "twice"),
        (element(14, b""), "damaged"),
        (element(14, b"\x05\x00\xff\xffabcd"), "short element"),
        (element(14, struct.pack("<II", 6, 0xFFFFFFF0)), "announces"),
        (element(14, bytes(64))[:-8], "cut off"),
        (struct.pack("<II", 14, 0xFFFFFFFF), "cut off"),
        (element(15, b"nonsense"), "damaged"),
        (element(3, b"nonsense"), "kind 3"),
        (b"\x0e", "cut off"),
    ],
)
def test_files_that_are_damaged_or_lie(tmp_path, content, said):
    (tmp_path / "a.mat").write_bytes(HEADER + content)
    with pytest.raises(ArchiveError, match=said):
        read_mat(tmp_path / "a.mat", "y", max_bytes=1 << 20)


def test_changed_bytes_end_in_one_kind_of_error(tmp_path):
    # SciPy's reader crashes the process on some of these.
    draw = random.Random(0)
    for compressed in (True, False):
        scipy.io.savemat(tmp_path / "a.mat", ARRAYS, do_compression=compressed)
        whole = (tmp_path / "a.mat").read_bytes()
        refused = 0
        for _ in range(400):
            changed = bytearray(whole)
            for _ in range(draw.choice((1, 2, 5))):
                changed[draw.randrange(len(changed))] = draw.choice((0, 1, 127, 255, draw.randrange(256)))
            (tmp_path / "b.mat").write_bytes(changed)
            try:
                read_mat(tmp_path / "b.mat", ARRAYS, max_bytes=1 << 20)
            except ArchiveError:
                refused += 1
        assert refused > 100


@pytest.mark.parametrize("compressed", [True, False])
def test_a_bound_is_the_largest_size_that_is_read(tmp_path, compressed):
    packed = matrix(b"four", (3, 1), 9, 2, b"123")
    content = struct.pack("<II", 15, len(zlib.compress(packed))) + zlib.compress(packed) if compressed else packed
    (tmp_path / "a.mat").write_bytes(HEADER + content)
    size = len(packed) if compressed else len(packed) - 8
    assert read_mat(tmp_path / "a.mat", ("four",), max_bytes=size)["four"].tolist() == [[49], [50], [51]]
    with pytest.raises(ArchiveError, match=f"more than {size - 1:,} bytes"):
        read_mat(tmp_path / "a.mat", ("four",), max_bytes=size - 1)


def test_the_bound_is_that_of_all_arrays_together(tmp_path):
    content = matrix(b"a", (3, 1), 9, 2, b"123") + matrix(b"b", (3, 1), 9, 2, b"123")
    (tmp_path / "a.mat").write_bytes(HEADER + content)
    assert read_mat(tmp_path / "a.mat", ("a", "b"), max_bytes=len(content) - 16).keys() == {"a", "b"}
    with pytest.raises(ArchiveError, match="the bound for this file"):
        read_mat(tmp_path / "a.mat", ("a", "b"), max_bytes=len(content) - 17)


def test_a_compressed_element_holds_one_matrix(tmp_path):
    for packed in (element(3, bytes(200)), element(14, bytes(200)) + b"more"):
        content = zlib.compress(packed)
        (tmp_path / "a.mat").write_bytes(HEADER + struct.pack("<II", 15, len(content)) + content)
        with pytest.raises(ArchiveError, match="a compressed element holds kind"):
            read_mat(tmp_path / "a.mat", ("y",), max_bytes=len(packed))


def test_names_and_values_of_four_bytes_lie_in_their_tags(tmp_path):
    """Elements of up to four bytes take eight with their tag; an array has two to eight dimensions."""

    def short(kind, data):
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")

    for rank in (2, 8, 9):
        shape = struct.pack(f"<{rank}i", 2, 2, *[1] * (rank - 2))
        parts = element(6, struct.pack("<II", 9, 0)), element(5, shape), short(1, b"four"), short(2, b"1234")
        (tmp_path / "a.mat").write_bytes(HEADER + element(14, b"".join(parts)))
        if rank <= 8:
            array = read_mat(tmp_path / "a.mat", ("four",), max_bytes=1000)["four"]
            assert array.shape == (2, 2, *[1] * (rank - 2)) and array.ravel("F").tolist() == [49, 50, 51, 52]
        else:
            with pytest.raises(ArchiveError, match="announces the shape"):
                read_mat(tmp_path / "a.mat", ("four",), max_bytes=1000)

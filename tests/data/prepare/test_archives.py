"""One malicious file of each kind, made here, and what must be said about it."""

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from tests.data.prepare.publishers_files import pickled_py2
from vision_jax.data.prepare import archives
from vision_jax.data.prepare.archives import ArchiveError, read_gz, read_pickled_dict, read_tar


def tar_file(path, members, mode="w:gz", format=tarfile.PAX_FORMAT):
    """Writes (name, content or a change to the TarInfo) pairs, hostile ones included."""
    with tarfile.open(path, mode, format=format) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if callable(content):
                content(member)
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def read_all(path, max_bytes=1 << 20):
    return dict(read_tar(path, lambda name: True, max_bytes=max_bytes))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_reads_wanted_members_only(tmp_path, mode):
    # The Pet archives have been given out both as tar and as tar.gz, under one name.
    path = tar_file(tmp_path / "a.tar.gz", [("./d/a.txt", b"A"), ("d/b.txt", b"B")], mode)
    assert dict(read_tar(path, lambda name: name == "d/a.txt", max_bytes=1 << 20)) == {"d/a.txt": b"A"}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../evil", "d/../../evil", "d/..", "C:/evil", "..\\evil", "d\\..\\evil", "d/\x1b[2Jx"]
)
def test_refuses_paths_out_of_the_folder(tmp_path, name):
    path = tar_file(tmp_path / "a.tar.gz", [("d/good", b"x"), (name, b"evil")])
    with pytest.raises(ArchiveError, match="leads out of its folder"):
        read_all(path)
    # ... also where the evil member is not one of those that are wanted
    with pytest.raises(ArchiveError, match="leads out of its folder"):
        list(read_tar(path, lambda name: name == "d/good", max_bytes=1 << 20))


def make(kind, linkname=""):
    def change(member):
        member.type, member.linkname = kind, linkname

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (make(tarfile.SYMTYPE, "/etc"), "a link"),
        (make(tarfile.LNKTYPE, "/etc/passwd"), "a link"),
        (make(tarfile.CHRTYPE), "a device or pipe"),
        (make(tarfile.BLKTYPE), "a device or pipe"),
        (make(tarfile.FIFOTYPE), "a device or pipe"),
    ],
)
def test_refuses_links_and_devices(tmp_path, change, said):
    with pytest.raises(ArchiveError, match=said):
        read_all(tar_file(tmp_path / "a.tar.gz", [("d/x", change), ("d/x/file", b"evil")]))


def test_refuses_a_member_that_comes_twice(tmp_path):
    with pytest.raises(ArchiveError, match="twice"):
        read_all(tar_file(tmp_path / "a.tar", [("d/x", b"good"), ("./d/x", b"evil")], "w"))


def test_refuses_a_sparse_member_that_unpacks_to_a_terabyte(tmp_path):
    def change(member):
        member.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.map": "0,0",
            "GNU.sparse.size": str(1 << 40),
        }

    with pytest.raises(ArchiveError, match=r"sparse|announces"):
        read_all(tar_file(tmp_path / "a.tar", [("d/x", change)], "w"))


def test_refuses_a_member_that_announces_more_than_the_bound(tmp_path):
    path = tmp_path / "a.tar"
    header = tarfile.TarInfo("d/x")
    header.size = 1 << 40
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    with pytest.raises(ArchiveError, match="announces"):
        read_all(path)


def test_refuses_bombs_by_size_and_by_ratio(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(ArchiveError, match="more than 100,000 bytes"):
        read_gz(bomb, max_bytes=100_000)
    with pytest.raises(ArchiveError, match="200 times its size"):
        read_gz(bomb, max_bytes=1 << 30)
    with pytest.raises(ArchiveError, match="more than 100,000 bytes"):
        read_all(tar_file(tmp_path / "a.tar.gz", [(f"d/{i}", bytes(50_000)) for i in range(9)]), max_bytes=100_000)


def test_refuses_a_bomb_within_a_member_that_is_not_wanted(tmp_path):
    path = tar_file(tmp_path / "a.tar.gz", [("d/bomb", bytes(1 << 20)), ("d/x", b"x")])
    with pytest.raises(ArchiveError, match="bound"):
        list(read_tar(path, lambda name: name == "d/x", max_bytes=100_000))


def test_says_that_a_file_is_cut_off(tmp_path):
    noise = np.random.default_rng(0).bytes(100_000)
    whole = tar_file(tmp_path / "a.tar.gz", [("d/x", noise)]).read_bytes()
    for length in (0, 1, 20, 5_000, len(whole) - 20_000):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match="cut off"):
            read_all(tmp_path / "cut")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(noise)[:-100])
    with pytest.raises(ArchiveError, match="cut off"):
        read_gz(tmp_path / "cut.gz", max_bytes=1 << 20)


def test_bytes_without_meaning_end_in_the_same_error(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(50):
        (tmp_path / "x").write_bytes((b"\x1f\x8b\x08" if i % 2 else b"") + rng.bytes(2000))
        with pytest.raises(ArchiveError):
            read_all(tmp_path / "x")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_run_no_code(tmp_path, protocol):
    content = pickle.dumps({b"data": Evil(tmp_path / "pwned")}, protocol)
    with pytest.raises(ArchiveError, match="code, not data" if protocol else "opcode"):
        read_pickled_dict(content, "data_batch_1")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "os system",
        "numpy load",
        "numpy core",
        "numpy.core.multiarray fromfile",
        "copyreg _reconstructor",
    ],
)
def test_pickles_get_no_name_but_those_of_an_array(name):
    module, attribute = name.split()
    with pytest.raises(ArchiveError, match="code, not data"):
        read_pickled_dict(b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\n(U\x01xtR.", "batch")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x01.garbage"[:3],
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",  # a byte string of a terabyte, which is not there
        b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFF0) + b".",  # a table entry that would need 32 GB of table
        b"\x80\x02K\x01.",  # a number, where a dict belongs
        b"\x80\x02P1\n.",
    ],
)
def test_malformed_pickles_end_in_the_same_error(content):
    with pytest.raises(ArchiveError):
        read_pickled_dict(content, "batch")


def test_pickled_arrays_of_objects_are_refused():
    content = pickle.dumps({b"data": np.array([[], {}], dtype=object)}, 2)
    with pytest.raises(ArchiveError, match="Refused"):
        read_pickled_dict(content, "batch")


def test_pickled_arrays_that_announce_another_size_are_refused():
    good = pickled_py2({b"data": np.zeros((2, 3072), np.uint8)})
    assert read_pickled_dict(good, "batch")[b"data"].shape == (2, 3072)
    with pytest.raises(ArchiveError, match="reshape"):
        read_pickled_dict(good.replace(b"K\x02M\x00\x0c", b"K\x7fM\x00\x0c"), "batch")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bound_is_the_largest_size_that_is_read(tmp_path, zipped):
    content = np.random.default_rng(0).bytes(5000)
    (tmp_path / "a").write_bytes(gzip.compress(content) if zipped else content)
    assert read_gz(tmp_path / "a", max_bytes=5000) == content
    with pytest.raises(ArchiveError, match="more than 4,999 bytes"):
        read_gz(tmp_path / "a", max_bytes=4999)


def test_a_mebibyte_may_be_packed_as_tightly_as_it_likes(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    assert read_gz(tmp_path / "a.gz", max_bytes=1 << 30) == bytes(1 << 20)
    (tmp_path / "b.gz").write_bytes(gzip.compress(bytes((1 << 20) + 1)))
    with pytest.raises(ArchiveError, match="200 times its size"):
        read_gz(tmp_path / "b.gz", max_bytes=1 << 30)


def test_no_more_than_the_bound_is_unpacked_at_once(tmp_path):
    asked = []

    class Endless:
        def read(self, size):
            asked.append(size)
            return bytes(size)

        def tell(self):
            return 1 << 30

    bounded = archives._Bounded(Endless(), Endless(), tmp_path, 1000)
    assert len(bounded.read(400)) == 400
    with pytest.raises(ArchiveError, match="more than 1,000 bytes"):
        bounded.read(1 << 40)
    assert asked == [400, 601]


def test_a_missing_file_is_the_file_system_s_error_and_a_wrong_checksum_ours(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_gz(tmp_path / "none.gz", max_bytes=1000)
    packed = bytearray(gzip.compress(b"some content"))
    packed[-8] ^= 1  # The first byte of the checksum.
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(ArchiveError, match="damaged or cut off: CRC"):
        read_gz(tmp_path / "a.gz", max_bytes=1000)


def test_members_after_one_that_is_not_wanted_are_read_and_checked(tmp_path):
    members = [("d/b.txt", b"B"), ("d", make(tarfile.DIRTYPE)), ("d/a.txt", b"A"), ("d/c.txt", b"C")]
    path = tar_file(tmp_path / "a.tar.gz", members)
    assert dict(read_tar(path, lambda name: name == "d/a.txt", max_bytes=1 << 20)) == {"d/a.txt": b"A"}
    path = tar_file(tmp_path / "b.tar.gz", [*members, ("../evil", b"")])
    with pytest.raises(ArchiveError, match="evil"):
        list(read_tar(path, lambda name: name == "d/a.txt", max_bytes=1 << 20))


def test_keys_that_python_3_pickled_as_text_are_those_of_python_2():
    content = pickle.dumps({"labels": [1, 2], b"data": [3]})
    assert read_pickled_dict(content, "batch") == {b"labels": [1, 2], b"data": [3]}

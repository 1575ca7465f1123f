"""Archives and pickles of data sets that would take forever, end the process or raise something undocumented."""

import sys
import tarfile

import numpy as np
import pytest

from tests.data.prepare.publishers_files import pickled_py2
from vision_jax.data.prepare import formats
from vision_jax.data.prepare.archives import ArchiveError, read_pickled_dict, read_tar

DEEP = b")" + b"\x85" * 100_000
DOUBLING = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
PICKLES = {
    "integers of one hash": b"}("
    + b"".join(b"\x8a\x09" + ((i + 1) * sys.hash_info.modulus).to_bytes(9, "little") + b"N" for i in range(9))
    + b"u.",
    "a deep tuple as key": b"}" + DEEP + b"Ns.",
    "a tuple of exponential hash as key": b"}" + DOUBLING + b"Ns.",
    "a deep tuple in a set": b"\x8f(" + DEEP + b"\x90.",
    "a surrogate as key": b"}X\x03\x00\x00\x00\xed\xa0\x80Ns.",
    "an array as key": b"}" + ARRAY + b"Ns.",
    "the state of a list": b"}U\x01a]Nbs.",
    "an array whose state is a number": b"}U\x01a" + ARRAY + b"K\x01bs.",
    "an array of deep shape": b"}U\x01a" + ARRAY + b"(K\x01" + DEEP + b"\x85" + DTYPE + b"\x89U\x01xtbs.",
    "an array of negative shape": b"}U\x01a"
    + ARRAY
    + b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"
    + DTYPE
    + b"\x89U\x01xtbs.",
    "a type of a deep tuple": b"}U\x01acnumpy\ndtype\n" + DEEP + b"\x85Rs.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name):
    with pytest.raises(ArchiveError, match=r"^batch is not one of CIFAR's pickled batches"):
        read_pickled_dict(b"\x80\x02" + PICKLES[name], "batch")


@pytest.mark.parametrize("names", [b"N", b"K\x01", b"]N", b"U\x01a", b"](K\x01}e"])
def test_class_names_of_another_type(names):
    layout = formats.CIFAR_LAYOUTS["cifar-10-python.tar.gz"]
    content = b"\x80\x02}U\x0blabel_names" + names + (b"a" if names == b"]N" else b"") + b"s."
    with pytest.raises(ArchiveError, match=r"batches.meta names the classes"):
        formats.read_cifar(layout, {layout.names: content}, ["a"])


@pytest.mark.parametrize(
    "labels", [b"N", b"K\x03", b"}", b"](NNe", b"](U\x011U\x012e", b"](\x8a\x06\0\0\0\0\0\x01K\x01e"]
)
def test_labels_of_another_type(labels):
    content = pickled_py2({b"data": np.zeros((2, 3072), np.uint8)})[:-1] + b"U\x06labels" + labels + b"s."
    layout = formats.CIFAR_LAYOUTS["cifar-10-python.tar.gz"]
    meta = pickled_py2({b"label_names": [b"a"]})
    with pytest.raises(ArchiveError, match="cifar-10-batches-py/data_batch_1 has"):
        formats.read_cifar(layout, {layout.names: meta, "data_batch_1": content}, ["a"])


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_thousands_of_extended_headers(tmp_path, kind):
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, 0
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(ArchiveError, match=f"^{path} is damaged"):
        list(read_tar(path, lambda name: True, max_bytes=1 << 30))


def test_an_empty_idx_of_huge_dimensions(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x08\x04" + bytes(4) + b"\xff" * 12)
    with pytest.raises(ArchiveError, match=r"announces .* 0 bytes, and holds 0"):
        formats.read_idx(tmp_path / "a", max_bytes=1000)

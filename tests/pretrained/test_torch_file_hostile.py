"""Hostile and damaged files: no code runs, nothing crashes, memory stays bounded, every error names its file."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vision_jax.pretrained import torch_file, torch_writer
from vision_jax.pretrained.torch_file import TorchFileError

FUZZER = Path(__file__).with_name("fuzz_torch_file.py")
OS_SYSTEM = f"c{os.system.__module__}\nsystem\n".encode()
TOUCH = b"X\x13\x00\x00\x00touch /tmp/sentinel"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
FOUR_FLOATS = struct.pack("<q4f", 4, 0, 1, 2, 3)
HOOKS = b"\x89ccollections\nOrderedDict\n)R"


def zip_file(program: bytes, storages: dict[str, bytes] | None = None, **members: bytes) -> bytes:
    """A PyTorch zip file around any pickle; storage '0' has four floats unless told otherwise."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in (storages or {"0": np.arange(4, dtype=np.float32).tobytes()}).items():
            archive.writestr(f"archive/data/{name}", content)
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def legacy_file(program: bytes, keys=("0",), storages=FOUR_FLOATS, little=True) -> bytes:
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": little}]
    stream = b"".join(pickle.dumps(value, 2) for value in header) + program
    return stream + pickle.dumps(list(keys), 2) + storages


def tensor(offset=b"K\x00", size=b"K\x04\x85", stride=b"K\x01\x85", storage=STORAGE) -> bytes:
    return b"\x80\x02" + REBUILD + b"(" + storage + offset + size + stride + HOOKS + b"tR."


def refused(tmp_path, data: bytes, match: str) -> None:
    path = tmp_path / "hostile.pth"
    path.write_bytes(data)
    with pytest.raises(TorchFileError, match=match) as caught:
        torch_file.read(path)
    assert str(caught.value).startswith(str(path))


def test_the_parts_of_these_tests_make_a_good_file(tmp_path):
    for data in (zip_file(tensor()), legacy_file(tensor())):
        (tmp_path / "good.pth").write_bytes(data)
        np.testing.assert_array_equal(torch_file.read(tmp_path / "good.pth"), [0, 1, 2, 3])


CODE = {
    "reduce of os.system": OS_SYSTEM + TOUCH + b"\x85R",
    "stack global": b"\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R",
    "eval": b"c__builtin__\neval\n" + TOUCH + b"\x85R",
    "getattr": b"cbuiltins\ngetattr\n" + TOUCH + b"\x85R",
    "inst": b"(" + TOUCH + b"i" + OS_SYSTEM[1:],
    "obj": b"(" + OS_SYSTEM + TOUCH + b"o",
    "newobj": OS_SYSTEM + TOUCH + b"\x85\x81",
    "newobj_ex": OS_SYSTEM + TOUCH + b"\x85}\x92",
    "ext1": b"\x82\x01",
    "ext2": b"\x83\x01\x00",
    "ext4": b"\x84\x01\x00\x00\x00",
    "text persistent id": b"Pos.system\n",
    "persistent id of text": TOUCH + b"Q",
    "persistent id of a module": b"(X\x06\x00\x00\x00module" + OS_SYSTEM + b"NNtQ",
    "persistent id with a list": b"]Q",
    "persistent id with a storage of no type": STORAGE.replace(b"ctorch\nFloatStorage\n", b"N"),
    "persistent id with an odd key": STORAGE.replace(b"X\x01\x00\x00\x000", b"]"),
    "persistent id with an array inside": b"(" + tensor()[2:-1] + b"NNNNtQ",
    "path as storage key": STORAGE.replace(b"X\x01\x00\x00\x000", b"X\x04\x00\x00\x00../x"),
    "build on a list": b"]}b",
    "build on a builder": b"ccollections\nOrderedDict\n}b",
    "build with setattr of a dict": b"}}b",
    "call of a list": b"]X\x01\x00\x00\x00a\x85R",
    "call with a list": b"ccollections\nOrderedDict\n]R",
    "call of a storage type": b"ctorch\nFloatStorage\n)R",
    "call of a dtype": b"ctorch\nfloat32\n)R",
    "dotted global": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n",
    "global of torch": b"ctorch.hub\nload\n",
    "codecs": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R",
    "numpy": b"cnumpy._core.multiarray\n_reconstruct\n",
    "buffers": b"\x97",
    "readonly": b"\x98",
    "text int": b"I01\n",
    "old protocol": b"\x80\x01",
    "future protocol": b"\x80\x09",
}


@pytest.mark.parametrize("name", CODE)
def test_pickles_that_want_more_than_tensors(tmp_path, name, monkeypatch):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("code ran"))
    for wrap in (zip_file, legacy_file):
        refused(tmp_path, wrap(b"\x80\x02" + CODE[name] + b"."), "pickle|bytes are spelled")


BAD_SHAPES = {
    "past the end": (dict(size=b"K\x05\x85"), "element 5 of a storage with 4"),
    "offset past the end": (dict(offset=b"K\x04"), "element 8 of a storage with 4"),
    "stride past the end": (dict(stride=b"K\x02\x85"), "element 7 of"),
    "negative offset": (dict(offset=b"J\xff\xff\xff\xff"), "reasonable"),
    "negative size": (dict(size=b"J\xff\xff\xff\xff\x85"), "reasonable"),
    "negative stride": (dict(stride=b"J\xff\xff\xff\xff\x85"), "reasonable"),
    "float size": (dict(size=b"G" + b"\x40" + bytes(7) + b"\x85"), "reasonable"),
    "boolean size": (dict(size=b"\x88\x85"), "reasonable"),
    "list size": (dict(size=b"]"), "reasonable"),
    "huge size": (dict(size=b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85", stride=b"K\x00\x85"), "reasonable"),
    "large size of stride 0": (dict(size=b"J\x00\x00\x00\x40\x85", stride=b"K\x00\x85"), "far larger"),
    "product of sizes": (
        dict(size=b"(" + b"M\xff\xff" * 32 + b"t", stride=b"(" + b"K\x00" * 32 + b"t"),
        "far larger",
    ),
    "empty but enormous": (
        dict(size=b"K\x00" + b"J\xff\xff\xff\x7f" * 2 + b"\x87", stride=b"K\x00" * 3 + b"\x87"),
        "empty",
    ),
    "rank and strides differ": (dict(size=b"K\x02K\x02\x86"), "2 sizes and 1 strides"),
    "rank too high": (dict(size=b"(" + b"K\x01" * 99 + b"t", stride=b"(" + b"K\x01" * 99 + b"t"), "99 sizes"),
    "storage of another size": (dict(storage=STORAGE.replace(b"K\x04tQ", b"M\x00\x10tQ")), "4,?096|16,384"),
    "storage of negative size": (dict(storage=STORAGE.replace(b"K\x04tQ", b"J\xff\xff\xff\xfftQ")), "no sense"),
    "storage of huge size": (
        dict(storage=STORAGE.replace(b"K\x04tQ", b"\x8a\x08" + b"\xff" * 7 + b"\x7ftQ")),
        "storage",
    ),
    "storage is not one": (dict(storage=b"N"), "not known"),
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_tensors_that_reach_outside_their_storage(tmp_path, name):
    parts, match = BAD_SHAPES[name]
    for wrap in (zip_file, legacy_file):
        refused(tmp_path, wrap(tensor(**parts)), match)


# Programs whose cost is out of proportion to their length.
LAUGHS = b"]q\x00" + b"".join(b"0(" + b"h%c" % i * 10 + b"tq%c" % (i + 1) for i in range(60)) + b"."
EXPLOSIVE = {
    "a list in itself": (b"]q\x00h\x00a.", "hold themselves"),
    "ten to the sixty": (LAUGHS, "hold themselves"),
    "deep nesting": (b"]" * 100_000 + b"a" * 99_999 + b".", "nested too deep"),
    "deep tuples": (b")" + b"\x85" * 100_000 + b".", "nested too deep"),
    "deep marks": (b"(" * 100_000 + b".", "stack"),
    "key with an exponential hash": (
        b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"}q\xf0h\x3bK\x01s.",
        "key",
    ),
    "huge memo index": (b"]r\xff\xff\xff\xff0j\xff\xff\xff\xff.", None),
    "missing memo entry": (b"h\x07.", "memo entry 7"),
    "huge integer": (b"\x8b\xff\xff\xff\x7f.", "integer of 2147483647 bytes"),
    "integer of negative length": (b"\x8b\xff\xff\xff\xff.", "integer of -1 bytes"),
    "text longer than the file": (b"X\xff\xff\xff\xffa.", "cut off"),
    "text of 2**64 bytes": (b"\x8d" + b"\xff" * 8 + b"a.", "cut off"),
    "text of negative length": (b"T\xff\xff\xff\xffa.", "negative"),
    "text that is not UTF-8": (b"U\x02\xff\xff.", "UTF-8"),
    "bytearray of 2**63": (b"\x96" + b"\xff" * 7 + b"\x7fa.", "cut off"),
    "endless instructions": (b"N0" * 600_000 + b".", "more than 1,000,000"),
    "endless name": (b"c" + b"a" * 10_000, "255"),
    "copies of a long text": (
        b"X\x40\x42\x0f\x00"
        + b"a" * 1_000_000
        + b"q\x00c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x02]"
        + b"h\x01h\x00h\x02\x86Ra" * 10_000
        + b".",
        "far larger",
    ),
    "copies of a long list": (
        b"](" + b"K\x01" * 100_000 + b"eq\x00cbuiltins\nset\nq\x01]" + b"h\x01h\x00\x85Ra" * 10_000 + b".",
        "far larger",
    ),
    "copies of a tensor": (
        b"ctorch._utils\n_rebuild_tensor_v2\nq\x00("
        + STORAGE
        + b"K\x00J\x00\x00\x10\x00\x85K\x00\x85tq\x0100]"
        + b"h\x00h\x01Ra" * 10_000
        + b".",
        "far larger",
    ),
    "no value": (b".", "stack"),
    "two values": (b"NN.", "stack"),
    "no stop": (b"N", "cut off|wrong number"),
    "too many pops": (b"0N.", "stack"),
    "pop below a mark": (b"N(0.", "stack"),
    "no mark": (b"t.", "never opened"),
    "key without a value": (b"(Nd.", "without a value"),
    "items of a list": (b"]NNs.", "not a dictionary"),
    "append to a tuple": (b")Na.", "not a list"),
    "add to a dictionary": (b"}(N\x90.", "not a set"),
    "a storage as the value": (STORAGE + b".", "neither a tensor"),
    "a function as the value": (REBUILD + b".", "neither a tensor"),
}


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_pickles_that_blow_up_or_do_not_add_up(tmp_path, name):
    program, match = EXPLOSIVE[name]
    program = program if program.startswith(b"\x80") else b"\x80\x02" + program
    keys = {"keys": [], "storages": b""} if STORAGE not in program else {}
    if match is None:
        (tmp_path / "odd.pth").write_bytes(legacy_file(program, **keys))
        assert torch_file.read(tmp_path / "odd.pth") == []
    else:
        refused(tmp_path, zip_file(program), match)
        refused(tmp_path, legacy_file(program, **keys), match)


def test_legacy_files_whose_storages_do_not_match(tmp_path):
    for options, match in (
        (dict(little=False), "big-endian"),
        (dict(keys=[]), "list of storages"),
        (dict(keys=["0", "0"]), "list of storages"),
        (dict(keys=["1"]), "list of storages"),
        (dict(keys=[0]), "list of storages"),
        (dict(storages=b""), "storage is missing"),
        (dict(storages=FOUR_FLOATS[:-1]), "needs 16 bytes"),
        (dict(storages=struct.pack("<q", 2**60) + FOUR_FLOATS), "has 1152921504606846976 elements"),
        (dict(storages=struct.pack("<q", -1) + FOUR_FLOATS), "has -1 elements"),
    ):
        refused(tmp_path, legacy_file(tensor(), **options), match)
    refused(tmp_path, pickle.dumps({"a": 1}), "wrong magic number|cut off")


def rewritten(data: bytes, change) -> bytes:
    """The archive with every member's ``ZipInfo`` changed after the fact, in the central directory only."""
    archive = zipfile.ZipFile(io.BytesIO(data), "a")
    for info in archive.infolist():
        change(info)
    archive._didModify = True
    stream = archive.fp
    archive.close()
    return stream.getvalue()


def test_zip_archives_that_lie(tmp_path):
    good = zip_file(tensor())
    refused(tmp_path, zip_file(tensor(), byteorder=b"big"), "big-endian")
    refused(tmp_path, zip_file(tensor(), **{"constants.pkl": b""}), "TorchScript")
    refused(tmp_path, zip_file(tensor(), {"1": b""}), "no member 'archive/data/0'")
    refused(tmp_path, zip_file(tensor(), {"0": b"123"}), "3 bytes is used as if it had 16")
    refused(tmp_path, good.replace(b"data.pkl", b"data.txt"), "neither a PyTorch file")
    refused(tmp_path, good[:-30], "damaged or cut off")
    damaged = bytearray(good)
    damaged[good.index(np.arange(4, dtype=np.float32).tobytes()) + 5] ^= 1
    refused(tmp_path, bytes(damaged), "CRC")

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor())
        archive.writestr("archive/data/0", bytes(1_000_000))
    refused(tmp_path, stream.getvalue(), "larger than the file")

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", tensor(), zipfile.ZIP_DEFLATED)
        archive.writestr("archive/data/0", bytes(16))
    refused(tmp_path, stream.getvalue(), "compressed")

    with pytest.warns(UserWarning, match="Duplicate"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", tensor())
            archive.writestr("archive/data.pkl", tensor())
    refused(tmp_path, stream.getvalue(), "two members of the same name")

    def claim(size):
        def change(info):
            info.file_size = info.compress_size = size

        return change

    refused(tmp_path, rewritten(good, claim(2**31)), "damaged|larger")
    refused(tmp_path, rewritten(good, claim(100)), "damaged|larger|not as long|cut off")


def test_npz_bombs(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(80_000_000))
    refused(tmp_path, stream.getvalue(), "far larger than the file")
    header = b"\x93NUMPY\x01\x00"
    for text, match in (
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", "does not fit"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }", "makes no sense"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "only little-endian numbers"),
        (b"__import__('os').system('touch /tmp/sentinel')", "damaged header"),
        (b"(" * 5000, "damaged header"),
    ):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.npy", header + struct.pack("<H", len(text)) + text + bytes(16))
        refused(tmp_path, stream.getvalue(), match)
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("../evil", b"")
    refused(tmp_path, (tmp_path / "x").read_bytes(), "damaged header|no array")


def test_safetensors_that_lie(tmp_path):
    entry = '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    for text, body, match in (
        ("{" + entry + "}", 4, "damaged"),
        ("{" + entry + "}", 9, "damaged"),
        ("{" + entry + "," + entry.replace('"w"', '"v"') + "}", 8, "damaged"),
        ("{" + entry.replace("[2]", "[3]") + "}", 8, "damaged"),
        ("{" + entry.replace("[2]", "[-2]") + "}", 8, "damaged"),
        ("{" + entry.replace("[2]", "[2e0]") + "}", 8, "damaged"),
        ("{" + entry.replace("[2]", "[9" + "9" * 5000 + "]") + "}", 8, "damaged"),
        ("{" + entry.replace("[0,8]", "[8,0]") + "}", 8, "damaged"),
        ("{" + entry.replace("F32", "F31") + "}", 8, "damaged"),
        ("{" + entry.replace('"dtype"', '"type"') + "}", 8, "damaged"),
        ("{" * 100_000, 8, "damaged"),
        ('{"a":' * 100_000, 8, "damaged"),
    ):
        raw = text.encode()
        refused(tmp_path, struct.pack("<Q", len(raw)) + raw + bytes(body), match)
    refused(tmp_path, struct.pack("<Q", 2**62) + b"{}", "damaged")
    refused(tmp_path, struct.pack("<Q", 2**40) + b"{}" + bytes(100), "damaged")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "found 0 bytes"),
        (b"<!DOCTYPE html><html>not found", "starting with b'<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1", "starting with"),
        (bytes(257) + b"ustar" + bytes(250), "tar format of PyTorch 0.1"),
        (b"PK\x05\x06" + bytes(18), "neither a PyTorch file"),
    ],
)
def test_other_files(tmp_path, data, match):
    refused(tmp_path, data, match)


def test_thousands_of_mutated_files(tmp_path):
    """Byte flips, cuts and splices of good files, read in a process that ends at the first sign of code or bloat."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    arrays = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.arange(3),
        "c": np.ones((), bool),
    }
    torch_writer.write_pth(seeds / "own.pth", arrays)
    torch_writer.write_safetensors(seeds / "own.safetensors", arrays)
    np.savez(seeds / "own.npz", **arrays)
    np.savez_compressed(seeds / "deflated.npz", **arrays)
    (seeds / "zip.pth").write_bytes(zip_file(tensor()))
    (seeds / "legacy.pth").write_bytes(legacy_file(tensor()))
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in CODE:
        for target in (seeds, hostile):
            (target / f"{name}.pth").write_bytes(legacy_file(b"\x80\x02" + CODE[name] + b"."))
    for name, (program, match) in EXPLOSIVE.items():
        if match is not None:
            (hostile / f"{name}.pth").write_bytes(zip_file(b"\x80\x02" + program))
    for name, (parts, _) in BAD_SHAPES.items():
        (hostile / f"{name}.pth").write_bytes(legacy_file(tensor(**parts)))
    try:
        import torch
    except ImportError:
        pass
    else:
        module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        for zipped in (True, False):
            value = {"state_dict": module.state_dict(), "epoch": 3, "names": ["a", ("b", 1.5)]}
            torch.save(value, seeds / f"torch{zipped}.pth", _use_new_zipfile_serialization=zipped)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FUZZER), str(seeds), str(hostile), "8000"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(FUZZER.parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    refusals = int(done.stdout.split()[0])
    assert 4_000 < refusals <= 8_000, done.stdout

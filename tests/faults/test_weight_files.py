"""Weight files that cost far more than their length, or say what makes no sense, end in a TorchFileError."""

import dataclasses
import io
import json
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from vision_jax import config_files
from vision_jax.pretrained import records, torch_file, torch_writer, weights
from vision_jax.pretrained.weights import Record
from vision_jax.utils.options import ConfigError, Option


def refused(path, match):
    with pytest.raises(torch_file.TorchFileError, match=match) as caught:
        torch_file.read(path)
    assert str(caught.value).startswith(f"{path}: ")


def legacy(program):
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(value, 2) for value in header) + program + pickle.dumps([], 2)


def zipped(program):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    return stream.getvalue()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("wrap", [legacy, zipped])
@pytest.mark.parametrize("opening", [b"\x80\x02}(", b"\x80\x04\x8f("])
def test_integers_of_one_hash_are_no_keys(tmp_path, wrap, opening, sign):
    numbers = [sign * (i + 1) * sys.hash_info.modulus for i in range(3)]
    assert len(set(map(hash, numbers))) == 1
    value = b"N" if opening.endswith(b"}(") else b""
    items = b"".join(b"\x8a\x09" + number.to_bytes(9, "little", signed=True) + value for number in numbers)
    path = tmp_path / "hostile.pth"
    path.write_bytes(wrap(opening + items + (b"u." if value else b"\x90.")))
    refused(path, "integer of 61 bits as a key")


def test_large_integers_are_values_and_smaller_ones_keys(tmp_path):
    value = {2**60: 2**200, "a": -(2**61)}
    (tmp_path / "good.pth").write_bytes(legacy(pickle.dumps(value, 2)))
    assert torch_file.read(tmp_path / "good.pth") == value


@pytest.mark.parametrize("shape", [(0, 2**40, 2**40), (2**47, 0, 2**47, 2**47)])
def test_empty_arrays_of_huge_dimensions(tmp_path, shape):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "hostile.npz", "w") as archive:
        archive.writestr("a.npy", member.getvalue())
    refused(tmp_path / "hostile.npz", "an empty array has the shape")
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "hostile.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(tmp_path / "hostile.safetensors", "an empty array has the shape|damaged")


RECORD = dataclasses.asdict(Record("cnn", "a test", options={"channels": [2]}, input_shape=(8, 8, 1)))
PREPROCESSING = {"resize": 8, "crop": 8, "interpolation": "bilinear", "mean": [0.5], "std": [0.5]}
WRONG = {
    "model is a list": {"model": ["cnn"]},
    "no such model": {"model": "cmm"},
    "source is a number": {"source": 1},
    "options are a list": {"options": [1]},
    "nested options": {"options": {"channels": [[[[2]]]]}},
    "option of another type": {"options": {"kernel_size": "3"}},
    "kernel of size 0": {"options": {"kernel_size": 0}},
    "no such option": {"options": {"exec": "1"}},
    "100,000 channels": {"options": {"channels": [1] * 100_000}},
    "100,000 layers": {"options": {"convs_per_block": 100_000}},
    "division by zero": {"model": "resnet50", "options": {"groups": 0}},
    "endless layers": {"model": "densenet121", "options": {"layers": [10**9]}},
    "endless picture": {"input_shape": [2**60, 2**60, 1]},
    "picture of nothing": {"input_shape": [0, 0, 0]},
    "text as a shape": {"input_shape": "888"},
    "text as class names": {"class_names": "abc"},
    "numbers as class names": {"class_names": [1, 2]},
    "accuracy is text": {"top1": "high"},
    "infinite size": {"preprocessing": {**PREPROCESSING, "resize": float("inf")}},
    "huge size": {"preprocessing": {**PREPROCESSING, "resize": 10**9, "crop": 10**9}},
    "no such filter": {"preprocessing": {**PREPROCESSING, "interpolation": "lanczos"}},
    "two channels": {"preprocessing": {**PREPROCESSING, "mean": [0.5, 0.5]}},
    "something new": {"evil": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_records_that_make_no_sense(tmp_path, name):
    path = tmp_path / "own.safetensors"
    values = {**RECORD, **WRONG[name]}
    tensors = {f"params/{i}": np.zeros(1, np.float32) for i in range(60)}
    torch_writer.write_safetensors(path, tensors, {"vision_jax": json.dumps(values)})
    model = values["model"] if values["model"] in ("resnet50", "densenet121") else "cnn"
    with pytest.raises(torch_file.TorchFileError, match="record") as caught:
        weights.load(model, path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_deeply_nested_record(tmp_path):
    path = tmp_path / "own.safetensors"
    torch_writer.write_safetensors(path, {"a": np.zeros(1)}, {"vision_jax": "[" * 100_000})
    with pytest.raises(torch_file.TorchFileError, match="record is damaged"):
        weights.load("cnn", path)


def test_names_in_a_record_cannot_move_the_cursor(tmp_path):
    path = tmp_path / "own.safetensors"
    values = {**RECORD, "source": "\x1b[2Jme", "class_names": ["a\x07", "é"]}
    torch_writer.write_safetensors(path, {"a": np.zeros(1)}, {"vision_jax": json.dumps(values)})
    record = records.read(path)
    assert (record.source, record.class_names) == (r"\x1b[2Jme", (r"a\x07", "é"))


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "[]", '{"task": []}', '{"seed": {"a": 1}}', '{"train": 1}'])
def test_a_damaged_config_of_a_run(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json(:| is damaged)"):
        config_files.of_run(tmp_path)


def test_a_number_that_is_a_list_is_a_problem_of_its_option():
    assert "expected numbers" in Option((1, 2), "sizes", low=1).problem([[1], 2])

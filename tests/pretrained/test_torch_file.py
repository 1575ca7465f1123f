"""The reader gives what PyTorch saved, in every format, type and layout."""

import pickle
import struct
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_jax.pretrained import torch_file

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # nothing here is large, and threads get in the way of each other

DTYPES = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.bool: np.bool_,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
}
both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
quick = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def saved(path, value, zipped, **options):
    torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def bits(tensor):
    """The bytes of a tensor in row-major order; works for types that NumPy lacks."""
    if not tensor.numel():
        return b""
    dense = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return dense.reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(array, tensor):
    assert array.dtype == DTYPES[tensor.dtype]
    assert array.shape == tuple(tensor.shape)
    assert np.ascontiguousarray(array).tobytes() == bits(tensor)


@st.composite
def tensors(draw):
    """A tensor of any type, and then any sequence of the views that models and slices make."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(list(DTYPES)))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == torch.bool:
        raw = bytes(byte & 1 for byte in raw)
    tensor = torch.frombuffer(bytearray(raw), dtype=dtype) if size else torch.empty(0, dtype=dtype)
    tensor = tensor.clone().reshape(shape)
    for view in draw(st.lists(st.sampled_from(["transpose", "slice", "step", "expand", "select"]), max_size=3)):
        if view == "transpose" and tensor.ndim >= 2:
            tensor = tensor.transpose(0, -1)
        elif view == "slice" and tensor.ndim:
            tensor = tensor[draw(st.integers(0, 2)) :]
        elif view == "step" and tensor.ndim:
            tensor = tensor[..., :: draw(st.integers(1, 3))]
        elif view == "expand":
            tensor = tensor.unsqueeze(0).expand(draw(st.integers(0, 3)), *tensor.shape)
        elif view == "select" and tensor.ndim and len(tensor):
            tensor = tensor[-1]
    return tensor


@both_formats
@quick
@given(tensor=tensors())
def test_any_tensor_comes_back(tmp_path, zipped, tensor):
    assert_same(torch_file.read(saved(tmp_path / "t", tensor, zipped)), tensor)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=5).filter(lambda text: text.isprintable())
    | st.binary(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab_.", max_size=5) | st.integers(-5, 5), children, max_size=3)
        | st.sets(st.integers().filter(lambda n: abs(n) < 2**40), max_size=3)
    ),
    max_leaves=10,
)


@both_formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@settings(quick, max_examples=40)
@given(value=PLAIN)
def test_any_plain_value_comes_back(tmp_path, zipped, protocol, value):
    read = torch_file.read(saved(tmp_path / "v", value, zipped, pickle_protocol=protocol))
    assert read == value
    assert type(read) is type(value)


@both_formats
def test_containers_sizes_and_parameters(tmp_path, zipped):
    value = {
        "ordered": OrderedDict(b=torch.ones(2), a=None),
        "size": torch.Size([2, 3]),
        "parameter": torch.nn.Parameter(torch.zeros(3)),
        "dtype": torch.float16,
    }
    read = torch_file.read(saved(tmp_path / "c", value, zipped))
    assert list(read["ordered"]) == ["b", "a"]
    assert isinstance(read["ordered"], OrderedDict)
    assert read["size"] == (2, 3)
    assert_same(read["parameter"], torch.zeros(3))
    assert read["dtype"] == np.float16


@both_formats
def test_tied_and_sliced_tensors_share_memory_and_cannot_be_written(tmp_path, zipped):
    base = torch.arange(12.0).reshape(3, 4)
    read = torch_file.read(saved(tmp_path / "t", [base, base, base[1:], base.T], zipped))
    for array, tensor in zip(read, [base, base, base[1:], base.T], strict=True):
        assert_same(array, tensor)
        assert np.shares_memory(array, read[0])
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@both_formats
def test_state_dict_of_a_module(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    expected = module.state_dict()
    for wrapped in (
        expected,
        {"state_dict": expected, "epoch": 3, "best": torch.tensor(91.7)},
        {"model": {"state_dict": expected}},
        {"module." + name: tensor for name, tensor in expected.items()},
        {"_orig_mod.module." + name: tensor for name, tensor in expected.items()},
    ):
        read = torch_file.state_dict(saved(tmp_path / "m", wrapped, zipped))
        assert list(read) == list(expected)
        for name, tensor in expected.items():
            assert_same(read[name], tensor)


def test_a_module_prefix_that_only_some_names_carry_is_part_of_the_name(tmp_path):
    path = saved(tmp_path / "m", {"module.a": torch.ones(1), "b": torch.ones(1)}, True)
    assert list(torch_file.state_dict(path)) == ["module.a", "b"]


@both_formats
def test_a_file_without_state_dict_is_refused(tmp_path, zipped):
    with pytest.raises(torch_file.TorchFileError, match="not a state dict"):
        torch_file.state_dict(saved(tmp_path / "m", {"epoch": 3}, zipped))
    with pytest.raises(torch_file.TorchFileError, match=r"not so: \['optimizer'\]"):
        torch_file.state_dict(saved(tmp_path / "m", {"w": torch.ones(1), "optimizer": [1]}, zipped))


@both_formats
def test_whole_modules_are_refused_with_advice(tmp_path, zipped):
    path = saved(tmp_path / "m", torch.nn.Linear(1, 1), zipped)
    with pytest.raises(torch_file.TorchFileError, match=r"torch.nn.modules.linear.Linear.*save a state dict"):
        torch_file.read(path)


def test_views_of_storages_in_old_legacy_files(tmp_path):
    # PyTorch 0.2 wrote a slice of a storage as a view with its own offset; today's writer never does.
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, str) and value.startswith("VIEW"):
                return ("storage", torch.FloatStorage, "7", "cpu", 6, ("8", 2, 4))
            return None

        def reducer_override(self, value):
            if isinstance(value, View):
                return torch._utils._rebuild_tensor, ("VIEW", 1, (3,), (1,))
            return NotImplemented

    class View:
        pass

    path = tmp_path / "old.pth"
    with path.open("wb") as file:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, file, 2)
        Pickler(file, 2).dump({"w": View()})
        pickle.dump(["7"], file, 2)
        file.write(struct.pack("<q6f", 6, *range(6)))
    np.testing.assert_array_equal(torch_file.read(path)["w"], [3.0, 4.0, 5.0])


def test_parameters_of_2017_with_their_state(tmp_path):
    class Parameter2017(pickle.Pickler):
        def reducer_override(self, value):
            if isinstance(value, torch.nn.Parameter):
                return torch.nn.Parameter, (value.data,), (True, False, OrderedDict())
            return NotImplemented

    class Module:
        Pickler = Parameter2017
        dump, load, Unpickler = pickle.dump, pickle.load, pickle.Unpickler

    path = saved(tmp_path / "p", {"w": torch.nn.Parameter(torch.ones(2))}, False, pickle_module=Module)
    assert_same(torch_file.read(path)["w"], torch.ones(2))


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path, compressed):
    arrays = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.array(True),
        "empty": np.zeros((0, 2), np.float16),
    }
    path = tmp_path / "w.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    read = torch_file.state_dict(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_npz_with_objects_or_text_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    for array in (np.array([{}], object), np.array(["a"]), np.zeros(2, ">f4"), np.zeros(2, "f4,i4")):
        np.savez(path, a=array)
        with pytest.raises(torch_file.TorchFileError, match="only little-endian numbers"):
            torch_file.read(path)


@quick
@given(values=st.dictionaries(st.text("abc._", min_size=1, max_size=6), tensors(), max_size=4))
def test_safetensors(tmp_path, values):
    writer = pytest.importorskip("safetensors.torch")
    values = {name: tensor.contiguous().clone() for name, tensor in values.items() if tensor.dtype != torch.complex128}
    path = tmp_path / "w.safetensors"
    writer.save_file(values, path, metadata={"format": "pt"})
    read = torch_file.read(path)
    assert set(read) == set(values)
    for name, tensor in values.items():
        assert_same(read[name], tensor)


def test_real_legacy_files(test_data):
    for name, parameters in (("resnet20-12fca82f.th", 269_722), ("resnet56-4bfd9763.th", 853_018)):
        weights = torch_file.state_dict(test_data / "weights" / name)
        count = sum(v.size for k, v in weights.items() if k.endswith(("weight", "bias")))
        assert count == parameters
        expected = torch.load(test_data / "weights" / name, map_location="cpu")["state_dict"]
        for key, array in weights.items():
            assert_same(array, expected["module." + key])

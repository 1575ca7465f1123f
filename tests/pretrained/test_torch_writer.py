"""What is written here is what PyTorch and the safetensors library read."""

import ml_dtypes
import numpy as np
import pytest

from vision_jax.pretrained import torch_file, torch_writer

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bn.num_batches_tracked": np.array(3),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "empty": np.zeros((0, 3), np.float16),
    "flags": np.array([True, False]),
    "half": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16),
    "big": np.array([1, 2], ">i4"),
}
WRITERS = {"pth": torch_writer.write_pth, "safetensors": torch_writer.write_safetensors}


@pytest.mark.parametrize("ending", WRITERS)
def test_read_back_here(tmp_path, ending):
    path = tmp_path / f"new/w.{ending}"
    WRITERS[ending](path, ARRAYS)
    read = torch_file.state_dict(path)
    assert set(read) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype.newbyteorder("<")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", WRITERS)
def test_read_back_by_the_original(tmp_path, ending):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / f"w.{ending}"
    WRITERS[ending](path, ARRAYS)
    if ending == "pth":
        read = [torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)]
    else:
        read = [safetensors.load_file(path)]
    for tensors in read:
        assert set(tensors) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(tensors[name].double().numpy(), array.astype(np.float64))


@pytest.mark.parametrize("ending", WRITERS)
def test_same_arrays_same_bytes(tmp_path, ending):
    WRITERS[ending](tmp_path / "a", ARRAYS)
    WRITERS[ending](tmp_path / "b", ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("ending", WRITERS)
def test_a_failed_write_leaves_the_old_file(tmp_path, ending):
    path = tmp_path / "w"
    WRITERS[ending](path, ARRAYS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"names: .*<U1"):
        WRITERS[ending](path, {"names": np.array(["a"])})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w"]

"""Porting both ways, without PyTorch: what fits, what is refused, and how it is said."""

import jax
import ml_dtypes
import numpy as np
import pytest

from vision_jax import models
from vision_jax.models import layers
from vision_jax.pretrained import port


def random_state(name, **options):
    """A state dict of network `name` under PyTorch's names."""
    model = models.build(name, **options)
    rng = np.random.default_rng(0)
    leaves = port.mapping(model, models.shapes(model, models.entry(name).input_shape))
    return {leaf.name: rng.normal(size=leaf.torch_shape).astype(np.float32) for leaf in leaves}


SMALL = ("resnet20", "small_filters_cnn", "dcgan_generator", "srcnn")


@pytest.mark.parametrize("name", SMALL)
def test_there_and_back_is_the_same(name):
    state = random_state(name)
    back = port.to_state_dict(name, port.load_state_dict(name, state))
    counters = {key for key in back if key.endswith("num_batches_tracked")}
    assert set(back) - counters == set(state)
    assert all(back[key].dtype == np.int64 and back[key].shape == () for key in counters)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)
    # What was written, counters and all, is read again.
    again = port.load_state_dict(name, back)
    assert jax.tree.structure(again) == jax.tree.structure(port.load_state_dict(name, state))


def test_all_problems_are_in_one_error():
    state = random_state("resnet20")
    del state["layer1.0.conv1.weight"]
    state["conv1.weight"] = state["conv1.weight"].reshape(3, 16, 3, 3)
    state["bn1.weight"] = np.zeros(16, np.int32)
    state["layer9.weight"] = np.zeros(3, np.float32)
    state["nothing.num_batches_tracked"] = np.zeros((), np.int64)
    with pytest.raises(port.PortError) as caught:
        port.load_state_dict("resnet20", state)
    text = str(caught.value)
    assert "do not fit resnet20: 5 problems" in text
    for line in (
        "missing: layer1.0.conv1.weight [16, 16, 3, 3]",
        "other shape or type: conv1.weight is [3, 16, 3, 3], expected [16, 3, 3, 3]",
        "type: bn1.weight is int32, expected floating point",
        "left over: layer9.weight [3]",
        "left over: nothing.num_batches_tracked []",
    ):
        assert line in text


@pytest.mark.parametrize("name", ["resnet20", "cifar10_cnn", "dcgan_generator"])
def test_weights_tell_their_network_by_shapes_whatever_their_head(name):
    options = {} if name == "dcgan_generator" else {"num_classes": 7}
    assert port.looks_like(random_state(name, **options)) == name
    assert port.looks_like({"a": np.zeros((3, 3))}) is None


def test_folded_statistics_leave_an_affine_map():
    state = random_state("resnet20")
    folded = {key: value for key, value in state.items() if "running_" not in key}
    variables = port.load_state_dict("resnet20", folded)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 16))
    own = {"params": variables["params"]["bn1"], "batch_stats": variables["batch_stats"]["bn1"]}
    found = layers.BatchNorm().apply(own, x, train=False)
    np.testing.assert_allclose(found, x * state["bn1.weight"] + state["bn1.bias"], rtol=1e-6, atol=1e-6)
    del folded["conv1.weight"]
    with pytest.raises(port.PortError, match="1 problems"):
        port.load_state_dict("resnet20", folded)
    folded = {key: value for key, value in state.items() if key != "bn1.running_mean"}
    with pytest.raises(port.PortError, match="missing: bn1"):
        port.load_state_dict("resnet20", folded)


def test_the_number_of_classes_is_read_off_the_head_unless_given():
    state = random_state("resnet20", num_classes=7)
    assert port.load_state_dict("resnet20", state)["params"]["linear"]["bias"].shape == (7,)
    with pytest.raises(port.PortError, match=r"linear.bias is \[7\], expected \[10\]"):
        port.load_state_dict("resnet20", state, num_classes=10)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_become_float32(dtype):
    state = {key: value.astype(dtype) for key, value in random_state("srcnn").items()}
    variables = port.load_state_dict("srcnn", state)
    kernel = variables["params"]["conv1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[2, 3], state["conv1.weight"].astype(np.float32)[:, :, 2, 3].T)


def test_auxiliary_heads_in_the_file_are_left_out_without_being_asked_for():
    state = random_state("googlenet", aux_logits=True)
    assert any(key.startswith("aux1.") for key in state)
    assert not any(key.startswith("aux") for key in port.load_state_dict("googlenet", state)["params"])
    assert "aux1" in port.load_state_dict("googlenet", state, aux_logits=True)["params"]
    with pytest.raises(port.PortError, match="missing: aux1"):
        port.load_state_dict("googlenet", random_state("googlenet"), aux_logits=True)


def test_densenet_files_of_older_releases_are_understood():
    options = dict(layers=(2, 1), growth_rate=4, init_features=8)
    state = random_state("densenet121", **options)
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value for key, value in state.items()}
    assert set(old) != set(state)
    found, expected = (port.load_state_dict("densenet121", s, **options) for s in (old, state))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_dense_layer_after_flatten_sees_the_same_pixels():
    state = random_state("small_filters_cnn")
    kernel = port.load_state_dict("small_filters_cnn", state)["params"]["head"]["kernel"]
    features = np.random.default_rng(1).normal(size=(4, 4, 32)).astype(np.float32)
    theirs = state["head.weight"] @ features.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(features.reshape(-1) @ kernel, theirs, rtol=1e-4, atol=1e-4)


def test_input_size_matters_where_parameters_depend_on_it():
    model = models.build("small_filters_cnn")
    leaves = port.mapping(model, models.shapes(model, (16, 16, 3)))
    state = {leaf.name: np.zeros(leaf.torch_shape, np.float32) for leaf in leaves}
    with pytest.raises(port.PortError, match=r"head.weight is \[100, 128\], expected \[100, 512\]"):
        port.load_state_dict("small_filters_cnn", state)
    assert port.load_state_dict("small_filters_cnn", state, input_shape=(16, 16, 3))

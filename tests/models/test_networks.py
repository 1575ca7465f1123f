"""Options of the networks, by shapes where shapes say it."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax import models


def _shapes(name, shape, train=False, **options):
    model = models.build(name, **options)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda x: model.init(key, x, train=False), x)

    def apply(variables, x):
        collections = ["batch_stats", "intermediates", "aux_logits"]
        return model.apply(variables, x, train=train, mutable=collections, rngs={"dropout": key})

    output, state = jax.eval_shape(apply, variables, x)
    return variables["params"], output, state


# One of each kind; the others differ in depth and width.
KINDS = (
    "mlp",
    "small_filters_cnn",
    "resnet18",
    "resnet50",
    "vgg11",
    "googlenet",
    "mobilenet_v2",
    "resnet20",
    "dcgan_generator",
    "dcgan_discriminator",
    "mlp_gan_generator",
    "mlp_gan_discriminator",
    "srcnn",
    "fsrcnn",
    "espcn",
    "light_sr",
)


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(name):
    row = models.entry(name)
    params, output, state = _shapes(name, (2, *row.input_shape), train=True, dtype=jnp.bfloat16)
    assert output.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    kept = state["intermediates"]
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(kept))
    if issubclass(row.module, models.Classifier):
        head = models.build(name).head_layers[0]
        assert kept["features"][0].shape == (2, params[head]["kernel"].shape[0])


@pytest.mark.parametrize(
    "option",
    [
        dict(norm="batch"),
        dict(pool="avg"),
        dict(pool="stride"),
        dict(residual=True),
        dict(squeeze_excite=True),
        dict(attention=True),
        dict(global_pool=True),
        dict(hidden=(8, 8), dropout=0.5),
        dict(padding="valid"),
        dict(use_bias=False),
        dict(block_dropout=(0.1, 0.2)),
        dict(activation="gelu", convs_per_block=2),
    ],
)
def test_options_of_the_cnn_change_it_and_it_still_runs(option):
    base = dict(channels=(4, 8), num_classes=3)
    plain, expected, _ = _shapes("cnn", (2, 16, 16, 3), train=True, **base)
    params, output, state = _shapes("cnn", (2, 16, 16, 3), train=True, **base, **option)
    assert output.shape == expected.shape == (2, 3)
    assert ("batch_stats" in state) == ("norm" in option)
    same = jax.tree.structure(params) == jax.tree.structure(plain) and jax.tree.leaves(params) == jax.tree.leaves(plain)
    assert same == (set(option) <= {"pool", "block_dropout"})


def test_the_cnn_names_wrong_values():
    with pytest.raises(ValueError, match="norm is 'bach'; did you mean 'batch'"):
        _shapes("cnn", (1, 8, 8, 3), norm="bach")
    with pytest.raises(ValueError, match="use 'SAME'"):
        _shapes("cnn", (1, 8, 8, 3), residual=True, padding="VALID")


def test_squeeze_excite_residual_and_attention_compute():
    model = models.build("cnn", channels=(4, 8), norm="batch", residual=True, squeeze_excite=True, attention=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    assert np.isfinite(model.apply(variables, x, train=False)).all()


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_of_every_size(size, channels):
    _, images, _ = _shapes("dcgan_generator", (2, 100), image_size=size, channels=channels, width=4)
    assert images.shape == (2, size, size, channels)
    _, logits, _ = _shapes("dcgan_discriminator", images.shape, image_size=size, channels=channels, width=4)
    assert logits.shape == (2,)


def test_dcgan_refuses_other_sizes():
    with pytest.raises(ValueError, match="8, 16, 32 or 64 pixels wide, not 28"):
        _shapes("dcgan_generator", (2, 100), image_size=28)
    with pytest.raises(ValueError, match=r"takes images \(32, 32, 3\), not \(28, 28, 1\)"):
        _shapes("dcgan_discriminator", (2, 28, 28, 1))


@pytest.mark.parametrize("size", [33, 64])
def test_networks_take_other_image_sizes(size):
    for name in ("resnet18", "vgg11", "densenet121", "googlenet", "mobilenet_v2", "resnet20"):
        _, output, _ = _shapes(name, (1, size, size + 3, 3), num_classes=5)
        assert output.shape == (1, 5), name


def test_auxiliary_heads_answer_in_training_only():
    options = dict(num_classes=5, aux_logits=True)
    _, _, state = _shapes("googlenet", (2, 64, 64, 3), train=True, **options)
    assert {name: logits.shape for name, logits in state["aux_logits"].items()} == {"aux1": (2, 5), "aux2": (2, 5)}
    assert set(models.build("googlenet", **options).aux_weights) == set(state["aux_logits"])
    _, _, state = _shapes("googlenet", (2, 64, 64, 3), train=False, **options)
    assert "aux_logits" not in state
    with pytest.raises(ValueError, match="needs a 17×17 map and got 3×3"):
        _shapes("inception_v3", (2, 75, 75, 3), train=True)


def test_vgg_without_top_has_no_dense_layer():
    params, output, state = _shapes("vgg16", (1, 32, 32, 3), include_top=False)
    assert output.shape == (1, 512) and not any(name.startswith("classifier") for name in params)
    assert state["intermediates"]["relu3_3"][0].shape == (1, 8, 8, 256)


def test_srcnn_residual_starts_near_its_input():
    model = models.build("srcnn", features=(4, 2), residual=True)
    x = jax.random.uniform(jax.random.key(0), (1, 12, 10, 3))
    variables = model.init(jax.random.key(1), x, train=False)
    np.testing.assert_allclose(model.apply(variables, x, train=False), x, atol=0.05)


def test_zero_init_residual_blocks_start_as_the_identity():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    model = models.build("resnet18_cifar", blocks=(2,), zero_init_residual=True)
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    _, kept = model.apply(variables, x, train=False, mutable=["intermediates"])
    stem, layer = (kept["intermediates"][stage][0] for stage in ("stem", "layer1"))
    np.testing.assert_array_equal(stem, layer)


def test_a_normalized_perceptron_has_hidden_values_of_mean_zero_and_no_bias_beside_the_norm_s():
    model = models.build("mlp", hidden=(5,), norm="batch", activation="tanh")
    x = jax.random.normal(jax.random.key(0), (64, 3, 3, 1))
    variables = model.init(jax.random.key(1), x, train=False)
    assert set(variables["params"]["hidden1"]) == {"kernel"} and set(variables["params"]["norm1"]) == {"scale", "bias"}
    _, kept = model.apply(variables, x, train=True, mutable=["intermediates", "batch_stats"])
    hidden = np.arctanh(kept["intermediates"]["hidden1"][0])
    np.testing.assert_allclose(hidden.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(hidden.std(0), 1, atol=1e-3)


def test_tiny_resnet_refuses_maps_that_have_no_half_and_unequal_stages():
    model = models.build("tiny_resnet")
    with pytest.raises(ValueError, match="one of 15×16 has no half; with three stages"):
        models.shapes(model, (30, 32, 3))
    assert models.shapes(model, (24, 28, 3))["params"] == models.shapes(model, (32, 32, 3))["params"]
    with pytest.raises(ValueError, match="found 3, 2 and 3 values"):
        models.shapes(models.build("tiny_resnet", blocks=(1, 1)), (32, 32, 3))

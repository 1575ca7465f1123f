"""The table of networks says the truth, and building by name refuses what it should."""

import json
import pathlib

import jax
import pytest
from jax import numpy as jnp

from vision_jax import models
from vision_jax.models import registry

# Published counts: the experiments' own networks, torchvision's `num_params`, akamaster's table.
PUBLISHED = {
    "small_filters_cnn": 57_332,
    "dcgan_generator": 370_624,
    "dcgan_discriminator": 167_808,
    "mlp_gan_generator": 1_486_352,
    "mlp_gan_discriminator": 533_505,
    "r3gan_generator": 20_732_160,
    "r3gan_discriminator": 20_683_776,
    "fcn_baseline": 309_530,
    "fcn_best": 1_707_274,
    "srcnn": 69_251,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "wide_resnet50_2": 68_883_240,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "googlenet": 6_624_904,
    "mobilenet_v2": 3_504_872,
    "inception_v3": 27_161_264,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
}


@pytest.mark.parametrize("name", models.MODELS)
def test_parameters_are_counted_exactly(name):
    row = models.entry(name)
    model = models.build(name)
    variables = models.shapes(model, row.input_shape)
    assert models.parameter_count(variables) == row.parameters == PUBLISHED.get(name, row.parameters)
    # Every parameter belongs to exactly one stage, and the stages end with the head.
    modules = [module for names in model.stages.values() for module in names]
    assert len(modules) == len(set(modules)) and set(variables["params"]) <= set(modules)
    assert list(model.stages)[-1] == "head"


@pytest.mark.parametrize(
    "name",
    ["mlp", "svhn_cnn", "resnet18", "vgg11", "densenet121", "googlenet", "mobilenet_v2", "inception_v3", "resnet20"],
)
def test_classifiers_have_a_head_of_the_asked_width(name):
    model = models.build(name, num_classes=7)
    variables = models.shapes(model, models.entry(name).input_shape)
    for layer in model.head_layers:
        params = variables["params"]
        for part in layer.split("/"):
            params = params[part]
        assert params["bias"].shape == (7,)
        assert layer.split("/")[0] in model.stages["head"]
    features = variables["params"][model.head_layers[0]]["kernel"].shape[0]
    x = jax.ShapeDtypeStruct((1, features), jnp.float32)
    head = jax.eval_shape(lambda k, x: model.head_module().init(k, x, train=False), jax.random.key(0), x)
    assert head["params"] == {
        model.head_layers[0]: params if len(model.head_layers) == 1 else variables["params"][model.head_layers[0]]
    }


def test_weights_of_the_table_are_in_the_manifest():
    manifest = json.loads((pathlib.Path(__file__).parents[2] / "third_party" / "weights.json").read_text())
    for name, row in models.MODELS.items():
        if row.weights:
            assert manifest[row.weights]["model"] == name
            assert manifest[row.weights].get("top1") == row.top1


def test_unknown_names_point_to_the_closest():
    with pytest.raises(ValueError, match="no network is called 'resnet19'; did you mean 'resnet18'"):
        models.build("resnet19")
    with pytest.raises(ValueError, match="cnn has no option 'chanels'; did you mean 'channels'"):
        models.build("cnn", chanels=(8,))
    with pytest.raises(ValueError, match="srcnn has no classes"):
        models.build("srcnn", num_classes=3)


def test_none_keeps_the_networks_own_value_and_lists_become_tuples():
    model = models.build("small_filters_cnn", num_classes=None, activation=None, channels=[4, 4])
    assert (model.num_classes, model.activation, model.channels) == (100, "relu", (4, 4))
    assert registry.values("small_filters_cnn")["channels"] == (8, 16, 32)
    assert models.options("small_filters_cnn")["channels"].default == (8, 16, 32)

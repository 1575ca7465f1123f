"""What there is to choose from, in words."""

import pytest

from vision_jax import config as config_lib
from vision_jax import listing, models
from vision_jax.option_table import OPTIONS


@pytest.mark.parametrize("network", ["cnn", "resnet18", "dcgan_generator", "fcn_best"])
def test_the_options_of_a_network_have_default_type_and_meaning(network):
    text = listing.options(network)
    for name, option in models.options(network).items():
        assert f"--config.model.{network}.{name}={option.default!r}  (" in text
        assert option.meaning in text
    assert "set_by_task" not in text and "dtype" not in text


def test_presets_are_the_defaults():
    assert "--config.model.fcn_best.dropout=0.5  (float)" in listing.options("fcn_best")
    assert "--config.model.mlp.dropout=0.0  (float)" in listing.options("mlp")
    assert "(one of max, avg, stride)" in listing.options("cnn")


def test_all_other_options_are_listed_too():
    text = listing.options("config")
    assert all(f"--config.{name}=" in text for name, _ in config_lib.walk(OPTIONS))


def test_unknown_networks_name_the_closest():
    with pytest.raises(ValueError, match="did you mean 'resnet"):
        listing.options("resnet19")

"""Every network against its reference; `python -m tests.parity` prints the whole table."""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import pytest

from .needs import needs_references

needs_references()

from vision_jax import models

from . import harness

# Deep siblings of networks that are trained here: same blocks, more of them. Their training step is compared by
# `python -m tests.parity`, which takes longer than everything else together.
SIBLINGS = {
    "resnet34", "resnet101", "resnet152", "wide_resnet50_2", "vgg11", "vgg13", "vgg13_bn", "vgg16_bn", "vgg19",
    "vgg19_bn", "densenet161", "densenet169", "densenet201", "resnet32", "resnet44", "resnet56", "mlp", "cnn",
}

def test_every_network_has_a_comparison():
    assert set(harness.CASES) == set(models.MODELS)
    assert set(models.MODELS) > SIBLINGS


@pytest.mark.parametrize("name", models.MODELS)
def test_parity(name):
    assert not harness.compare(name, training=name not in SIBLINGS).problems()

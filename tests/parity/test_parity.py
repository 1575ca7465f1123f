"""Every network against its reference; `python -m tests.parity` prints the whole table."""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import dataclasses

import pytest

from .needs import needs_references

needs_references()

import jax

from vision_jax import models

from . import cases, harness, references


def test_every_network_has_a_comparison():
    assert set(cases.CASES) == set(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_parity(name):
    assert not harness.compare(name, cases.EVERYDAY[name]).problems()
    jax.clear_caches()  # Up to a gigabyte of compiled code each.


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in models.MODELS if cases.EVERYDAY[name] != cases.CASES[name]])
def test_parity_at_another_size_and_in_training(name):
    case = cases.CASES[name]
    assert not harness.compare(name, dataclasses.replace(case, sizes=case.sizes[1:])).problems()
    jax.clear_caches()


def test_parity_of_a_narrow_resnet():
    case = dataclasses.replace(
        cases.CASES["resnet18"],
        reference=lambda: references.resnet18_of_width(16),
        options=dict(num_classes=10, width=16),
    )
    assert not harness.compare("resnet18", case).problems()


def test_parity_of_a_short_densenet():
    case = dataclasses.replace(
        cases.CASES["densenet121"],
        reference=references.short_densenet,
        options=dict(num_classes=10, layers=(2, 2, 2, 2), growth_rate=8, init_features=16),
    )
    assert not harness.compare("densenet121", case).problems()

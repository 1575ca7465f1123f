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
    assert not harness.compare(name, cases.CASES[name]).problems()
    jax.clear_caches()  # Up to a gigabyte of compiled code each.


def test_parity_of_a_narrow_resnet():
    case = dataclasses.replace(
        cases.CASES["resnet18"],
        reference=lambda: references.resnet18_of_width(16),
        options=dict(num_classes=10, width=16),
    )
    assert not harness.compare("resnet18", case).problems()

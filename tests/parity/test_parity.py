"""Every network against its reference; `python -m tests.parity` prints the whole table."""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import pytest

from .needs import needs_references

needs_references()

import jax

from vision_jax import models

from . import harness


def test_every_network_has_a_comparison():
    assert set(harness.CASES) == set(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_parity(name):
    assert not harness.compare(name).problems()
    jax.clear_caches()  # Up to a gigabyte of compiled code each.

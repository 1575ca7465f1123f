"""torch-fidelity, the reference of several measures."""

import importlib
import warnings
from typing import Any

import pytest

from tests.torchvision_import import import_torchvision


def torch_fidelity(module: str) -> Any:
    """Returns a module of torch-fidelity; skips the test where it or PyTorch is not installed."""
    import_torchvision()
    pytest.importorskip("torch_fidelity", reason="compares with torch-fidelity, which is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"torch_fidelity.{module}")


def sets(first: int = 120, second: int = 150, width: int = 16) -> tuple[Any, Any]:
    """Returns two sets of float32 features, all positive as those of networks are, of overlapping distributions."""
    import numpy as np

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(width, width)) / 4.0
    a, b = rng.normal(size=(first, width)) @ mix, 1.1 * rng.normal(size=(second, width)) @ mix + 0.1
    return np.exp(a).astype(np.float32), np.exp(b).astype(np.float32)

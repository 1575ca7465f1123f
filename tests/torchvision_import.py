"""Imports torchvision, also where its compiled operators do not load."""

import importlib
import sys
from typing import Any

import pytest

_kept: list[Any] = []  # Declarations last as long as their object.


def import_torchvision(module: str = "torchvision") -> Any:
    """Returns a module of torchvision; skips the test where PyTorch or torchvision are not installed."""
    pytest.importorskip("torch", reason="compares with torchvision: torch is not installed")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        pytest.skip("compares with torchvision, which is not installed", allow_module_level=True)
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    from torch import library

    declarations = library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        declarations.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(declarations)
    return importlib.import_module(module)

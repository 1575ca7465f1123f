"""Skips a test module where the reference implementations are not installed."""

import importlib.util

import pytest


def needs_references() -> None:
    """Call before importing `references`, which declares what torchvision needs at import."""
    missing = [name for name in ("torch", "torchvision", "pytorch_fid") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the reference implementations need {', '.join(missing)}: not installed", allow_module_level=True)

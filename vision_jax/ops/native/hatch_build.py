"""Building the package: Hatchling, and in a wheel the compiled functions for x86-64.

This file is the build backend, so that jaxlib, which has XLA's headers, is asked for where a wheel is built and not for
an editable installation; and it is the hook that compiles. A wheel without compiled functions is built, and says so,
where there is no compiler that can, or with VISION_JAX_NATIVE=0.
"""

import importlib.util
import pathlib
import tempfile
from types import ModuleType
from typing import Any

from hatchling import build as hatchling_build
from hatchling.build import *  # noqa: F403 - the functions of PEP 517 and 660
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TAG = "py3-none-linux_x86_64"  # the libraries do not know Python


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Replaces Hatchling's."""
    return [*hatchling_build.get_requires_for_build_wheel(config_settings), "jaxlib>=0.10.2"]


class CompiledFunctions(BuildHookInterface):
    """Puts the libraries of all instruction sets in a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles them, until `finalize` in a temporary folder."""
        self._folder = tempfile.TemporaryDirectory()
        if version == "editable":
            return
        build = _load_build()
        try:
            libraries = build.compile_wheel(pathlib.Path(self._folder.name), _headers(build))
        except build.UnavailableError as reason:
            self.app.display_warning(f"This wheel has no compiled functions: {reason}")
            return
        for library in libraries:
            inside = pathlib.PurePosixPath("vision_jax", "ops", "native", build.PREBUILT.name, library.name)
            build_data["force_include"][str(library)] = str(inside)
        build_data["pure_python"] = False
        build_data["tag"] = _TAG

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes that folder."""
        self._folder.cleanup()


def _load_build() -> ModuleType:
    """`build.py`, without the package around it, which wants JAX."""
    name = "vision_jax_native_build"
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name("build.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _headers(build: ModuleType) -> str:
    jaxlib = importlib.util.find_spec("jaxlib")
    if jaxlib is None or jaxlib.origin is None:
        raise build.UnavailableError("jaxlib, which has XLA's headers, is not installed where the wheel is built")
    return str(pathlib.Path(jaxlib.origin).with_name("include"))

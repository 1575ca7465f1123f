"""Settings of all tests: strict JAX, no network, warnings are errors, and where real data is found."""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")  # Before JAX starts.

import hypothesis
import jax
import pytest

from vision_jax import parallel

jax.config.update("jax_numpy_dtype_promotion", "strict")
# The first example of a test compiles; how long that takes is nobody's business here.
# The same examples in every run; HYPOTHESIS_SEARCH=1 looks for new ones.
hypothesis.settings.register_profile(
    "here", deadline=None, print_blob=True, derandomize=os.environ.get("HYPOTHESIS_SEARCH") != "1"
)
hypothesis.settings.load_profile("here")

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Connections to anything but this machine fail at once."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
            raise OSError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes the user's caches."""
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path_factory.getbasetemp() / "vision_jax_home"))


@pytest.fixture(scope="session", autouse=True)
def _compiled_programs(tmp_path_factory):
    """Equal programs are compiled once per session."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp() / "vision_jax_home/compilation"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(autouse=True)
def _devices(request, monkeypatch):
    """Runs use one of the four virtual devices, or as many as the mark `devices(n)` says."""
    mark = request.node.get_closest_marker("devices")
    make_mesh = parallel.make_mesh
    monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: make_mesh(devices or (mark.args[0] if mark else 1)))


@pytest.fixture(scope="session")
def test_data() -> pathlib.Path:
    """Folder of real data and weights."""
    folder = os.environ.get("VISION_JAX_TEST_DATA")
    if not folder:
        pytest.skip("real data needed: VISION_JAX_TEST_DATA is not set")
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def unpacked_data(test_data, tmp_path_factory) -> pathlib.Path:
    """The same in the publishers' layouts (CIFAR binaries, safetensors)."""
    if ready := os.environ.get("VISION_JAX_TEST_DATA_UNPACKED"):
        return pathlib.Path(ready)
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run([sys.executable, test_data / "unpack.py", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def load_config():
    """Loads a fresh config by name: 'digits_cnn:smoke'."""

    def load(name):
        stem, _, variant = name.partition(":")
        path = REPOSITORY / "configs" / f"{stem}.py"
        spec = importlib.util.spec_from_file_location(f"configs_{stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config(variant)

    return load

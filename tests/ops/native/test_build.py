"""What a processor runs, and what a wheel is named."""

import importlib.util
import types

import pytest

from vision_jax.ops.native import build

V2 = build.LEVELS["x86-64-v2"]
V3 = f"{V2} {build.LEVELS['x86-64-v3']}"
V4 = f"{V3} {build.LEVELS['x86-64-v4']}"


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("fpu sse sse2", None),
        (V2, "x86-64-v2"),
        (f"{V3} avx512f", "x86-64-v3"),
        (f"{V4} sha_ni", "x86-64-v4"),
        (V4.replace(" fma ", " "), "x86-64-v2"),
        ("", None),
    ],
)
def test_levels_include_those_below(features, expected):
    assert build.level(features) == expected


def test_a_file_is_another_after_an_update(tmp_path):
    file = tmp_path / "compiler"
    file.write_text("1")
    before = build.identity(file)
    assert build.identity(file) == before
    file.write_text("22")
    assert build.identity(file) != before
    assert build.identity(tmp_path / "none") == str(tmp_path / "none")


@pytest.fixture
def hook(monkeypatch):
    """The wheel's hook with a build that compiles nothing, and what it says."""
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", build.FOLDER / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said = []
    hook = object.__new__(module.CompiledFunctions)
    hook._BuildHookInterface__app = types.SimpleNamespace(display_warning=said.append)
    monkeypatch.setattr(module, "_load_build", lambda: build)
    monkeypatch.setattr(build, "compile_wheel", lambda folder, include: [folder / "updates-x86-64-v3-0.so"])
    return hook, said


def wheel(hook, version):
    data = {"force_include": {}, "pure_python": True}
    hook.initialize(version, data)
    hook.finalize(version, data, "")
    return data


def test_a_wheel_with_libraries_is_for_its_platform(hook):
    data = wheel(hook[0], "standard")
    assert list(data["force_include"].values()) == ["vision_jax/ops/native/prebuilt/updates-x86-64-v3-0.so"]
    assert data["tag"] == "py3-none-linux_x86_64" and not data["pure_python"]


def test_an_editable_installation_compiles_nothing(hook):
    assert wheel(hook[0], "editable") == {"force_include": {}, "pure_python": True}


def test_a_wheel_without_compiler_is_pure_and_says_why(hook, monkeypatch):
    def fail(folder, include):
        raise build.UnavailableError("no C++ compiler")

    monkeypatch.setattr(build, "compile_wheel", fail)
    assert wheel(hook[0], "standard") == {"force_include": {}, "pure_python": True}
    assert hook[1] == ["This wheel has no compiled functions: no C++ compiler"]

"""What tells one compiler from another, and compilers that do not answer."""

import os
import pathlib

import pytest

from vision_jax.ops.native import build, loading


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes CXX a program that does as a text says."""

    def make(text, name="compiler"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    monkeypatch.setattr(build, "_hung", {})
    return make


def test_another_version_behind_the_same_file_is_another_compiler(compiler, tmp_path, monkeypatch):
    version = tmp_path / "version"
    version.write_bytes(b"c++ 1 \xff\nno warranty 1\n")
    path = compiler(f'[ "$1" = --version ] && cat {version}')
    first = build.find_compiler()
    assert first.command == (str(path),) and "c++ 1" in first.identity and "warranty" not in first.identity
    assert build.find_compiler() == first
    version.write_text("c++ 2\n")
    assert build.find_compiler().identity != first.identity
    monkeypatch.setenv("CXX", f"{path} -w")
    assert build.find_compiler().command == (str(path), "-w")


def test_a_compiler_without_a_version_is_one(compiler):
    path = compiler("exit 1")
    assert build.find_compiler().identity == f"{build.identity(path)} [] "


def test_a_compiler_that_hangs_is_asked_once(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SECONDS", 0.2)
    path = compiler(f"echo >> {tmp_path}/asked; sleep 60")
    for _ in range(3):
        with pytest.raises(build.UnavailableError, match=f"{path} was ended: it took more than 0 s"):
            build.find_compiler()
    assert (tmp_path / "asked").read_text() == "\n"


def test_a_compiler_whose_name_is_not_utf8_has_a_key(compiler):
    compiler("exit 0", os.fsdecode(b"c\xff++"))
    source = pathlib.Path(build.FOLDER / "updates.cc")
    assert len(loading._key(source, [])) == 16

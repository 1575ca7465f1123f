"""Which malloc a program runs under. In processes of their own: they start themselves again."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from vision_jax import allocator

PROGRAM = """
from vision_jax import allocator

print("started", flush=True)
allocator.start("program")

import json, os, subprocess, sys

script = "import os; from vision_jax import allocator; print(allocator.active(), os.environ.get('LD_PRELOAD'))"
print(json.dumps({
    "arguments": sys.argv[1:],
    "command": sys.orig_argv,
    "process": os.getpid(),
    "utf8": sys.flags.utf8_mode,
    "warnings": sys.warnoptions,
    "environment": dict(os.environ),
    "allocator": allocator.active(),
    "child": subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split(),
}))
if "told" in sys.argv:
    from vision_jax import memory
    print(memory.keep_freed_memory())
"""


@pytest.fixture
def library():
    """Path of the wheel's library."""
    path = allocator._library()
    if path is None:
        pytest.skip("cmeel-mimalloc is not installed")
    return path


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Runs `python -m program ARGUMENTS` with environment variables added: what it prints, a line each."""
    (tmp_path / "program.py").write_text(PROGRAM)
    for name in (allocator.VARIABLE, "LD_PRELOAD", "JAX_PLATFORMS", *allocator.SETTINGS):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, before=("-m", "program"), **environment):
        command = [sys.executable, *before, *arguments]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        *starts, found = (line for line in process.communicate()[0].splitlines() if line not in ("True", "False"))
        assert process.returncode == 0
        found = json.loads(found)
        assert found["process"] == process.pid
        assert found["command"] == command
        return len(starts), found

    return run


def test_starts_the_very_same_program_once_more(program, library):
    arguments = ("--name=ü", "two words", "", "-x")
    before = ("-X", "utf8", "-W", "ignore::UserWarning", "-m", "program")
    starts, found = program(*arguments, before=before, SOME_VARIABLE="kept")
    assert starts == 2
    assert found["arguments"] == list(arguments)
    assert found["utf8"] == 1
    assert found["warnings"] == ["ignore::UserWarning"]
    assert found["allocator"] == pathlib.Path(library).name
    assert found["environment"]["SOME_VARIABLE"] == "kept"
    assert {name: found["environment"][name] for name in allocator.SETTINGS} == allocator.SETTINGS
    assert found["environment"].keys().isdisjoint({"LD_PRELOAD", allocator.VARIABLE})
    assert found["child"] == ["libc.so.6", "None"]


def test_a_setting_of_the_users_own_is_kept(program, library):
    starts, found = program(MIMALLOC_PURGE_DELAY="7")
    assert starts == 2
    assert found["environment"]["MIMALLOC_PURGE_DELAY"] == "7"


@pytest.mark.parametrize("value", ["", "mimalloc"])
def test_may_be_asked_for(program, library, value):
    starts, found = program(**{allocator.VARIABLE: value})
    assert starts == 2
    assert found["allocator"] == pathlib.Path(library).name


@pytest.mark.parametrize("choice", ["glibc", "0"])
def test_the_user_says_no(program, choice):
    starts, found = program(**{allocator.VARIABLE: choice})
    assert starts == 1
    assert found["allocator"] == "libc.so.6"
    assert found["environment"][allocator.VARIABLE] == choice


def test_the_user_preloads_something_else(program):
    starts, found = program(LD_PRELOAD="libm.so.6")
    assert starts == 1
    assert found["environment"]["LD_PRELOAD"] == "libm.so.6"
    assert found["allocator"] == "libc.so.6"


def test_the_users_own_preload_of_mimalloc_is_seen_and_inherited(program, library):
    starts, found = program(LD_PRELOAD=library)
    assert starts == 1
    assert found["child"] == [pathlib.Path(library).name, library]


def test_a_library_that_cannot_be_loaded_is_tried_once(program, tmp_path):
    """The loader only warns of it."""
    folder = tmp_path / "cmeel_mimalloc-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: cmeel-mimalloc\nVersion: 9\n")
    (folder / "RECORD").write_text("libmimalloc.so,,\n")
    (tmp_path / "libmimalloc.so").write_text("no library")
    starts, found = program()
    assert starts == 2
    assert found["allocator"] == "libc.so.6"


def test_without_the_wheel_the_c_library_is_told_to_keep_memory(program, tmp_path):
    folder = tmp_path / "cmeel_mimalloc-9.dist-info"  # Found before the installed one, and empty.
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: cmeel-mimalloc\nVersion: 9\n")
    starts, found = program()
    assert starts == 1
    assert found["allocator"] == "libc.so.6"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"JAX_PLATFORMS": "cpu"}, 2), ({"JAX_PLATFORMS": "cuda,cpu"}, 1), ({}, 1)],
)
def test_only_where_jax_computes_on_the_cpu(program, library, tmp_path, environment, expected):
    (tmp_path / "jax_plugins").mkdir()  # As the wheel for a GPU has it.
    starts, _ = program(**environment)
    assert starts == expected


def test_a_program_started_otherwise_is_left_alone(program, tmp_path):
    """A notebook, say, that runs `vision_jax.main`: it would be the one to be started again."""
    starts, found = program(before=("-c", "import runpy; runpy.run_module('program', run_name='__main__')"))
    assert starts == 1
    assert found["allocator"] == "libc.so.6"


def test_an_unknown_choice_is_a_sentence(program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, allocator.VARIABLE: "jemaloc"},
    )
    assert done.returncode == 1
    assert done.stderr == "ERROR: VISION_JAX_ALLOCATOR is 'jemaloc', expected one of mimalloc, glibc, 0.\n"


def test_a_path_that_the_loader_would_split(tmp_path, monkeypatch):
    folder = tmp_path / "with space"
    (folder / "cmeel_mimalloc-9.dist-info").mkdir(parents=True)
    (folder / "cmeel_mimalloc-9.dist-info" / "METADATA").write_text("Name: cmeel-mimalloc\nVersion: 9\n")
    (folder / "cmeel_mimalloc-9.dist-info" / "RECORD").write_text("libmimalloc.so,,\n")
    (folder / "libmimalloc.so").write_text("")
    monkeypatch.syspath_prepend(folder)
    assert allocator._library() is None

"""Whatever happens to a compiler, a cache or a library: every process computes, and none loads what is not sound."""

import os
import pathlib
import shutil
import sys

import jax
import pytest

from tests import forked_commands
from vision_jax.ops.native import build

try:
    build.check_system()
    COMPILER = build.find_compiler().command[0]
except build.UnavailableError as reason:
    pytest.skip(f"nothing can be compiled here: {reason}", allow_module_level=True)

# Of the three sources, this one is compiled fastest.
PROGRAM = """
from absl import logging
logging.set_verbosity("info")
logging.use_absl_handler()
import jax, numpy as np
from vision_jax import ops
from vision_jax.ops.native import build, loading
{changes}
x = np.arange(8, dtype=np.float32)
print(float(jax.jit(ops.square_sum)(x)), "VisionJaxSquareSum" in jax.jit(ops.square_sum).lower(x).as_text())
"""


def start(home, changes="", **environment):
    """A process that sums squares, with its cache below `home`."""
    environment = {**os.environ, "VISION_JAX_HOME": str(home), **environment}
    return forked_commands.Popen([sys.executable, "-c", PROGRAM.format(changes=changes)], env=environment)


def finish(process):
    """Whether it called the compiled function, and its log."""
    output, log = process.communicate()
    assert process.returncode == 0, log
    assert "Traceback" not in log
    total, compiled = output.split()
    assert float(total) == 140.0
    return compiled == "True", log


def run(home, changes="", **environment):
    return finish(start(home, changes, **environment))


def libraries(home):
    return sorted((pathlib.Path(home) / "ops").glob("*.so"))


def script(path, text):
    """A program to use as compiler."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# The last argument is the library to make.
ONCE = f"""
[ "$1" = --version ] && exec {COMPILER} --version
for library; do :; done
[ -e "$0.so" ] || {{ {COMPILER} "$@" && cp "$library" "$0.$$" && mv "$0.$$" "$0.so"; exit; }}
cp "$0.so" "$library"
"""


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """Compiles updates.cc once, seconds, and afterwards gives the same library."""
    return script(tmp_path_factory.mktemp("compiler") / "compiler", ONCE)


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory, compiler):
    home = tmp_path_factory.mktemp("home")
    assert run(home, CXX=compiler)[0]
    return home


@pytest.fixture
def filled(filled_once, tmp_path):
    """A cache that holds the library, and the library."""
    home = tmp_path / "home"
    shutil.copytree(filled_once, home)
    (library,) = libraries(home)
    return home, library


def test_a_later_process_takes_what_the_first_one_kept(filled, compiler):
    home, library = filled
    assert run(home, "loading._make = None", CXX=compiler)[0]
    assert libraries(home) == [library] and build.is_intact(library)


def flip_bits(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 3], flip_bits, lambda content: b"", lambda content: b"rubbish" * 1000],
    ids=["truncated", "bit flipped", "empty", "foreign"],
)
def test_a_damaged_library_is_never_loaded_and_made_again(damage, filled, compiler):
    home, library = filled
    library.write_bytes(damage(library.read_bytes()))
    compiled, log = run(home, CXX=compiler)
    assert compiled and "is damaged" in log
    assert libraries(home) == [library] and build.is_intact(library)


def test_the_library_of_another_processor_is_not_loaded(filled, compiler):
    home, library = filled
    # Sound by its checksum, it would end whoever loads it.
    content = b"\x7fELF" + bytes(1000)
    library.unlink()
    other = library.with_name(f"{library.stem.rpartition('-')[0]}-{build.checksum(content)}.so")
    other.write_bytes(content)
    assert not run(home, CXX=compiler)[0]  # what it is on the processor of its key: the loader refuses it
    another = "features = build.processor(); build.processor = lambda: features + ' another'"
    compiled, _ = run(home, another, CXX=compiler)
    assert compiled
    assert other in libraries(home) and len(libraries(home)) == 2


def test_another_compiler_makes_another_library(compiler, tmp_path):
    other = script(tmp_path / "compiler", f'exec {compiler} "$@"')
    assert run(tmp_path, CXX=other)[0]
    script(tmp_path / "compiler", f'# A later version.\nexec {compiler} "$@"')
    assert run(tmp_path, CXX=other)[0]
    assert len(libraries(tmp_path)) == 2


def test_a_compiler_may_have_arguments(compiler, tmp_path):
    noted = script(tmp_path / "compiler", f'echo "$@" >> {tmp_path}/arguments; exec {compiler} "$@"')
    assert run(tmp_path, CXX=f"{noted} -w -DNDEBUG")[0]
    (compilation,) = [line for line in (tmp_path / "arguments").read_text().splitlines() if "updates.cc" in line]
    assert compilation.startswith("-w -DNDEBUG ")


# $@ with the source changed so that squares are not squared.
WRONG = f"""
for argument in "$@"; do
  shift
  case "$argument" in
    *updates.cc) sed 's/x.i + lane. . x.i + lane./x[i + lane]/' "$argument" > "$0.cc"; argument="$0.cc";;
  esac
  set -- "$@" "$argument"
done
exec {COMPILER} "$@"
"""
# Arguments end in `-o LIBRARY`.
RUBBISH = '[ "$1" = --version ] && exit; while [ $# -gt 1 ]; do shift; done; echo rubbish > "$1"'
ABORTS = f"""
[ "$1" = --version ] && exec {COMPILER} --version
for library; do :; done
echo '#include <cstdlib>
__attribute__((constructor)) static void End() {{ std::abort(); }}' > "$0.cc"
exec {COMPILER} -shared -fPIC -o "$library" "$0.cc"
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"printf 'no \377\376 UTF-8' >&2; exit 1", "could not compile updates.cc"),
        ("exit 0", "wrote no library"),
        (RUBBISH, "failed its test"),
        (WRONG, "failed its test"),
        (ABORTS, "failed its test"),
    ],
    ids=["fails", "writes nothing", "writes rubbish", "miscompiles", "makes what crashes"],
)
def test_what_a_broken_compiler_makes_is_not_kept(text, reason, tmp_path):
    compiled, log = run(tmp_path, CXX=script(tmp_path / "compiler", text))
    assert not compiled and reason in log
    assert not libraries(tmp_path)


@pytest.mark.parametrize(
    ("command", "reason"),
    [("/nowhere/c++ -O2", "there is no program /nowhere/c++"), ("c++ 'unclosed", "is not a command")],
)
def test_a_compiler_that_is_none(command, reason, tmp_path):
    compiled, log = run(tmp_path, CXX=command)
    assert not compiled and reason in log


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_compiler_that_hangs_is_ended_with_what_it_started(tmp_path):
    compiler = script(tmp_path / "compiler", f"sleep 600 & echo $! $$ > {tmp_path}/started; wait")
    compiled, log = run(tmp_path, "build.SECONDS = 2.0", CXX=compiler)
    assert not compiled and "was ended: it took more than 2 s" in log
    assert not any(runs(pid) for pid in (tmp_path / "started").read_text().split())


@pytest.mark.parametrize("kind", ["below a file", "not writable"])
def test_a_cache_that_cannot_be_written(kind, compiler, tmp_path):
    home = tmp_path / "home"
    if kind == "below a file":
        home.write_text("")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        home.mkdir(mode=0o555)
    compiled, log = run(home, CXX=compiler)
    assert compiled and "cannot be kept" in log


def test_processes_that_start_at_once_make_it_once(compiler, tmp_path):
    processes = [start(tmp_path, CXX=compiler) for _ in range(8)]
    assert all([finish(process)[0] for process in processes])
    assert len(libraries(tmp_path)) == 1
    assert not list((tmp_path / "ops").glob(".making-*"))


def test_what_this_jaxlib_refuses_is_not_used(tmp_path):
    headers = tmp_path / "include"
    shutil.copytree(jax.ffi.include_dir(), headers)
    interface = headers / "xla" / "ffi" / "api" / "c_api.h"
    changed = interface.read_text().replace("#define XLA_FFI_API_MAJOR ", "#define XLA_FFI_API_MAJOR 9")
    interface.write_text(changed)
    compiled, log = run(tmp_path, f"jax.ffi.include_dir = lambda: {str(headers)!r}")
    assert not compiled and "failed its test" in log
    assert not libraries(tmp_path)


# What a wheel brings.

LEVEL = build.level(build.processor())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Libraries as in a wheel, for the best level of this processor."""
    if LEVEL is None:
        pytest.skip("no level of this processor has a library")
    folder = tmp_path_factory.mktemp("prebuilt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "LEVELS", {LEVEL: build.LEVELS[LEVEL]})
        made = build.compile_wheel(folder, jax.ffi.include_dir())
    assert {library.name.partition("-")[0] for library in made} == {"channels", "onednn", "updates"}
    assert all(library.parent == folder and build.is_intact(library) for library in made)
    return folder


def from_wheel(folder):
    return f"import pathlib; build.PREBUILT = pathlib.Path({str(folder)!r})"


def test_without_compiler_the_wheel_s_library_is_used(wheel, tmp_path):
    no_compiler = {"PATH": str(tmp_path), "CXX": ""}
    compiled, log = run(tmp_path / "home", **no_compiler)
    assert not compiled and "no C++ compiler" in log
    assert run(tmp_path / "home", from_wheel(wheel), **no_compiler)[0]
    assert run(tmp_path / "home", "loading._make = None", **no_compiler)[0]  # tested once


def test_a_damaged_library_of_the_wheel_is_compiled_here(wheel, compiler, tmp_path):
    folder = tmp_path / "prebuilt"
    shutil.copytree(wheel, folder)
    for library in folder.glob("*.so"):
        library.write_bytes(flip_bits(library.read_bytes()))
    compiled, log = run(tmp_path, from_wheel(folder), CXX=compiler)
    assert compiled and "is damaged" in log


def test_a_library_of_the_wheel_that_fails_its_test_is_compiled_here(compiler, tmp_path):
    content = b"\x7fELF" + bytes(1000)
    (tmp_path / f"updates-{LEVEL}-{build.checksum(content)}.so").write_bytes(content)
    compiled, log = run(tmp_path, from_wheel(tmp_path), CXX=compiler)
    assert compiled and "failed its test" in log


@pytest.mark.parametrize("name", ["channels", "updates"])
@pytest.mark.parametrize(
    "instructions",
    [pytest.param(level, marks=[pytest.mark.full] * (level != min(build.LEVELS))) for level in build.LEVELS],
)
def test_every_level_that_this_processor_runs_passes_the_test(name, instructions, tmp_path):
    if list(build.LEVELS).index(instructions) < list(build.LEVELS).index(LEVEL):
        pytest.skip(f"this processor is {LEVEL}")
    library = tmp_path / "library.so"
    source = build.FOLDER / f"{name}.cc"
    build.compile_library(build.find_compiler(), source, library, instructions, jax.ffi.include_dir())
    status, output = build.run([sys.executable, "-P", str(build.FOLDER / "selftest.py"), name, str(library)])
    assert status == 0, output

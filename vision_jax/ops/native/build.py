"""How a C++ source becomes a shared library.

The standard library alone: whoever builds a wheel runs this file where neither JAX nor this package is installed.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

FOLDER = pathlib.Path(__file__).parent  # of the sources
PREBUILT = FOLDER / "prebuilt"  # a wheel's libraries
SECONDS = 120.0  # that one call of the compiler, or one test of what it made, may take
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared", "-w")
# Shared libraries that a source's own has to find loaded, by the names that they give themselves.
NEEDS = {"onednn": ("libdnnl.so.3",)}
# Instruction sets that a wheel is built for, best first, and what Linux calls that which each has beyond the next.
LEVELS = {
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "x86-64-v2": "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2",
}

_hung: dict[tuple[str, ...], str] = {}  # compilers that this process does not ask again, and why


class UnavailableError(Exception):
    """Why compiled code cannot be used."""


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A command that compiles C++, and what tells it from every other: its file, its arguments, its version."""

    command: tuple[str, ...]
    identity: str


def check_system() -> None:
    """Raises UnavailableError where nothing is to be compiled or loaded."""
    if os.environ.get("VISION_JAX_NATIVE") == "0":
        raise UnavailableError("VISION_JAX_NATIVE=0")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnavailableError(f"{platform.system()} on {platform.machine()}")


def processor() -> str:
    """What -march=native depends on: the processor's features, separated by spaces."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return line.partition(":")[2].strip()
    return ""


def level(features: str) -> str | None:
    """The best of LEVELS that a processor with these features runs."""
    names = list(LEVELS)
    for i, name in enumerate(names):
        if set(" ".join(LEVELS[lower] for lower in names[i:]).split()) <= set(features.split()):
            return name
    return None


def identity(file: str | os.PathLike[str]) -> str:
    """Tells a file from others, and from what it was before an update."""
    path = os.path.realpath(file)
    with contextlib.suppress(OSError):
        about = os.stat(path)
        return f"{path} {about.st_size} {about.st_mtime_ns}"
    return path


def checksum(content: bytes) -> str:
    """Of a library, as it stands in its name."""
    return hashlib.sha256(content).hexdigest()[:16]


def is_intact(library: pathlib.Path) -> bool:
    """Whether the library is what it was when it was named NAME-CHECKSUM.so."""
    try:
        return library.stem.rpartition("-")[2] == checksum(library.read_bytes())
    except OSError:
        return False


def find_compiler() -> Compiler:
    """The compiler that CXX names, arguments included, or the system's.

    Raises:
        UnavailableError: there is none, or it does not end when asked for its version.
    """
    wanted = os.environ.get("CXX", "").strip()
    if not wanted:
        found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if found is None:
            raise UnavailableError("no C++ compiler: c++, g++ or clang++, or the one that CXX names")
        return Compiler((found,), f"{identity(found)} {_version((found,))}")
    try:
        command = [wanted] if shutil.which(wanted) else shlex.split(wanted)
    except ValueError as error:
        raise UnavailableError(f"CXX={wanted} is not a command: {error}") from error
    found = shutil.which(command[0])
    if found is None:
        raise UnavailableError(f"CXX={wanted}: there is no program {command[0]}")
    command = [found, *command[1:]]
    return Compiler(tuple(command), f"{identity(found)} {command[1:]} {_version(tuple(command))}")


def _version(command: tuple[str, ...]) -> str:
    """The first line of what a compiler says about itself: behind one file may be another compiler than yesterday."""
    status, output = _ask(command, ["--version"])
    return "" if status else output.partition("\n")[0]


def compile_library(
    compiler: Compiler, source: pathlib.Path, library: pathlib.Path, instructions: str, include: str
) -> None:
    """Makes `library` of `source`, in a folder of which it may use every other name.

    Args:
        compiler: to call.
        source: a `.cc` file.
        library: to make.
        instructions: for -march: 'native', or one of LEVELS.
        include: folder of XLA's headers.

    Raises:
        UnavailableError: the compiler fails, or does not end within SECONDS.
    """
    stubs = [_stub(compiler, library.parent / name) for name in NEEDS.get(source.stem, ())]
    options = [*FLAGS, f"-march={instructions}", f"-I{include}", "-Wl,--no-as-needed", *map(str, stubs)]
    _call(compiler, options, source, library)


def compile_wheel(folder: pathlib.Path, include: str) -> list[pathlib.Path]:
    """Libraries of all sources for all LEVELS, named SOURCE-LEVEL-CHECKSUM.so, in an empty folder.

    Raises:
        UnavailableError: one of them cannot be compiled.
    """
    check_system()
    compiler = find_compiler()

    def make(case: tuple[pathlib.Path, str]) -> pathlib.Path:
        source, instructions = case
        made = folder / f"{source.stem}-{instructions}" / "library.so"
        made.parent.mkdir()
        compile_library(compiler, source, made, instructions, include)
        return made.replace(folder / f"{made.parent.name}-{checksum(made.read_bytes())}.so")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(make, itertools.product(sorted(FOLDER.glob("*.cc")), LEVELS)))


def run(command: Sequence[str | pathlib.Path], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status of a command, and the end of what it wrote.

    Raises:
        UnavailableError: it cannot be started, or did not end within SECONDS and was ended, with what it started.
    """
    with tempfile.TemporaryFile() as output:  # not a pipe, which who was started by the command might hold open
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{command[0]} cannot be started: {error}") from error
        try:
            status = process.wait(SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise UnavailableError(f"{command[0]} was ended: it took more than {SECONDS:.0f} s") from error
            raise
        output.seek(0)
        return status, output.read()[-2000:].decode(errors="replace")


def _ask(command: tuple[str, ...], arguments: Sequence[str | pathlib.Path]) -> tuple[int, str]:
    """As `run`, but not again after it could not be started or had to be ended."""
    if command in _hung:
        raise UnavailableError(_hung[command])
    try:
        return run([*command, *arguments])
    except UnavailableError as error:
        _hung[command] = str(error)
        raise


def _stub(compiler: Compiler, library: pathlib.Path) -> pathlib.Path:
    """An empty library to link with: the name is all that a library keeps of one that it needs."""
    empty = library.with_suffix(".cc")
    empty.touch()
    _call(compiler, ["-shared", "-nostdlib", f"-Wl,-soname,{library.name}"], empty, library)
    return library


def _call(compiler: Compiler, options: Sequence[str], source: pathlib.Path, library: pathlib.Path) -> None:
    status, output = _ask(compiler.command, [*options, source, "-o", library])
    name = shlex.join(compiler.command)
    if status:
        raise UnavailableError(f"{name} could not compile {source.name}, status {status}:\n{output}")
    if not library.is_file():
        raise UnavailableError(f"{name} reported success and wrote no library of {source.name}")

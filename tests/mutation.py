"""Mutation testing: one fault at a time is put into a module, and the module's own tests have to notice.

    python -m tests.mutation --modules optim,metrics,data,tasks --sample 200 --seed 0

draws 200 faults per area, a larger sample of the same seed beginning with them, and prints those that no test noticed,
with their names for `--only`, and the figures. The faults are mutmut's (extra `dev`) in comparisons, arithmetic,
constants and conditions; mutmut itself mutates the bodies of functions alone, hence no constant or default of a module.
Each fault is tried in a copy of the checkout, in a process forked after JAX was imported, the fastest tests first.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import difflib
import gc
import importlib
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import libcst as cst
import pytest
from mutmut.mutation import mutators

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# Area -> modules below vision_jax/ -> files or folders below tests/, those that exist; the first pattern that fits.
AREAS: dict[str, dict[str, tuple[str, ...]]] = {
    "optim": {"optim.py": ("test_optim.py",)},
    "metrics": {"metrics/*.py": ("metrics",)},
    "analysis": {"analysis/record.py": ("test_evaluate.py",), "analysis/*.py": ("analysis",)},
    "data": {
        "data/splits.py": ("data/test_splits.py",),
        "data/pipeline.py": ("data/test_pipeline.py", "data/test_photo_batches.py"),
        "data/transforms.py": ("data/test_transforms.py", "data/test_photo_batches.py"),
        "data/sources.py": ("data/test_sources.py", "data/test_datasets.py", "data/test_pipeline.py"),
        "data/datasets.py": ("data/test_datasets.py", "data/test_folder.py"),
        "data/cached.py": ("data/test_cached.py",),
        "data/patches.py": ("data/test_patches.py", "tasks/test_super_resolution.py"),
        "data/folder.py": ("data/test_folder.py", "data/test_decode.py"),
        "data/decode.py": ("data/test_decode.py", "data/test_transforms.py"),
        "data/checks.py": ("data/test_folder.py",),
        "data/augment/*.py": ("data/augment",),
        "data/prepare/archives.py": ("data/prepare/test_archives.py", "data/prepare/test_formats.py"),
        "data/prepare/formats.py": tuple(f"data/prepare/test_{name}.py" for name in ("formats", "prepared", "tfds")),
        "data/prepare/matlab.py": ("data/prepare/test_matlab.py", "data/prepare/test_formats.py"),
        "data/prepare/tfds.py": ("data/prepare/test_tfds.py",),
        "data/prepare/*.py": ("data/prepare/test_prepared.py",),
        "data/inspect/*.py": ("data/inspect",),
    },
    "tasks": {"tasks/*.py": ("tasks",), "evaluate.py": ("test_evaluate.py", "tasks")},
}
HEAVY = (  # Imported before forking, where they are installed; no backend of JAX starts by that.
    "jax flax.linen optax orbax.checkpoint grain scipy.special sklearn.datasets PIL.Image torch hypothesis "
    "tensorflow tensorflow_datasets"
).split()
CHOSEN = (  # Not mutmut's strings, removed arguments and None for a value: messages, defaults, and what always crashes.
    "operator_number operator_name operator_remove_unary_ops operator_keywords operator_swap_op operator_match "
    "operator_if_exp operator_augmented_assignment"
).split()


def _negate(node: cst.If | cst.CompIf) -> Iterator[cst.CSTNode]:
    parenthesized = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(cst.Not(), parenthesized))


OPERATORS = [(kind, make) for kind, make in mutators.mutation_operators if make.__name__ in CHOSEN]
OPERATORS += [(cst.If, _negate), (cst.CompIf, _negate)]


class Mutant(NamedTuple):
    """A node of a file's tree and what it is replaced with; the name counts the mutants of the file."""

    name: str
    path: str
    tests: tuple[str, ...]
    tree: cst.Module
    node: cst.CSTNode
    changed: cst.CSTNode

    def code(self) -> str:
        return self.tree.deep_replace(self.node, self.changed).code

    def difference(self) -> str:
        lines = difflib.unified_diff(self.tree.code.splitlines(), self.code().splitlines(), lineterm="", n=0)
        return "\n".join([self.name, *itertools.islice(lines, 2, None)])


class _Finder(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Assert | cst.Import | cst.ImportFrom):
            return False
        if isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "strict":
            return False  # An assertion of `zip`.
        self.found += [(node, new) for kind, make in OPERATORS if isinstance(node, kind) for new in make(node)]
        return True


def mutants_of(area: str) -> list[Mutant]:
    """Returns all mutants of an area, in the order of its files."""
    found: dict[str, list[Mutant]] = {}
    for pattern, tests in AREAS[area].items():
        existing = tuple(f"tests/{test}" for test in tests if (REPOSITORY / "tests" / test).exists())
        for file in sorted((REPOSITORY / "vision_jax").glob(pattern)):
            path, finder, tree = file.relative_to(REPOSITORY).as_posix(), _Finder(), cst.parse_module(file.read_text())
            tree.visit(finder)
            made = [Mutant(f"{path}#{n}", path, existing, tree, *pair) for n, pair in enumerate(finder.found)]
            found.setdefault(path, made)
    return list(itertools.chain(*found.values()))


class _Plugin:
    """Inside a worker: the fastest tests first, programs compiled once per copy, and what the tests did."""

    def __init__(self, known: dict[str, float]):
        self.known, self.failed, self.seconds = known, "", collections.Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        self.failed = self.failed or report.nodeid * report.failed

    @pytest.fixture(scope="session", autouse=True)
    @staticmethod
    def _kept_programs(_compiled_programs: None) -> None:
        config = sys.modules["jax"].config
        config.update("jax_compilation_cache_dir", str(pathlib.Path(".programs").absolute()))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _test(copy: pathlib.Path, tests: Sequence[str], known: dict[str, float], limit: float) -> tuple[str, dict]:
    """Runs the tests of a copy in a fork: 'survived', 'killed' or 'timeout', and what the plugin has seen."""
    seen = copy / ".seen.json"
    seen.write_text(json.dumps({"failed": "an import"}))
    if not (pid := os.fork()):
        os.setsid()
        log = os.open(copy / ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(entry for entry in sys.path if entry not in ("", str(REPOSITORY)))]
        os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        sys.dont_write_bytecode = False
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        plugin = _Plugin(known)
        options = ["-x", "-p", "xdist", "-n", "0", "-p", "jaxtyping._pytest_plugin", "-p", "no:cacheprovider"]
        status = pytest.main([*tests, *options], plugins=[plugin])
        if plugin.seconds:
            seen.write_text(json.dumps({"seconds": plugin.seconds, "failed": plugin.failed}))
        os._exit(int(status))
    ended, end, status = 0, time.monotonic() + limit, 0
    try:
        while not ended and time.monotonic() < end:
            time.sleep(0.05)
            ended, status = os.waitpid(pid, os.WNOHANG)
    finally:
        if not ended:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return ("timeout" if not ended else "killed" if status else "survived"), json.loads(seen.read_text())


class _Trial:
    """What the processes that try mutants know through the fork, and in each of them the copy that is its own."""

    def __init__(self, mutants: list[Mutant], folder: pathlib.Path, workers: int, programs: pathlib.Path | None):
        """Copies the checkout, runs the tests without a fault, and copies that for each further worker."""
        self.mutants, self.folder, self.copy = mutants, folder, folder / "0"
        self.known: dict[tuple[str, ...], tuple[dict[str, float], float]] = {}
        listing = ["git", "ls-files", "-coz", "--exclude-standard"]
        listed = subprocess.run(listing, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout.decode()
        for path in filter(None, listed.split("\0")):
            with contextlib.suppress(FileNotFoundError):  # Deleted, but not yet for git.
                (self.copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / path, self.copy / path)
        if programs and programs.exists():
            shutil.copytree(programs, self.copy / ".programs")
        for tests in sorted({mutant.tests for mutant in mutants}):
            begin = time.monotonic()
            outcome, seen = _test(self.copy, tests, {}, 3600) if tests else ("missing", {})
            if outcome != "survived":
                raise SystemExit(f"The tests {tests} have to pass first; {outcome}. {(self.copy / '.log').read_text()}")
            self.known[tests] = seen["seconds"], 60 + 5 * (time.monotonic() - begin)
            print(f"{time.monotonic() - begin:6.1f} s without a fault: {' '.join(tests)}", flush=True)
        for number in range(1, workers):
            shutil.copytree(self.copy, folder / str(number))
        if programs and (self.copy / ".programs").exists():
            shutil.copytree(self.copy / ".programs", programs, dirs_exist_ok=True)


_trial: _Trial


def _take_copy(numbers: multiprocessing.SimpleQueue) -> None:
    _trial.copy = _trial.folder / str(numbers.get())


def _try(index: int) -> tuple[str, str]:
    mutant = _trial.mutants[index]
    file, result = _trial.copy / mutant.path, None
    for number, code in enumerate((mutant.code(), mutant.tree.code), 10**9 + 2 * index):
        file.write_text(code)
        os.utime(file, (number, number))  # Else Python may take it for another mutant's bytecode.
        result = result or _test(_trial.copy, mutant.tests, *_trial.known[mutant.tests])
    return result[0], result[1]["failed"]


def main() -> None:
    """Prints what became of each mutant, the survivors and a table."""
    global _trial
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modules", default=",".join(AREAS), help="areas, or beginnings of paths: data/augment/mix")
    parser.add_argument("--sample", type=int, default=200, help="mutants per area or beginning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of mutants, instead of a sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--programs", type=pathlib.Path, help="folder that keeps what XLA compiled, for the next time")
    arguments = parser.parse_args()
    chosen = []
    for part in arguments.modules.split(","):
        area = part.partition("/")[0]
        mutants = [
            mutant for mutant in mutants_of(area) if part == area or mutant.path.startswith(f"vision_jax/{part}")
        ]
        random.Random(f"{arguments.seed}/{area}").shuffle(mutants)
        only = arguments.only.split(",") if arguments.only else None
        chosen += [mutant for mutant in mutants if mutant.name in only] if only else mutants[: arguments.sample]
    for module in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # What was imported is not looked at again.

    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        _trial = _Trial(chosen, pathlib.Path(folder), arguments.workers, arguments.programs)
        context = multiprocessing.get_context("fork")
        numbers = context.SimpleQueue()
        for number in range(arguments.workers):
            numbers.put(number)
        with concurrent.futures.ProcessPoolExecutor(arguments.workers, context, _take_copy, (numbers,)) as pool:
            tried = {pool.submit(_try, index): mutant for index, mutant in enumerate(chosen)}
            for future in concurrent.futures.as_completed(tried):
                mutant, (outcome, by) = tried[future], future.result()
                print(f"{outcome:8} {mutant.name} {by if outcome == 'killed' else ''}", flush=True)
                counts[mutant.path][outcome] += 1
                if outcome == "survived":
                    survivors.append(mutant.difference())
    print("\nNoticed by no test:", *sorted(survivors), sep="\n\n")
    print(f"\n{'module':45}{'mutants':>9}{'killed':>9}{'timeout':>9}{'survived':>9}")
    for path, count in [*sorted(counts.items()), ("all", sum(counts.values(), collections.Counter()))]:
        print(f"{path:45}{count.total():9}" + "".join(f"{count[name]:9}" for name in ("killed", "timeout", "survived")))


if __name__ == "__main__":
    main()

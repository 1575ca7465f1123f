"""Kills small real runs at random moments, continues each until it has ended, and compares the end with a whole run's.

    python -m tests.faults.kills --kills=100 --seed=0

A third of the signals is SIGTERM, the others are SIGKILL; moments are anywhere up to the end of the report. Processes
are forks of one that has imported everything, which saves most of their time. Of the run of two processes one is hit,
and the other has to end by itself, with a sentence. A kill is survived when the same command goes on, no checkpoint was
damaged and the end agrees bit for bit; lost when something of that fails; crashed when a process ends with another
status than documented, with a traceback, or not at all. Ends with 1 unless all are survived.
"""

import argparse
import dataclasses
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from multiprocessing.context import ForkProcess
from multiprocessing.queues import SimpleQueue

import matplotlib.figure  # noqa: F401  What runs import.
import sklearn.datasets  # noqa: F401

from vision_jax import evaluate, train  # noqa: F401
from vision_jax.tools import verify_resume

_COMMON = (
    *("--config.log.tensorboard=False", "--config.log.every_epochs=0", "--config.log.every_steps=4"),
    *("--config.eval.every_epochs=0", "--config.eval.every_steps=20", "--config.checkpoint.every_steps=5"),
)
_DIGITS = ("--config=configs/digits_cnn.py:smoke", "--config.train.epochs=20", *_COMMON)
RUNS = {  # Options, and how many processes.
    "classification": ((*_DIGITS, "--config.optimizer.accumulate=2", "--config.optimizer.ema_decay=0.9"), 1),
    "gan": (("--config=configs/dcgan_digits.py:smoke", "--config.train.epochs=16", *_COMMON), 1),
    "super_resolution": (("--config=configs/srcnn_t91.py:smoke", "--config.train.steps=60", *_COMMON), 1),
    "two processes": ((*_DIGITS, "--config.train.epochs=5"), 2),
}
_BOUND = 20  # Seconds after which a process without a sign of life is given up.
_HANGS = 900.0  # Seconds after which a process that should end has not.
_EXPECTED = {  # Statuses of a process that was hit; SIGTERM takes its usual course until somebody listens.
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {75, -signal.SIGTERM},
}


_fork = multiprocessing.get_context("fork")


class Crashed(Exception):
    """A process ended in a way that is not documented."""


def _main(options: list[str], log: str) -> None:
    """Does what `python -m vision_jax.main OPTIONS >>LOG 2>&1` does, without starting itself again."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["VISION_JAX_ALLOCATOR"] = "0"
    sys.argv[1:] = options
    runpy.run_module("vision_jax.main", run_name="__main__", alter_sys=True)
    os._exit(0)


def _compare(first: pathlib.Path, second: pathlib.Path, found: "SimpleQueue[list[str]]") -> None:
    try:
        found.put(verify_resume.differences(first, second))
    except Exception as error:
        found.put([f"{type(error).__name__}: {error}"])
    os._exit(0)


def differences(first: pathlib.Path, second: pathlib.Path) -> list[str]:
    """Returns `verify_resume.differences`, found by another process: this one is forked, and may start no thread."""
    found = _fork.SimpleQueue()
    process = _fork.Process(target=_compare, args=(first, second, found))
    process.start()
    answer = found.get()
    process.join()
    return answer


@dataclasses.dataclass
class Case:
    """One of `RUNS` in a folder, and what happened to it."""

    name: str
    folder: pathlib.Path
    random: random.Random

    def __post_init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0  # Of the whole run.

    def start(self, workdir: pathlib.Path) -> list[ForkProcess]:
        """Starts the run's processes; what they print is appended to `WORKDIR.N.log`."""
        options, count = RUNS[self.name]
        if count > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                options += (f"--coordinator=127.0.0.1:{probe.getsockname()[1]}", f"--num_processes={count}")
        started = []
        for i in range(count):
            own = [f"--process_id={i}", f"--lost_after={_BOUND}"] if count > 1 else []
            arguments = [*options, f"--workdir={workdir}", *own], f"{workdir}.{i}.log"
            started.append(_fork.Process(target=_main, args=arguments))
            started[-1].start()
        return started

    def undisturbed(self) -> pathlib.Path:
        """Returns the folder of a run that nobody killed, the second: programs were compiled in the first."""
        folders = [self.folder / name for name in ("first", "undisturbed")]
        for folder in folders:
            began = time.monotonic()
            self.ended(self.start(folder), {0})
            self.seconds = time.monotonic() - began
        if found := differences(*folders):
            raise Crashed(f"Two runs that nobody killed differ: {found[0]}")
        return folders[1]

    def ended(self, processes: list[ForkProcess], expected: set[int]) -> None:
        """Waits until processes have ended; raises `Crashed` unless all do as expected."""
        try:
            for process in processes:
                process.join(_HANGS)
                if process.exitcode is None:
                    raise Crashed(f"A process has not ended in {_HANGS:.0f} s.")
                if process.exitcode not in expected:
                    raise Crashed(f"A process ended with status {process.exitcode}.")
        finally:
            for process in processes:
                process.kill()
                process.join()

    def disturbed(self, workdir: pathlib.Path) -> bool:
        """Starts the run and kills it at a random moment; returns whether it ended before that."""
        processes = self.start(workdir)
        moment = time.monotonic() + self.random.uniform(0, self.seconds)
        number = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        victim = self.random.choice(processes)
        while time.monotonic() < moment and any(process.is_alive() for process in processes):
            time.sleep(0.005)
        if not victim.is_alive():
            self.ended(processes, {0})
            return True
        os.kill(victim.pid, number)
        victim.join(_HANGS)
        if victim.exitcode == 0:  # It had ended already, or saw nothing left to do.
            self.ended(processes, {0})
            return True
        self.counts["tries"] += 1
        others = [process for process in processes if process is not victim]
        try:
            self.ended([victim], _EXPECTED[number])
            self.ended(others, {0, 1, 75})  # 0 where it had no more to ask of the other.
        finally:
            self.ended(processes, set(range(-64, 256)))
        for log in self.folder.glob(f"{workdir.name}.*.log"):
            if any(words in log.read_text(errors="replace") for words in ("Traceback", "*** Check failure", "    @ ")):
                raise Crashed(f"{log} has a traceback.")
        return False

    def round(self, whole: pathlib.Path, number: int, kills: int) -> None:
        """Kills and continues a new run until it has ended, or has been killed `kills` times and is left to end."""
        workdir, before = self.folder / f"killed{number}", self.counts.copy()
        try:
            while self.counts["tries"] - before["tries"] < kills and not self.disturbed(workdir):
                pass
            self.ended(self.start(workdir), {0})
            found = differences(whole, workdir)
            found += ["A checkpoint was damaged."] if (workdir / "damaged").exists() else []
        except Crashed as error:
            found = [str(error)]
            self.counts["crashed"] += 1
        undecided = self.counts["tries"] - sum(self.counts[kind] for kind in ("survived", "lost", "crashed"))
        crashed = self.counts["crashed"] > before["crashed"]
        self.counts["lost" if found and not crashed else "survived"] += undecided
        for line in found:
            print(f"{self.name}, {workdir}: {line}", file=sys.stderr, flush=True)
        if not found:
            shutil.rmtree(workdir)

    def run(self, kills: int) -> None:
        """Makes at least one and at most `kills` tries, in as many rounds as it takes."""
        self.folder.mkdir(parents=True)
        whole, number = self.undisturbed(), 0
        while self.counts["tries"] < kills:
            number += 1
            self.round(whole, number, kills - self.counts["tries"])


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all runs together")
    parser.add_argument("--seed", type=int, default=0, help="of moments and signals")
    parser.add_argument("--only", choices=list(RUNS), help="one of the runs, with all the kills")
    parser.add_argument("--out", type=pathlib.Path, default="runs/kills", help="folder of the runs, begun anew")
    options = parser.parse_args()
    names = [options.only] if options.only else list(RUNS)
    print(f"{'run':18} {'tries':>6} {'survived':>9} {'lost':>6} {'crashed':>8} {'seconds':>8}")
    total: Counter[str] = Counter()
    for index, name in enumerate(names):
        folder = options.out / name.replace(" ", "_")
        shutil.rmtree(folder, ignore_errors=True)
        case, began = Case(name, folder.absolute(), random.Random(f"{options.seed}/{name}")), time.monotonic()
        case.run(len(range(index, options.kills, len(names))))
        total += case.counts
        print(_row(name, case.counts), f"{time.monotonic() - began:8.0f}", flush=True)
    print(_row("all", total))
    return int(total["survived"] < total["tries"])


def _row(name: str, counts: Counter[str]) -> str:
    columns = (("tries", 6), ("survived", 9), ("lost", 6), ("crashed", 8))
    return f"{name:18} " + " ".join(f"{counts[kind]:{width}}" for kind, width in columns)


if __name__ == "__main__":
    sys.exit(main())

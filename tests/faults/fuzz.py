"""Damages small valid files of every kind that is read here, and counts what their readers make of them.

    python -m tests.faults.fuzz --inputs=100000 --seed=0
    python -m tests.faults.fuzz --seed=0 --only=npz:1234        # one input again, with its traceback

An input is read, or refused by the documented error, which names the file. Anything else is wrong: another error, the
end of the process, more than 20 seconds, or more than 1 GiB of memory (what is caught as damage, such as a MemoryError
within Pillow, counts as refused). Readers run in forked children, many inputs in each. Ends with 1 where something is
wrong.
"""

import argparse
import copy
import json
import os
import pathlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from typing import Any

from tests.faults import fuzz_readers
from tests.pretrained.fuzz_torch_file import mutate

_SECONDS = 20
_MEMORY_BYTES = 1 << 30
_PER_CHILD = 2000
_NUMBERS = (0, 1, -1, 7, 1.5, 1e308, float("nan"), float("-inf"), 2**31, 2**63, -(2**70), 10**400)
_ODD = (*_NUMBERS, None, True, "", "0", "\x1b[2J", "\ud800", "x" * 5000, [], [1], [0] * 2000, [[[]]], {}, {"a": 1})


def damaged(name: str, reader: fuzz_readers.Reader, seed: int, number: int) -> bytes:
    """Returns input `number` of the reader `name`: a damaged file, or a whole one around a damaged part."""
    rng = random.Random(f"{seed}/{name}/{number}")
    content, wrap = rng.choice(reader.seeds)
    if content.startswith(b"{") and rng.random() < 0.5:
        return wrap(_odd_json(content, rng))
    return wrap(mutate(content, [other for other, _ in reader.seeds], rng))


def _odd_json(content: bytes, rng: random.Random) -> bytes:
    """Returns JSON in which one or two values anywhere are odd ones, or missing."""
    values = json.loads(content)
    for _ in range(rng.randint(1, 2)):
        places: list[tuple[Any, Any]] = []
        pending = [values]
        while pending:
            holder = pending.pop()
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            places += [(holder, key) for key in keys]
            pending += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
        if not places:
            break
        holder, key = rng.choice(places)
        if rng.random() < 0.1:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(_ODD))
    return json.dumps(values).encode()


def outcome(reader: fuzz_readers.Reader, content: bytes, folder: pathlib.Path) -> str:
    """Returns 'read', 'refused' or what is wrong."""
    try:
        reader.read(content, folder)
    except reader.refusal as error:
        if type(error) not in reader.refusal:
            return f"{type(error).__name__}: {error}"
        return "refused" if reader.named in str(error) else f"the error does not say {reader.named}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def _child(name: str, seed: int, numbers: range, folder: pathlib.Path, results: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and others speak
    warnings.simplefilter("ignore")
    reader = fuzz_readers.READERS[name]()
    for content, wrap in reader.seeds:  # what is imported and started at first use does not count
        if (found := outcome(reader, wrap(content), folder)) != "read":
            raise AssertionError(f"{name}: a whole file is not read: {found}")
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES, resource.RLIM_INFINITY))
    for number in numbers:
        content = damaged(name, reader, seed, number)
        signal.alarm(_SECONDS)
        found = outcome(reader, content, folder)
        signal.alarm(0)
        os.write(results, json.dumps(found[:300]).encode() + b"\n")


def _in_child(name: str, seed: int, numbers: range) -> list[str]:
    """Returns the outcomes up to the first that ended the process."""
    receiving, sending = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            status = 1
            try:
                os.close(receiving)
                _child(name, seed, numbers, pathlib.Path(folder), sending)
                status = 0
            except BaseException:
                os.write(sending, json.dumps(traceback.format_exc(limit=-3)).encode() + b"\n")
            finally:
                os._exit(status)
        os.close(sending)
        with open(receiving, "rb") as file:
            found = [json.loads(line) for line in file]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise RuntimeError(found[-1])
    if len(found) < len(numbers):
        what = {-signal.SIGALRM: f"more than {_SECONDS} s"}.get(status, f"the process ended with {status}")
        found.append(what)
    return found


def run(name: str, seed: int, inputs: int) -> tuple[Counter[str], dict[int, str]]:
    """Returns the counts of 'read', 'refused' and 'wrong', and what is wrong by number of the input."""
    found: list[str] = []
    while len(found) < inputs:
        end = min(len(found) + _PER_CHILD, inputs)
        found += _in_child(name, seed, range(len(found), end))
    wrong = {number: what for number, what in enumerate(found) if what not in ("read", "refused")}
    return Counter("wrong" if number in wrong else what for number, what in enumerate(found)), wrong


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=11_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="READER, or READER:NUMBER for one input")
    options = parser.parse_args()
    name, _, number = options.only.partition(":")
    with tempfile.TemporaryDirectory() as home:
        os.environ["VISION_JAX_HOME"] = home  # nothing is kept of what these files cause
        if number:
            reader = fuzz_readers.READERS[name]()
            content = damaged(name, reader, options.seed, int(number))
            print(f"{len(content)} bytes: {content[:200]!r}")
            reader.read(content, pathlib.Path(home))
            return 0
        names = [name] if name else list(fuzz_readers.READERS)
        print(f"{'reader':16} {'inputs':>8} {'read':>8} {'refused':>8} {'wrong':>6} {'seconds':>8}")
        failures = []
        for name in names:
            start = time.monotonic()
            counts, wrong = run(name, options.seed, options.inputs // len(names))
            columns = "".join(f" {counts[kind]:{width}}" for kind, width in (("read", 8), ("refused", 8), ("wrong", 6)))
            print(f"{name:16} {counts.total():8}{columns} {time.monotonic() - start:8.1f}", flush=True)
            failures += [f"--seed={options.seed} --only={name}:{i}  {what!r}" for i, what in wrong.items()]
    print("\n".join(failures[:50]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

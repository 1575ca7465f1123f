"""Training steps under one malloc and another: time, growth of the process, and what stays when all is released.

    python -m tests.benchmarks.allocator [--cases cifar10_cnn ...] [--variants glibc ...] [--steps 200] [--rounds 2]

Each network of `networks.CASES` takes its steps under each of `VARIANTS`, every one in a process of its own, in turn,
for `--rounds` rounds. A cell has the rounds' values, which are, per round,

- the median milliseconds per step, of all steps but the first ten;
- in MB, how far the process grew at its peak in the first ten steps, and in all of them: were the second larger from
  round to round or with `--steps`, the process would not stop growing;
- in MB, what it still holds when the network is dropped and `memory.release_memory` has been called.

Growth is that over a process in which all is imported and started and nothing is kept that is free. Nothing else may
run on the machine. `vision_jax.allocator.SETTINGS` are chosen by this table.
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from vision_jax import allocator

CASES = ("cifar10_cnn 128x32x32", "mobilenet_v2 32x96x96", "resnet18 64x64x64")
WARM = 10  # steps
# Variables beside those of `allocator.environment`; the last of a name counts.
VARIANTS: dict[str, dict[str, str]] = {
    "glibc": {allocator.VARIABLE: "0"},
    "glibc told to keep": {allocator.VARIABLE: "glibc"},
    "glibc, huge pages": {allocator.VARIABLE: "0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},  # glibc 2.35
    "mimalloc": {"MIMALLOC_PURGE_DELAY": "1000"},
    "mimalloc, purging after 10 s": {"MIMALLOC_PURGE_DELAY": "10000"},
    "mimalloc, purging after 60 s": {"MIMALLOC_PURGE_DELAY": "60000"},
    "mimalloc, never purging": {"MIMALLOC_PURGE_DELAY": "-1"},
    "mimalloc, purging after 10 s, no huge pages": {"MIMALLOC_PURGE_DELAY": "10000", "MIMALLOC_ALLOW_THP": "0"},
    "mimalloc, purging after 10 s, lazy arenas": {"MIMALLOC_PURGE_DELAY": "10000", "MIMALLOC_ARENA_EAGER_COMMIT": "0"},
}


def measure(name: str, steps: int) -> dict[str, Any]:
    """The figures of this process."""
    import jax

    from tests.benchmarks import train_step
    from vision_jax import memory

    resident = train_step._resident
    train_step.load_side(name, "ours", "float32")  # for what it imports and starts; dropped again
    gc.collect()
    memory.release_memory()
    before = resident("VmRSS")
    subject = train_step.load_side(name, "ours", "float32")
    memory.release_memory()  # before and after, as the loop does
    subject.compile()
    memory.release_memory()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak counts from here.
    seconds, growth = [], []
    for burst in (WARM, steps - WARM):
        for _ in range(burst):
            began = time.perf_counter()
            jax.block_until_ready(subject.step())
            seconds.append(time.perf_counter() - began)
        growth.append(resident("VmHWM") - before)
    del subject
    gc.collect()
    memory.release_memory()
    return {
        "allocator": allocator.active(),
        "milliseconds": statistics.median(seconds[WARM:]) * 1e3,
        "growth": growth,
        "kept": resident("VmRSS") - before,
    }


def run(name: str, variant: str, steps: int, cache: str) -> dict[str, Any]:
    """The figures of a process of its own."""
    settings = VARIANTS[variant]
    environment = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    if allocator.VARIABLE not in settings:
        environment |= allocator.environment()
        if "LD_PRELOAD" not in environment:
            raise SystemExit("ERROR: mimalloc is not there: `pip install cmeel-mimalloc`, and set no LD_PRELOAD.")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.allocator", "--measure", name, "--steps", str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **environment, **settings},
    )
    return json.loads(done.stdout.splitlines()[-1])


def cell(rounds: list[dict[str, Any]]) -> str:
    """'134, 135 ms; 234, 236 -> 240, 241 MB; 12, 14 MB kept'."""
    times = ", ".join(f"{row['milliseconds']:.0f}" for row in rounds)
    first, last = (", ".join(f"{row['growth'][i] / 1e6:.0f}" for row in rounds) for i in (0, 1))
    kept = ", ".join(f"{row['kept'] / 1e6:.0f}" for row in rounds)
    return f"{times} ms; {first} → {last} MB; {kept} MB kept"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES, help="names in networks.CASES, or their starts")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps <= WARM:
        parser.error(f"--steps must be above {WARM}")
    if options.measure:
        print(json.dumps(measure(options.measure, options.steps)))
        return
    from tests.benchmarks import networks

    names = [name for name in networks.CASES if name.startswith(tuple(options.cases))]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {(v, n): [] for n in names for v in options.variants}
    with tempfile.TemporaryDirectory() as cache:
        for name in names:
            run(name, "glibc", WARM + 1, cache)  # Fills the compilation cache.
            for _ in range(options.rounds):
                for variant in options.variants:
                    rows[variant, name].append(run(name, variant, options.steps, cache))
    print(f"| {options.steps} steps | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for variant in options.variants:
        print(f"| {variant} | " + " | ".join(cell(rows[variant, name]) for name in names) + " |")


if __name__ == "__main__":
    main()

"""Training steps against PyTorch on this machine: time, peak memory, compilation and start-up, in one table.

    python -m tests.benchmarks.train_step [--cases resnet18 dcgan] [--rounds 11] [--dtype bfloat16] [--quick]
        [--json FILE]

For each network of `networks.CASES`:

- times: after checking that both sides compute the same loss and the same gradient of every parameter, our step
  (the loop's compiled program, metrics included) and PyTorch's run in turn, each in a process of its own, a burst of
  at least `--burst` seconds each, for `--rounds` rounds. PyTorch runs contiguous and channels-last, on a GPU each with
  and without `torch.compile`; the best one counts. Medians over the rounds, of the times and of the rounds' ratios;
  'spread' is (max - min) / median of ours.
- compile: seconds to trace, lower and compile our step, and the same step with XLA's plain convolutions and pooling.
- memory: the process's peak resident size in ten steps over that of a process in which all is imported and started
  and nothing is kept that is free, one side per process; our program comes from the compilation cache, as in every
  run but the first.
- start-up: from starting Python to the end of the first step, with an empty and with a filled compilation cache.

Nothing else may run on the machine. `--quick` leaves out memory, compilation and start-up.
"""

import argparse
import datetime
import gc
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from vision_jax import allocator

Row = dict[str, Any]


def load_case(name: str) -> Any:
    """The case, with all cores for PyTorch too."""
    import torch

    from tests.benchmarks import networks

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return networks.CASES[name]()


def torch_sides() -> list[str]:
    """The forms of PyTorch's side."""
    import jax

    layouts = ["torch contiguous", "torch channels-last"]
    return layouts + [f"{side} compiled" for side in layouts if jax.default_backend() == "gpu"]


def load_side(name: str, side: str, dtype: str) -> Any:
    """One side of the case with Adam; ours in the process's state in which `vision_jax.main` trains."""
    case = load_case(name)
    if side.startswith("torch"):
        from tests.benchmarks.networks import Form

        return case.torch("adam", Form("channels-last" in side, "compiled" in side, dtype))
    from tests.benchmarks.plain import plain_formulations
    from vision_jax import memory

    memory.keep_freed_memory()
    subject = case.ours("adam", dtype)
    if side == "plain":
        compile_step = subject.compile

        def compile_plain() -> None:
            with plain_formulations():
                compile_step()

        subject.compile = compile_plain
    return subject


def check(name: str) -> Row:
    """Relative difference of the losses, and the largest one of a parameter's gradient (Euclidean norms).

    Norms, because single entries may differ wholly: a ReLU whose input is zero to rounding lets one side's through.
    In float32, not TF32, whatever the type that is timed.
    """
    import jax
    import numpy as np
    import torch

    from tests.benchmarks.networks import Form

    jax.config.update("jax_default_matmul_precision", "highest")
    torch.backends.cudnn.allow_tf32 = False
    case = load_case(name)
    ours, reference = case.ours("sgd"), case.torch("sgd", Form())
    before = ours.parameters(), reference.parameters()
    ours.step()
    reference.step()
    moved, expected = (
        {key: start[key] - side.parameters()[key] for key in start}
        for start, side in zip(before, (ours, reference), strict=True)
    )
    if set(expected) - set(moved):
        raise ValueError(f"the two sides of {case.network} have different parameters: {set(moved) ^ set(expected)}")
    loss = abs(ours.loss() - reference.loss()) / max(abs(reference.loss()), 1e-30)
    floor = 1e-3 * max((np.linalg.norm(value) for value in expected.values()), default=1.0)
    gradient = max(
        (np.linalg.norm(moved[key] - value) / max(np.linalg.norm(value), floor) for key, value in expected.items()),
        default=0.0,
    )
    if not (loss < 1e-4 and gradient < 1e-2):
        raise ValueError(f"{case.network}: losses differ by {loss:.1e} and gradients by {gradient:.1e}; nothing timed")
    return {"loss_difference": float(loss), "gradient_difference": float(gradient)}


def _burst(step: Any, seconds: float) -> float:
    """Seconds per step over at least `seconds`."""
    import jax

    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < seconds:
        jax.block_until_ready(step())
        steps += 1
    return (time.perf_counter() - began) / steps


def serve(name: str, side: str, dtype: str) -> None:
    """Runs bursts of one side's step: reads their lengths in seconds, a line each, and answers seconds per step."""
    subject = load_side(name, side, dtype)
    for line in sys.stdin:
        print(_burst(subject.step, float(line)), flush=True)


class Server:
    """A process of its own for one side: memory, threads and allocator are not shared with the other side."""

    def __init__(self, name: str, side: str, dtype: str):
        command = [sys.executable, "-m", "tests.benchmarks.train_step", "--measure", "serve", "--cases", name]
        self.process = subprocess.Popen(
            [*command, "--side", side, "--dtype", dtype], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def burst(self, seconds: float) -> float:
        """Seconds per step over at least `seconds`."""
        print(seconds, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a side died")
        return float(answer)

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def measure_times(name: str, rounds: int, burst: float, dtype: str) -> Row:
    """Times the sides in turn."""
    sides = {side: Server(name, side, dtype) for side in ("ours", *torch_sides())}
    for side in sides.values():
        side.burst(burst)  # compiles
        side.burst(burst)
    samples = {key: [] for key in sides}
    for _ in range(rounds):
        for key, side in sides.items():
            samples[key].append(side.burst(burst))
    for side in sides.values():
        side.close()
    medians = {key: statistics.median(values) for key, values in samples.items()}
    best = min((key for key in sides if key != "ours"), key=medians.get)
    spread = {key: (max(values) - min(values)) / medians[key] for key, values in samples.items()}
    # Of neighbors in time: other work on the machine slows both.
    ratio = statistics.median(a / b for a, b in zip(samples["ours"], samples[best], strict=True))
    return {"seconds": medians, "spread": spread, "samples": samples, "torch_best": best, "ratio": ratio}


def _resident(field: str) -> int:
    """Bytes of this process's VmRSS or VmHWM."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} in /proc/self/status")


def measure_memory(name: str, side: str, dtype: str) -> Row:
    """Peak resident size of ten steps over that of a process in which all is imported and started; a GPU's own peak."""
    import jax
    import torch

    from vision_jax import memory

    if jax.default_backend() == "gpu":
        subject = load_side(name, side, dtype)
        for _ in range(10):
            jax.block_until_ready(subject.step())
        ours = jax.devices()[0].memory_stats()["peak_bytes_in_use"]
        return {"peak_bytes": torch.cuda.max_memory_allocated() if side.startswith("torch") else ours}
    load_side(name, side, dtype)  # for what it imports and starts; dropped again
    gc.collect()
    memory.release_memory()
    before = _resident("VmRSS")
    subject = load_side(name, side, dtype)
    memory.release_memory()  # before and after, as the loop does
    subject.compile()
    memory.release_memory()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    for _ in range(10):
        jax.block_until_ready(subject.step())
    return {"peak_bytes": _resident("VmHWM") - before}


def measure_compilation(name: str, side: str, dtype: str) -> Row:
    """Seconds to trace, lower and compile the step."""
    import jax

    subject = load_side(name, side, dtype)
    jax.clear_caches()  # Of the trace: pooling is chosen in it.
    began = time.perf_counter()
    subject.compile()
    return {"compile_seconds": time.perf_counter() - began}


def measure_startup(name: str, side: str, dtype: str) -> Row:
    """One step; the parent holds the watch."""
    import jax

    jax.block_until_ready(load_side(name, side, dtype).step())
    return {}


def _child(*arguments: str, **environment: str) -> tuple[Row, float]:
    """Runs this file with `arguments`; its JSON and the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.train_step", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]), seconds


def measure(name: str, options: argparse.Namespace) -> Row:
    """All measurements of one case."""
    row, _ = _child("--measure", "check", "--cases", name)
    row |= measure_times(name, options.rounds, options.burst, options.dtype)
    if options.quick:
        return row
    case = ("--cases", name, "--dtype", options.dtype, "--side")
    compiling = {side: _child("--measure", "compilation", *case, side)[0] for side in ("ours", "plain")}
    row["compile_seconds"] = {side: value["compile_seconds"] for side, value in compiling.items()}
    row["compile_ratio"] = row["compile_seconds"]["ours"] / row["compile_seconds"]["plain"]
    torch_side = row["torch_best"]
    with tempfile.TemporaryDirectory() as cache:
        settings = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        row["startup_seconds"] = {
            "cold": _child("--measure", "startup", *case, "ours", **settings)[1],
            "warm": _child("--measure", "startup", *case, "ours", **settings)[1],
            "torch": _child("--measure", "startup", *case, torch_side)[1],
        }
        peaks = {side: _child("--measure", "memory", *case, side, **settings)[0] for side in ("ours", torch_side)}
    row["peak_bytes"] = {side: value["peak_bytes"] for side, value in peaks.items()}
    row["memory_ratio"] = row["peak_bytes"]["ours"] / row["peak_bytes"][torch_side]
    return row


def environment() -> Row:
    """What the figures depend on."""
    import jax
    import torch

    model = next(
        (
            line.split(":")[1].strip()
            for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "load_before": os.getloadavg()[0],
        "jax": jax.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _line(name: str, row: Row) -> str:
    cells = [
        f"{name:27}",
        f"{row['seconds']['ours'] * 1e3:9.1f}",
        f"{row['seconds'][row['torch_best']] * 1e3:9.1f}",
        f"{row['ratio']:6.2f}",
        f"{row['spread']['ours']:7.0%}",
        f"{row['gradient_difference']:9.0e}",
    ]
    if "memory_ratio" in row:
        start = row["startup_seconds"]
        cells += [
            f"{row['memory_ratio']:7.2f}",
            f"{row['compile_seconds']['ours']:7.1f}",
            f"{row['compile_ratio']:6.2f}",
            f"{start['cold']:6.1f}/{start['warm']:.1f}/{start['torch']:.1f}",
        ]
    return " ".join(cells)


def main() -> None:
    """Measures and prints; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="starts of the names of the cases")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--burst", type=float, default=0.5, help="seconds per side and round")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of both sides")
    parser.add_argument("--json", type=pathlib.Path, help="a list of runs, to which this one is added")
    parser.add_argument("--quick", action="store_true", help="times only")
    measures = ("check", "serve", "compilation", "memory", "startup")
    parser.add_argument("--measure", choices=measures, help=argparse.SUPPRESS)
    parser.add_argument("--side", default="ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Of a GPU PyTorch needs a part.
    if options.measure:
        if not options.side.startswith("torch"):
            allocator.start("tests.benchmarks.train_step")  # As `vision_jax.main` does.
        name = options.cases[0]
        match options.measure:
            case "serve":
                serve(name, options.side, options.dtype)
                return
            case "check":
                row = check(name)
            case "compilation":
                row = measure_compilation(name, options.side, options.dtype)
            case "memory":
                row = measure_memory(name, options.side, options.dtype)
            case _:
                row = measure_startup(name, options.side, options.dtype)
        print(json.dumps(row))
        return
    from tests.benchmarks import networks

    result: Row = {"environment": environment() | {"dtype": options.dtype}, "cases": {}}
    print(
        f"{'milliseconds per step':27} {'ours':>9} {'PyTorch':>9} {'ratio':>6} {'spread':>7} {'gradients':>9} "
        f"{'memory':>7} {'compile':>7} {'plain':>6} start-up cold/warm/PyTorch"
    )
    for name in networks.CASES:
        if not any(name.startswith(start) for start in options.cases):
            continue
        try:
            row = measure(name, options)
        except RuntimeError as error:
            print(f"{name:27} {str(error).strip().splitlines()[-1]}", flush=True)
            continue
        result["cases"][name] = row
        print(_line(name, row), flush=True)
    ratios = [row["ratio"] for row in result["cases"].values()]
    if ratios:
        result["geometric_mean"] = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"geometric mean of the ratios: {result['geometric_mean']:.2f}; largest {max(ratios):.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        runs = json.loads(options.json.read_text()) if options.json.exists() else []
        options.json.write_text(json.dumps([*runs, result], indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Steps find the memory of the last one, and one that does not fit is a sentence. Allocators in their own processes."""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax import allocator, memory
from vision_jax.option_table import OPTIONS

MIB = 1 << 20
GB = 10**9


@pytest.fixture(params=["mimalloc", "glibc"])
def run(request, monkeypatch):
    """Runs a program under the allocator: the numbers that it prints."""
    for name in (allocator.VARIABLE, "LD_PRELOAD", *allocator.SETTINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    environment = allocator.environment()
    if request.param == "glibc":
        environment = {allocator.VARIABLE: "glibc"}
    elif not environment:
        pytest.skip("cmeel-mimalloc is not installed")

    def run(program: str) -> list[int]:
        start = "from vision_jax import memory\nimport jax, numpy as np\nfrom jax import numpy as jnp\n"
        start += f"assert memory.keep_freed_memory() == {request.param == 'glibc'}\n"
        done = subprocess.run(
            [sys.executable, "-c", start + program],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [int(number) for number in done.stdout.split()]

    run.allocator = request.param
    return run


STATUS = """
import pathlib
def status(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))
"""

STEPS = (
    STATUS
    + """
import resource

@jax.jit
def step(x):
    return (jnp.outer(x, x) + x) @ x / 8192

x = jnp.ones(4096)
program = step.lower(x).compile()
print(program.memory_analysis().temp_size_in_bytes)
before = status("VmRSS")
for steps in (12, 60):
    for _ in range(steps):
        x = program(x).block_until_ready()
    print(status("VmHWM") - before, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
)


def test_steps_find_the_memory_of_the_last_one(run):
    temporary, grown, faults, grown_later, faults_later = run(STEPS)
    assert temporary > 60 * MIB
    assert (faults_later - faults) / 60 < 0.1 * temporary / 4096  # pages
    # Two, and one more where a step began before the last one's was freed; glibc seldom takes such a place.
    assert max(grown, grown_later) < (5 if run.allocator == "mimalloc" else 20) * temporary


def test_what_is_free_is_released_and_the_rest_kept(run):
    program = """
kept = jnp.full(16 << 20, 7.0).block_until_ready()
dropped = jnp.full(16 << 20, 1.0).block_until_ready()
full = status("VmRSS")
del dropped
memory.release_memory()
print(full - status("VmRSS"), int((np.asarray(kept) != 7.0).sum()))
print(int((np.asarray(jnp.full(16 << 20, 2.0)) != 2.0).sum()))
"""
    returned, *wrong = run(STATUS + program)
    assert returned > 60 * MIB
    assert wrong == [0, 0]


def system(root, files):
    """A /proc and /sys below `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:   8000000 kB\n"}
MACHINE_LEFT = {"on this machine": 8000000 << 10}
GROUP = "under the limit of the control group (the container)"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, {}),
        (MACHINE, MACHINE_LEFT),
        (  # Version 2, the limit is that of the group around it; its file cache can go.
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/one/memory.max": "max\n",
                "sys/fs/cgroup/pods/one/memory.current": "900000000\n",
                "sys/fs/cgroup/pods/memory.max": "5000000000\n",
                "sys/fs/cgroup/pods/memory.current": "3000000000\n",
                "sys/fs/cgroup/pods/memory.stat": "anon 2000000000\nactive_file 1\ninactive_file 1000000000\n",
            },
            {GROUP: 3 * GB},
        ),
        (  # Version 2 inside a container that sees its own group as the root; both limits count.
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "4000000000\n",
                "sys/fs/cgroup/memory.current": "5000000000\n",
            },
            {GROUP: 0},
        ),
        (  # Version 1 inside a container: its path is the host's, the folder its own.
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/1234\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 500000000\n",
            },
            {GROUP: 3 * GB},
        ),
        (
            {
                "proc/self/status": "Name:\tpython\nVmSize:\t 2000000 kB\nVmData:\t 1000000 kB\n",
                "proc/self/limits": (
                    "Limit                     Soft Limit           Hard Limit           Units     \n"
                    "Max data size             unlimited            unlimited            bytes     \n"
                    "Max address space         6144000000           unlimited            bytes     \n"
                ),
            },
            {"under the process's limit (ulimit -v)": 6144000000 - 2048000000},
        ),
    ],
)
def test_what_is_available(tmp_path, files, left):
    assert memory.available(system(tmp_path, files)) == left
    assert memory.available(system(tmp_path, MACHINE)) == MACHINE_LEFT | left


def test_this_machine_has_something_available():
    left = memory.available()
    if sys.platform == "linux":
        assert left["on this machine"] > 10 * MIB
    assert all(free >= 0 for free in left.values())


@pytest.fixture(scope="module")
def step():
    """A step that needs 64 MiB and returns as much, of which its argument gives half."""

    def step(x):
        y = jnp.concatenate([x, x + 1])
        return y[: len(x)] + y.sum(), jnp.outer(jnp.sin(x[:1024]), x[:8192])

    return jax.jit(step, donate_argnums=0).lower(jnp.ones(8 * MIB)).compile()


def test_a_step_that_does_not_fit_is_a_sentence_with_both_figures(step, monkeypatch):
    cpu = jax.devices()[:1]
    analysis = step.memory_analysis()
    assert analysis.alias_size_in_bytes == 32 * MIB
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - 32 * MIB
    assert needed >= 32 * MIB
    left = {"on this machine": 20 * GB, GROUP: needed}
    monkeypatch.setattr(memory, "available", lambda: left)
    memory.check(step, cpu)
    left[GROUP] -= 1
    with pytest.raises(memory.OutOfMemoryError) as caught:
        memory.check(step, cpu)
    assert f"needs {needed / 1e6:.0f} MB" in str(caught.value)
    assert f"only {needed / 1e6:.0f} MB are left {GROUP}" in str(caught.value)
    assert "--config.data.batch_size" in str(caught.value)
    left[GROUP] = 4 * needed
    memory.check(step, jax.devices()[:4])
    left[GROUP] -= 1
    with pytest.raises(MemoryError):
        memory.check(step, jax.devices()[:4])
    left.clear()
    memory.check(step, cpu)


def test_an_accelerator_says_what_it_has(step):
    def device(**statistics):
        return types.SimpleNamespace(platform="gpu", device_kind="GPU", id=1, memory_stats=lambda: statistics or None)

    memory.check(step, [device()])
    memory.check(step, [device(bytes_limit=2 * GB, bytes_in_use=GB)])
    with pytest.raises(memory.OutOfMemoryError, match=r"only 1 MB are left on GPU 1\."):
        memory.check(
            step, [device(bytes_limit=2 * GB, bytes_in_use=GB), device(bytes_limit=GB, bytes_in_use=999 * 10**6)]
        )


def test_the_advice_names_options_that_exist():
    from vision_jax import config

    known = {f"--config.{name}" for name, _ in config.walk(OPTIONS)}
    named = {word.strip("(),;.").partition("=")[0] for word in memory._ADVICE.split() if "--config" in word}
    assert named and named <= known


_xla = jax.errors.JaxRuntimeError


def test_an_allocation_that_fails_is_explained(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: {"on this machine": 20 * GB, GROUP: GB})
    expected = rf"Out of memory: 140737\.5 GB could not be had; 1\.0 GB are left {re.escape(GROUP)}\. Less is needed"
    with pytest.raises(memory.OutOfMemoryError, match=expected), memory.explained():
        jnp.zeros(1 << 47, jnp.uint8).block_until_ready()
    with pytest.raises(memory.OutOfMemoryError, match=r"128\. TiB could not be had; 1\.0 GB"), memory.explained():
        np.zeros(1 << 47, np.uint8)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_xla("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."), "17.2 GB could not"),
        (_xla("INTERNAL: Error dispatching computation: Out of memory allocating 16385168 bytes."), "16 MB could not"),
        (_xla("RESOURCE_EXHAUSTED: too much\nmore"), "Out of memory: RESOURCE_EXHAUSTED: too much. Less"),
        (MemoryError(), "Out of memory: the system gave no more. Less"),
        (ImportError("a.so: failed to map segment from shared object"), "a.so: failed to map segment"),
        (RuntimeError("can't start new thread"), "can't start new thread. Less"),
    ],
)
def test_other_words_for_it(error, expected, monkeypatch):
    monkeypatch.setattr(memory, "available", dict)
    with pytest.raises(memory.OutOfMemoryError, match=expected), memory.explained():
        raise error


def test_an_error_that_comes_of_it_is_explained_and_a_step_that_was_refused_stays():
    with pytest.raises(memory.OutOfMemoryError, match="No checkpoint could be written"), memory.explained():
        raise OSError("No checkpoint could be written") from MemoryError()
    with pytest.raises(memory.OutOfMemoryError, match="The step"), memory.explained():
        raise memory.OutOfMemoryError("The step")


@pytest.mark.parametrize(
    "text",
    [
        "INTERNAL: something else",
        "RESOURCE_EXHAUSTED: Failed to write 111123 bytes to file 9: No space left on device [os_error_code='28']",
    ],
)
def test_other_errors_stay_what_they_are(text):
    with pytest.raises(jax.errors.JaxRuntimeError, match=text.partition(":")[0]), memory.explained():
        raise _xla(text)
    with pytest.raises(ValueError, match="No checkpoint"), memory.explained():
        raise ValueError("No checkpoint") from _xla(text)


WIDE = "--config.model.cnn.channels=(32768, 8)"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process as Linux has them")
def test_a_run_that_does_not_fit_ends_with_the_sentence(repository, tmp_path, monkeypatch):
    """Under a limit of 6 GB, where a step takes more than 30."""
    for name in (allocator.VARIABLE, "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("VISION_JAX_NATIVE", "0")  # There is nothing to compile then.
    config = f"--config={repository}/configs/digits_cnn.py"
    main = [sys.executable, "-m", "vision_jax.main", config, "--config.data.batch_size=1024", WIDE, "--workdir=run"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 6000000; exec "$@"', "sh", *main], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("ERROR: The compiled step needs 3")
    assert "GB are left under the process's limit (ulimit -v)" in sentence
    assert "--config.data.batch_size" in sentence
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["allocator"] == ("libmimalloc.so" if allocator.environment() else "libc.so.6")


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process as Linux has them")
@pytest.mark.parametrize("malloc", ["mimalloc", "glibc"])
def test_memory_that_is_refused_in_the_middle_of_a_run_is_a_sentence(malloc, repository, tmp_path, monkeypatch):
    """From the first rows on a run has 60 MiB more than it holds then; its evaluation takes over 100."""
    for name in (allocator.VARIABLE, "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    if malloc == "glibc":
        monkeypatch.setenv(allocator.VARIABLE, "glibc")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # As users have it: where one process plays several CPU devices, XLA aborts if only one of them is refused memory.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    options = [
        "--config.data.batch_size=16",
        "--config.data.eval_batch_size=200",
        "--config.train.steps_per_dispatch=1",
    ]
    options += ["--config.log.every_epochs=0", "--config.log.every_steps=2"]
    options += ["--config.log.tensorboard=False", "--config.model.cnn.channels=(2048, 8)", "--workdir=run"]
    command = [sys.executable, "-m", "vision_jax.main", f"--config={repository}/configs/digits_cnn.py:smoke", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "run/metrics.jsonl"
    while not (rows.exists() and rows.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    held = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize"))
    resource.prlimit(process.pid, resource.RLIMIT_AS, (held + 60 * MIB, resource.RLIM_INFINITY))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert errors.splitlines()[-1].startswith("ERROR: ")
    assert not any(dump in errors for dump in ("Traceback", "Fatal Python error", "terminate called")), errors
    assert not (tmp_path / "run/lock.json").exists()

"""XLA's large buffers: one place for every step's, and nobody else's. In processes of their own, for it is for good."""

import os
import subprocess
import sys

import pytest

from vision_jax import memory
from vision_jax.ops import native

MIB = 1 << 20


def run(program: str, **environment: str) -> list[int]:
    """The numbers that the program prints."""
    start = "import jax, numpy as np\nfrom jax import numpy as jnp\nfrom vision_jax import memory\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(number) for number in done.stdout.split()]


@pytest.fixture(scope="module")
def pool():
    """Skips where the pool cannot be compiled."""
    try:
        native.load(memory.SOURCE)
    except native.UnavailableError as reason:
        pytest.skip(str(reason))


STATUS = """
import pathlib
def status(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))
"""

STEPS = (
    STATUS
    + """
@jax.jit
def step(x):
    return (jnp.outer(x, x) + x) @ x / 8192

x = jnp.ones(4096)
program = step.lower(x).compile()
temporary = program.memory_analysis().temp_size_in_bytes
before = status("VmRSS")
for _ in range(12):
    x = program(x).block_until_ready()
print(temporary, status("VmHWM") - before)
"""
)


def test_steps_share_one_place(pool):
    temporary, grown = run("assert memory.keep_freed()\n" + STEPS)
    assert temporary > 60 * MIB
    assert grown < 1.3 * temporary


def test_buffers_stay_apart():
    """Arrays of many sizes, around the smallest that the pool takes as well, made and dropped in random order."""
    program = """
memory.keep_freed()
rng = np.random.default_rng(0)
alive, wrong, places = {}, 0, set()
for i in range(600):
    size = int(rng.choice([1000, (1 << 20) - 8, 1 << 20, (1 << 20) + 8, rng.integers(1 << 20, 1 << 23)]))
    array = jax.device_put(np.full(size, i, np.float32), may_alias=False).block_until_ready()
    alive[i] = array
    places.add(array.unsafe_buffer_pointer())
    while len(alive) > 12:
        key = int(rng.choice(list(alive)))
        wrong += int((np.asarray(alive.pop(key)) != key).sum())
wrong += sum(int((np.asarray(array) != key).sum()) for key, array in alive.items())
print(wrong, len(places))
"""
    wrong, places = run(program)
    assert wrong == 0
    assert places < 600  # Some places were used again, or there was nothing to get wrong.


def test_what_is_free_is_given_back_and_the_rest_kept(pool):
    program = """
memory.keep_freed()
kept = jnp.full(16 << 20, 7.0).block_until_ready()
dropped = jnp.full(16 << 20, 1.0).block_until_ready()
full = status("VmRSS")
del dropped
memory.give_back()
print(full - status("VmRSS"), int((np.asarray(kept) != 7.0).sum()))
print(int((np.asarray(jnp.full(16 << 20, 2.0)) != 2.0).sum()))
"""
    returned, *wrong = run(STATUS + program)
    assert returned > 60 * MIB
    assert wrong == [0, 0]


def test_does_without_a_compiler():
    temporary, grown = run("assert not memory.keep_freed()\n" + STEPS, VISION_JAX_NATIVE="0")
    assert grown > temporary / 2

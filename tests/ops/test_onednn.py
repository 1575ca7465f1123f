"""oneDNN is called where it may be, and where it cannot be had everything works without it."""

import concurrent.futures
import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import forked_commands
from vision_jax import ops
from vision_jax.ops import onednn

TARGET = "VisionJaxConvolution"
needs_onednn = pytest.mark.skipif(not onednn.available(), reason="oneDNN cannot be used on this machine")


def convolution(x, w):
    return ops.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def operands(seed=0, channels=8):
    rng = np.random.default_rng(seed)
    shapes = (4, 12, 12, channels), (3, 3, channels, 16)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


@needs_onednn
def test_one_device_calls_it_and_several_do_not():
    x, w = operands()
    assert TARGET in jax.jit(convolution).lower(x, w).as_text()
    mesh = Mesh(np.array(jax.devices()), "batch")
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    whole = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    assert TARGET not in jax.jit(convolution).lower(split, whole).as_text()


@needs_onednn
@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_multiplied_by_processors_that_can_and_in_float32_by_others(native, monkeypatch):
    if native and not onednn.takes_bfloat16():
        pytest.skip("this processor does not multiply bfloat16")
    monkeypatch.setattr(onednn, "takes_bfloat16", lambda: native)
    x, w = (value.astype(jnp.bfloat16) for value in operands(channels=24))

    def value_and_gradients(x, w):
        return convolution(x, w), *jax.grad(lambda x, w: (convolution(x, w) * jnp.sin(x[..., :16])).sum(), (0, 1))(x, w)

    text = jax.jit(lambda x, w: value_and_gradients(x, w)).lower(x, w).as_text()
    assert text.count(f"@{TARGET}") >= 3 and (f"@{TARGET}(%arg0, %arg1)" in text) == native
    found = jax.jit(lambda x, w: value_and_gradients(x, w))(x, w)
    expected = jax.jit(value_and_gradients)(x.astype(jnp.float32), w.astype(jnp.float32))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-7, atol=2**-7 * float(jnp.abs(b).max()))


@needs_onednn
def test_a_program_from_the_compilation_cache_finds_it_in_a_new_process(tmp_path):
    program = (
        "import jax; from tests.ops.test_onednn import *; "
        f"jax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r}); "
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); "
        "print(float(jax.jit(convolution)(*operands()).sum()))"
    )
    first, second = (forked_commands.run([sys.executable, "-c", program]) for _ in range(2))
    assert first.returncode == second.returncode == 0, second.stderr
    assert first.stdout == second.stdout
    assert list(tmp_path.glob("jit_convolution*"))


@needs_onednn
def test_threads_do_not_share_scratch_memory():
    """More channels than a vector: the kernel is laid out anew for each call, in memory of the calling thread."""
    cases = [operands(seed, channels=24) for seed in range(4)]
    compiled = jax.jit(jax.grad(lambda w, x: (convolution(x, w) ** 2).sum()))
    expected = [np.asarray(compiled(w, x)) for x, w in cases]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            found = pool.map(lambda case: np.asarray(compiled(case[1], case[0])), cases)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "environment,reason",
    [({"VISION_JAX_NATIVE": "0"}, "VISION_JAX_NATIVE=0"), ({"CXX": "/bin/false"}, "could not compile")],
    ids=["switched off", "compiler that fails"],
)
def test_without_it_xlas_operations_do(environment, reason, tmp_path, monkeypatch):
    if sys.platform != "linux" and reason != "VISION_JAX_NATIVE=0":
        pytest.skip("not tried on this system")
    program = (
        "from absl import logging; logging.set_verbosity('info'); logging.use_absl_handler(); "
        "import jax; from tests.ops.test_onednn import *; text = jax.jit(convolution).lower(*operands()).as_text(); "
        "assert TARGET not in text; print(float(jax.jit(convolution)(*operands()).sum()))"
    )
    for name, value in {**environment, "VISION_JAX_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    done = forked_commands.run([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    assert reason in done.stderr
    np.testing.assert_allclose(float(done.stdout), float(jax.jit(convolution)(*operands()).sum()), rtol=1e-5)

"""Building blocks against their definitions, written out in NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax.models import layers
from vision_jax.models.network import Network


def _random(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, size=shape).astype(np.float32)


def _batch_norm(x, train, **options):
    norm = layers.BatchNorm(**options)
    stats = {"mean": jnp.full(x.shape[-1], 0.5), "var": jnp.full(x.shape[-1], 2.0)}
    params = {"scale": jnp.full(x.shape[-1], 3.0), "bias": jnp.full(x.shape[-1], -1.0)}
    y, state = norm.apply(
        {"params": params, "batch_stats": stats}, jnp.asarray(x), train=train, mutable=["batch_stats"]
    )
    return np.asarray(y), state.get("batch_stats", stats)


def test_batch_norm_normalizes_with_the_biased_variance_and_keeps_the_unbiased_one():
    x = _random((2, 3, 2, 4))
    y, stats = _batch_norm(x, train=True, momentum=0.25)
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(y, 3 * (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) - 1, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.75 * 0.5 + 0.25 * flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.75 * 2.0 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_in_evaluation_uses_and_leaves_the_running_statistics():
    x = _random((2, 3, 2, 4))
    y, stats = _batch_norm(x, train=False)
    np.testing.assert_allclose(y, 3 * (x - 0.5) / np.sqrt(2 + 1e-5) - 1, rtol=1e-5)
    np.testing.assert_array_equal(stats["mean"], np.full(4, 0.5))


def test_batch_norm_variance_survives_a_mean_far_from_zero():
    x = 100.0 + 0.1 * _random((64, 4, 4, 2))
    norm = layers.BatchNorm(momentum=1.0)
    stats = {"mean": jnp.full(2, 100.0), "var": jnp.ones(2)}
    variables = {"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}, "batch_stats": stats}
    _, state = norm.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    exact = x.reshape(-1, 2).astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(state["batch_stats"]["var"], exact, rtol=1e-4)


def test_batch_norm_refuses_one_value_per_channel():
    with pytest.raises(ValueError, match="one value per channel"):
        _batch_norm(_random((1, 1, 1, 4)), train=True)


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    x = jnp.asarray(_random((2, 4, 4, 4)), jnp.bfloat16)
    y, stats = _batch_norm(x, train=True, dtype=jnp.bfloat16)
    assert y.dtype == jnp.bfloat16 and stats["var"].dtype == jnp.float32


@pytest.mark.parametrize(
    "size,window,stride,padding", [(7, 3, 2, 0), (8, 3, 2, 0), (6, 2, 2, 0), (5, 2, 2, 0), (6, 3, 1, 1)]
)
def test_ceil_mode_counts_partial_windows(size, window, stride, padding):
    x = _random((1, size, size, 2))
    found = np.asarray(layers.max_pool(jnp.asarray(x), window, stride, padding, ceil_mode=True))
    border = (padding, padding + window)
    padded = np.pad(x, ((0, 0), border, border, (0, 0)), constant_values=-np.inf)
    outputs = -(-(size + 2 * padding - window) // stride) + 1
    outputs -= (outputs - 1) * stride >= size + padding
    starts = range(0, outputs * stride, stride)
    expected = [[padded[:, i : i + window, j : j + window].max((1, 2)) for j in starts] for i in starts]
    np.testing.assert_array_equal(found, np.array(expected).transpose(2, 0, 1, 3))


@pytest.mark.parametrize("size", [1, 2, 7, 9, 14])
def test_adaptive_pooling_means_pytorchs_windows(size):
    x = _random((1, size, size, 2))
    found = np.asarray(layers.adaptive_avg_pool(jnp.asarray(x), 7))
    edges = [(i * size // 7, -(-(i + 1) * size // 7)) for i in range(7)]
    expected = [[x[0, a:b, c:d].mean((0, 1)) for c, d in edges] for a, b in edges]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


@pytest.mark.parametrize("stride,padding,out", [(1, 0, 7), (2, 1, 8)])
def test_transposed_convolution_has_pytorchs_size(stride, padding, out):
    layer = layers.ConvTranspose(3, 4, stride, padding)
    y, _ = jax.eval_shape(lambda: layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 2))))
    assert y.shape == (1, out, out, 3)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    x = jnp.ones((100, 100))
    y = layers.Dropout(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float((y == 0).mean()) - 0.25) < 0.02
    assert layers.Dropout(0.25).apply({}, x, train=False) is x


def test_activation_names_the_closest():
    with pytest.raises(ValueError, match="did you mean 'leaky_relu'"):
        layers.activation("leakyrelu")
    np.testing.assert_allclose(layers.activation("leaky_relu")(jnp.array([-1.0, 2.0])), [-0.2, 2.0])


def test_per_block_takes_a_number_or_one_per_block():
    assert layers.per_block(0.1, 3, "block_dropout") == (0.1, 0.1, 0.1)
    assert layers.per_block((0.1, 0.2), 2, "block_dropout") == (0.1, 0.2)
    with pytest.raises(ValueError, match="block_dropout has 2 values for 3 blocks"):
        layers.per_block((0.1, 0.2), 3, "block_dropout")


def test_self_attention_starts_as_the_identity():
    x = jnp.asarray(_random((2, 3, 3, 8)))
    y, _ = layers.SelfAttention().init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


class _TwoParts(Network):
    @nn.compact
    def forward(self, x, *, train):
        x = layers.BatchNorm(name="first")(x, train=train)
        x = layers.Dropout(0.5, name="drop")(x, train=train)
        return layers.BatchNorm(name="second")(x, train=train)


def test_frozen_parts_run_as_in_evaluation():
    x = jnp.asarray(_random((4, 3)))
    variables = _TwoParts().init(jax.random.key(0), x, train=False)
    model = _TwoParts(frozen=("first", "drop"))
    _, state = model.apply(variables, x, train=True, mutable=["batch_stats"])  # No dropout rng: it is off.
    before, after = variables["batch_stats"], state["batch_stats"]
    np.testing.assert_array_equal(after["first"]["mean"], before["first"]["mean"])
    assert np.abs(after["second"]["mean"] - before["second"]["mean"]).min() > 0.1

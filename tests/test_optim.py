"""Update rules against hand-written formulas and PyTorch, schedules at their corners."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import config as config_lib
from vision_jax import optim


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "constant"}, {0: 1.0, 50: 1.0, 99: 1.0}),
        ({"name": "step"}, {0: 1.0, 49: 1.0, 50: 0.1, 75: 0.01}),
        ({"name": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"name": "cosine", "final_fraction": 0.2}, {100: 0.2}),
        ({"name": "one_cycle"}, {0: 0.04, 30: 1.0, 100: 4e-6}),
    ],
)
def test_schedules(options, expected):
    config = config_lib.default()
    config.schedule.update(options)
    rate = optim.schedule(config.schedule, 1.0, 100, 0)
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, abs=2e-5), step


def test_warm_up_then_schedule():
    config = config_lib.default()
    config.schedule.name = "cosine"
    rate = optim.schedule(config.schedule, 2.0, 100, 10)
    assert [float(rate(s)) for s in (0, 5, 10, 55, 100)] == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0], abs=1e-6)
    with pytest.raises(ValueError, match="takes 100 of 100 training steps"):
        optim.schedule(config.schedule, 2.0, 100, 100)


PARAMS = {"kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "bias": np.ones(4, np.float32)}


def run_ours(options, steps=5):
    config = config_lib.default()
    config.optimizer.update(options)
    rule = optim.optimizer(config.optimizer, lambda step: jnp.asarray(0.1, jnp.float32))
    params = jax.tree.map(jnp.asarray, PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        state = rule.init(params)
        for i in range(steps):
            gradients = jax.tree.map(lambda p, i=i: jnp.sin(p * (i + 1)), params)
            updates, state = rule.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("options", "torch_name", "torch_options"),
    [
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True}),
        ({"name": "sgd", "momentum": 0.9, "nesterov": False}, "SGD", {"momentum": 0.9}),
        ({"name": "sgd", "momentum": 0.0}, "SGD", {}),
        ({"name": "adam", "b1": 0.5}, "Adam", {"betas": (0.5, 0.999)}),
        ({"name": "adamw"}, "AdamW", {}),
    ],
)
def test_rules_are_pytorch_s_with_decay_on_kernels_alone(options, torch_name, torch_options):
    torch = pytest.importorskip("torch")
    ours = run_ours({**options, "weight_decay": 0.05})
    tensors = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in PARAMS.items()}
    groups = [{"params": [tensors["kernel"]], "weight_decay": 0.05}, {"params": [tensors["bias"]], "weight_decay": 0.0}]
    rule = getattr(torch.optim, torch_name)(groups, lr=0.1, **torch_options)
    for i in range(5):
        for tensor in tensors.values():
            tensor.grad = torch.sin(tensor.detach() * (i + 1))
        rule.step()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(ours[name], tensor.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_lion_moves_by_the_rate_and_muon_orthogonally():
    moved = jax.tree.map(lambda new, old: np.abs(new - old), run_ours({"name": "lion"}, steps=1), PARAMS)
    assert np.allclose(moved["bias"], 0.1) and np.allclose(moved["kernel"], 0.1)
    update = np.asarray(run_ours({"name": "muon"}, steps=1)["kernel"]) - PARAMS["kernel"]
    singular = np.linalg.svd(update, compute_uv=False)
    # sin of a matrix of rank 2 has more ranks; Newton-Schulz brings the large singular values near one another.
    assert singular[1] > 0.5 * singular[0] > 0


def test_muon_takes_kernels_of_convolutions_as_matrices():
    config = config_lib.default()
    config.optimizer.name = "muon"
    rule = optim.optimizer(config.optimizer, lambda step: jnp.asarray(1.0, jnp.float32))
    params = {"conv": {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)}}
    gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(0), p.shape), params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(gradients, rule.init(params), params)
    singular = np.linalg.svd(np.asarray(updates["conv"]["kernel"]).reshape(36, 8), compute_uv=False)
    assert singular.min() > 0.4 * singular.max()


def test_clipping_bounds_the_global_norm():
    unclipped = run_ours({"name": "sgd", "momentum": 0.0}, steps=1)
    clipped = run_ours({"name": "sgd", "momentum": 0.0, "clip_norm": 0.5}, steps=1)
    distance = optax.tree.norm(jax.tree.map(lambda a, b: a - b, clipped, PARAMS))
    assert float(distance) == pytest.approx(0.05, rel=1e-5)
    assert not np.allclose(unclipped["bias"], clipped["bias"])


def test_accumulation_averages_gradients_and_counts_steps_of_the_schedule():
    config = config_lib.default()
    config.optimizer.update({"name": "sgd", "momentum": 0.0, "accumulate": 2})
    rates = []

    def rate(step):
        rates.append(step)
        return jnp.asarray(step, jnp.float32) + 1.0

    rule = optim.optimizer(config.optimizer, rate)
    params, state = jnp.zeros(2), None
    with jax.numpy_dtype_promotion("standard"):
        state = rule.init(params)
        seen = []
        for gradient in (1.0, 3.0, 5.0, 7.0):
            updates, state = rule.update(jnp.full(2, gradient), state, params)
            seen.append(float(updates[0]))
    # Two updates: mean gradients 2 and 6, at the rates of steps 0 and 2.
    assert seen == [0.0, -2.0, 0.0, -18.0]


def test_average_is_the_exponential_one():
    assert optim.average(0.9, jnp.asarray(1.0), jnp.asarray(2.0)) == pytest.approx(1.1)


def test_the_warm_up_leaves_a_step_for_the_schedule():
    config = config_lib.default()
    config.schedule.name = "cosine"
    rate = optim.schedule(config.schedule, 2.0, 100, 99)
    assert [float(rate(step)) for step in (98, 99, 100)] == pytest.approx([2 * 98 / 99, 2.0, 0.0])
    with pytest.raises(ValueError, match="takes 1 of 1 training steps"):
        optim.schedule(config.schedule, 2.0, 1, 1)
    assert float(optim.schedule(config.schedule, 2.0, 1, 0)(0)) == 2.0
    # A run of no step, which only evaluates, asks for no rate.
    assert float(optim.schedule(config.schedule, 2.0, 0, 10)(0)) == 0.0
    assert float(optim.schedule(config.schedule, 2.0, 0, 0)(0)) == 2.0


def test_boundaries_are_fractions_of_the_whole_training_warm_up_included():
    config = config_lib.default()
    config.schedule.update({"name": "step", "boundaries": (0.5,), "factor": 0.1})
    rate = optim.schedule(config.schedule, 1.0, 100, 20)
    assert [float(rate(step)) for step in (10, 20, 49, 50, 51)] == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1])


def test_muon_turns_dense_matrices_and_leaves_biases_to_adam():
    config = config_lib.default()
    config.optimizer.update({"name": "muon", "weight_decay": 0.0})
    rule = optim.optimizer(config.optimizer, lambda step: jnp.asarray(0.1, jnp.float32))
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.normal(size=(side, 4)))[0] for side in (12, 4))
    gradient = (left * [1.0, 0.5, 0.2, 0.1]) @ right.T
    gradients = {
        "dense": {"kernel": jnp.asarray(gradient, jnp.float32), "bias": jnp.asarray([0.1, -2.0, 3.0, 0.5])},
        "conv": {"kernel": jnp.asarray(gradient, jnp.float32).reshape(2, 3, 2, 4)},
    }
    params = jax.tree.map(jnp.ones_like, gradients)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(gradients, rule.init(params), params)
    kernel, bias = (np.asarray(updates["dense"][name]) for name in ("kernel", "bias"))
    # All directions count alike, however small their part in the gradient.
    singular = np.linalg.svd(kernel, compute_uv=False)
    assert singular.min() > 0.5 * singular.max()
    assert np.diag(left.T @ kernel @ right).max() < 0
    assert np.abs(bias).max() == pytest.approx(np.abs(bias).min(), rel=1e-3)  # Adam's first update.
    conv = np.asarray(updates["conv"]["kernel"]).reshape(12, 4)
    np.testing.assert_allclose(conv / np.linalg.norm(conv), kernel / np.linalg.norm(kernel), atol=1e-3)


def test_gradients_are_summed_only_where_steps_accumulate():
    config = config_lib.default()
    config.optimizer.update({"name": "sgd", "momentum": 0.0})
    sizes = []
    for every in (1, 2):
        config.optimizer.accumulate = every
        state = optim.optimizer(config.optimizer, lambda step: jnp.asarray(0.1)).init(jnp.zeros(1000))
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(state)))
    assert sizes[0] < 10 and 1000 <= sizes[1] < 1010


@pytest.mark.parametrize("name", ["adamw", "lion", "muon"])
def test_decoupled_decay_shrinks_kernels_by_rate_times_decay(name):
    with_decay, without = (run_ours({"name": name, "weight_decay": decay}, steps=1) for decay in (0.5, 0.0))
    np.testing.assert_allclose(without["kernel"] - with_decay["kernel"], 0.1 * 0.5 * PARAMS["kernel"], atol=1e-6)
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])


def test_updates_are_scaled_by_the_multiplier_of_their_path():
    config = config_lib.default()
    config.optimizer.update({"name": "sgd", "momentum": 0.0})
    rule = optim.optimizer(
        config.optimizer, lambda step: 0.5, lambda path: {"body": 0.1, "head": 2.0}[path.partition("/")[0]]
    )
    params = {"body": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(params, rule.init(params), params)
    assert float(updates["body"]["kernel"][0]) == pytest.approx(-0.05)
    assert float(updates["head"]["kernel"][0]) == pytest.approx(-1.0)


def test_norm_is_that_of_all_leaves_together():
    tree = {"a": jnp.asarray([3.0, 0.0]), "b": [jnp.asarray([[4.0]]), jnp.asarray(12.0)]}
    assert float(optim.norm(tree)) == pytest.approx(13.0)


def test_unknown_names_are_refused():
    config = config_lib.default()
    with pytest.raises(ValueError, match="no schedule 'linaer'"):
        optim.schedule({"name": "linaer"}, 1.0, 10, 0)
    with pytest.raises(ValueError, match="no optimizer 'adagrad'"):
        optim.optimizer({**config.optimizer, "name": "adagrad"}, lambda step: 0.1)


def test_average_moves_each_leaf_by_a_part_of_its_difference():
    old, new = (
        {"a": jnp.asarray([1.0, 4.0]), "b": jnp.asarray(-2.0)},
        {"a": jnp.asarray([5.0, 4.0]), "b": jnp.asarray(0.0)},
    )
    made = optim.average(0.75, old, new)
    np.testing.assert_allclose(made["a"], [2.0, 4.0])
    assert float(made["b"]) == -1.5


def test_linear_schedule():
    config = config_lib.default()
    config.schedule.update({"name": "linear", "final_fraction": 0.2})
    rate = optim.schedule(config.schedule, 1.0, 100, 20)
    assert [float(rate(step)) for step in (10, 20, 60, 100)] == pytest.approx([0.5, 1.0, 0.6, 0.2])


def test_muon_sgd_brings_kernels_of_convolutions_to_a_norm_and_moves_the_rest_by_sgd():
    config = config_lib.default()
    config.optimizer.update({"name": "muon_sgd", "momentum": 0.6, "weight_decay": 0.01})
    factors = {"conv/kernel": 2.0, "conv/bias": 3.0, "head": 0.5, "fixed": 0.0}
    rule = optim.optimizer(config.optimizer, lambda step: jnp.asarray(0.1, jnp.float32), factors.__getitem__)
    key = jax.random.key(0)
    params = {
        "conv": {"kernel": jax.random.normal(key, (3, 3, 4, 8)), "bias": jnp.ones(8)},
        "head": jnp.ones((8, 2)),
        "fixed": jnp.ones(3),
    }
    gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(gradients, rule.init(params), params)
    scaled = params["conv"]["kernel"] * (8**0.5 / jnp.linalg.norm(params["conv"]["kernel"]))
    moved = np.asarray(params["conv"]["kernel"] + updates["conv"]["kernel"] - scaled).reshape(36, 8)
    singular = np.linalg.svd(moved, compute_uv=False)
    assert singular.min() > 0.2 * 0.5 and singular.max() < 0.2 * 1.3  # Rate times the path's factor.
    assert (moved * np.asarray(gradients["conv"]["kernel"]).reshape(36, 8)).sum() < 0
    # Nesterov's first step is 1 + 0.85 times the gradient; the decay is the same whatever a parameter's factor is.
    for found, factor, gradient in (
        (updates["conv"]["bias"], 3.0, gradients["conv"]["bias"]),
        (updates["head"], 0.5, gradients["head"]),
        (updates["fixed"], 0.0, gradients["fixed"]),
    ):
        decay = 0.01 if factor else 0.0
        np.testing.assert_allclose(found, -0.1 * 1.85 * (factor * gradient + decay), rtol=1e-5)


def test_weight_averaging_is_the_mean_of_the_last_part_and_an_ema_is_constant():
    weight = optim.averaging(0.0, 0.4, 10)
    average, values = 0.0, [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0]
    for step, value in enumerate(values):
        average = optim.average(float(weight(step)), average, value)
        expected = value if step < 6 else np.mean(values[6 : step + 1])
        assert average == pytest.approx(expected)
    assert float(optim.averaging(0.9, 0.0, 10)(7)) == pytest.approx(0.9)
    assert optim.averaging(0.0, 0.0, 10) is None
    assert float(optim.averaging(0.0, 1e-6, 10)(9)) == 0.0  # At least the last step.

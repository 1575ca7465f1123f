"""The classification step and its sums against formulas written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import config as config_lib
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.tasks import base
from vision_jax.tasks.classification import Classification

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(**options):
    config = config_lib.default()
    config.model.name, config.model.mlp = "mlp", dict(hidden=(5,))
    for name, value in options.items():
        section, option = name.split("__")
        config[section][option] = value
    generator = np.random.default_rng(0)
    source = ArraySource(generator.integers(0, 256, (30, 4, 4, 1), dtype=np.uint8), np.repeat([0, 1, 2], [20, 6, 4]))
    dataset = Dataset("toy", {"train": source, "val": source, "test": source}, ("a", "b", "c"), {})
    task = Classification(config, dataset, DURATIONS)
    state = jax.jit(task.init)(jax.random.key(0))
    batch = {"image": jnp.asarray(source.images), "label": jnp.asarray(source.labels)}
    return task, state, batch


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_loss_is_weighted_smoothed_cross_entropy(smoothing, weights):
    task, state, batch = make(train__label_smoothing=smoothing, data__class_weights=weights)
    _, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    logits = np.asarray(task.predict(state, batch["image"])[0], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    labels = np.asarray(batch["label"])
    targets = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    each = (30 / (3 * np.array([20, 6, 4])))[labels] if weights == "balanced" else np.ones(30)
    expected = (each * -(targets * log_p).sum(-1)).sum() / each.sum()
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((logits.argmax(-1) == labels).mean())


def test_masked_examples_do_not_count():
    task, state, batch = make()
    batch["mask"] = jnp.arange(30) < 11
    batch["mask"] = batch["mask"].astype(jnp.float32)
    sums, _ = jax.device_get(jax.jit(task.eval_step)(state, {}, batch, jax.random.key(0)))
    kept = {name: value[:11] for name, value in batch.items()}
    expected, _ = jax.device_get(jax.jit(task.eval_step)(state, {}, kept, jax.random.key(0)))
    assert sums["confusion"].sum() == 11
    np.testing.assert_array_equal(sums["confusion"], expected["confusion"])
    assert sums["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_summary_from_a_known_confusion_matrix():
    task, _, _ = make()
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    summary = task.summarize({"count": np.int32(6), "loss": np.float32(3.0), "confusion": confusion})
    assert summary["accuracy"] == pytest.approx(5 / 6) and summary["loss"] == 0.5
    assert summary["macro_f1"] == pytest.approx((6 / 7 + 4 / 5 + 0) / 3)


def test_images_are_normalized_per_channel():
    task, _, batch = make(data__mean=(0.5,), data__std=(0.25,))
    normal = task.normalize(base.to_unit(batch["image"]))
    np.testing.assert_allclose(normal, (np.asarray(batch["image"]) / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


def test_evaluation_uses_the_averaged_parameters():
    task, state, batch = make(optimizer__ema_decay=0.5, optimizer__learning_rate=0.1)
    before, _ = task.predict(state, batch["image"])
    state, _ = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    network = state.networks["model"]
    images = task.normalize(base.to_unit(batch["image"]))
    expected = task.model.apply(network.variables(network.averaged), images, train=False)
    np.testing.assert_array_equal(task.predict(state, batch["image"])[0], expected)
    assert not np.allclose(before, expected)
    assert not np.allclose(
        expected,
        task.model.apply(network.variables(network.params), task.normalize(base.to_unit(batch["image"])), train=False),
    )


def test_bfloat16_keeps_float32_parameters():
    task, state, batch = make(train__dtype="bfloat16")
    state, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.networks["model"].params)} == {jnp.dtype("float32")}
    assert metrics["loss"].dtype == jnp.float32 and "bf16" in str(jax.make_jaxpr(task.predict)(state, batch["image"]))


def test_one_class_is_refused():
    config = config_lib.default()
    source = ArraySource(np.zeros((3, 4, 4, 1), np.uint8), np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="two classes or more"):
        Classification(config, Dataset("toy", {"train": source}, ("only",), {}), DURATIONS)

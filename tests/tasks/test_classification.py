"""The classification step and its sums against formulas written out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import config as config_lib
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.models import registry
from vision_jax.models.network import AuxiliaryClassifier
from vision_jax.tasks import base
from vision_jax.tasks.classification import Classification
from vision_jax.utils.options import ConfigError

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


def test_summary_from_known_sums():
    task, _, _ = make()
    sums = {
        "count": np.int32(6),
        "loss": np.float32(3.0),
        "confusion": np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]),
        "bin_examples": np.array([0, 2, 4]),
        "bin_hits": np.array([0, 1, 4]),
        "bin_confidence": np.array([0, 1.2, 3.6]),
    }
    summary = task.summarize(sums)
    assert list(summary) == list(task.metrics)
    assert summary["accuracy"] == pytest.approx(5 / 6) and summary["loss"] == 0.5
    assert summary["macro_f1"] == pytest.approx((6 / 7 + 4 / 5 + 0) / 3)
    assert summary["weighted_f1"] == pytest.approx((4 * 6 / 7 + 2 * 4 / 5) / 6)
    assert summary["calibration_error_15_bins"] == pytest.approx((0.2 + 0.4) / 6)


def test_top_5_is_measured_of_six_classes_and_more():
    assert "top5_accuracy" not in make()[0].metrics
    config = config_lib.default()
    config.model.name, config.model.mlp = "mlp", dict(hidden=(5,))
    source = ArraySource(np.zeros((6, 4, 4, 1), np.uint8), np.arange(6))
    task = Classification(config, Dataset("toy", {"train": source}, tuple("abcdef"), {}), DURATIONS)
    logits = jnp.eye(6).at[jnp.asarray([1, 4])].multiply(-1)  # Where the true class comes last; one does not count.
    batch = {"label": jnp.arange(6), "mask": jnp.asarray([1.0, 1, 1, 1, 0, 1])}
    summary = task.summarize({**jax.device_get(task.sums(logits, batch)), "count": np.int32(5)})
    assert list(summary) == list(task.metrics) and "top5_accuracy" in summary
    assert summary["top5_accuracy"] == pytest.approx(4 / 5)


def test_filters_of_the_first_layer():
    task, state, _ = make()  # A dense layer: a filter is as large as the image.
    filters = np.asarray(task.filters(state)["filters"])
    assert filters.shape == (5, 4, 4, 1) and filters.dtype == np.uint8
    kernel = np.asarray(state.networks["model"].params["hidden1"]["kernel"]).T
    scaled = kernel / np.abs(kernel).max(1, keepdims=True)
    np.testing.assert_array_equal(filters.reshape(5, 16), np.round((0.5 + 0.5 * scaled) * 255))
    config = config_lib.default()
    config.model.name, config.model.cnn = "cnn", dict(channels=(70, 3))
    source = ArraySource(np.zeros((6, 8, 8, 3), np.uint8), np.arange(6) % 2)
    task = Classification(config, Dataset("toy", {"train": source}, tuple("ab"), {}), DURATIONS)
    state = jax.jit(task.init)(jax.random.key(0))
    assert task.filters(state)["filters"].shape == (64, 3, 3, 3)


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


def test_evaluation_keeps_label_logits_and_features_of_every_row():
    task, state, batch = make()
    batch["mask"] = jnp.ones(30)
    _, outputs = jax.jit(task.eval_step)(state, {}, batch, jax.random.key(0))
    logits, features = task.predict(state, batch["image"])
    assert set(outputs) == {"label", "logits", "features"} and features.shape == (30, 5)
    np.testing.assert_array_equal(outputs["label"], batch["label"])
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["features"], features, rtol=1e-5, atol=1e-6)
    head = state.networks["model"].params["head"]
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, rtol=1e-5, atol=1e-6)
    task.config.eval.features = False
    assert set(task.eval_step(state, {}, batch, jax.random.key(0))[1]) == {"label", "logits"}


def test_mistakes_have_a_red_frame_in_the_pictures_and_hits_none():
    task, state, batch = make()
    pictures = jax.device_get(task.pictures(state, {}, batch))
    wrong = np.asarray(task.predict(state, batch["image"])[0].argmax(-1) != batch["label"])
    assert wrong.any() and not wrong.all()
    framed, images = pictures["predicted"], np.broadcast_to(np.asarray(batch["image"]), (30, 4, 4, 3))
    np.testing.assert_array_equal(framed[~wrong], images[~wrong])
    np.testing.assert_array_equal(framed[:, 1:-1, 1:-1], images[:, 1:-1, 1:-1])
    for edge in (framed[wrong][:, 0], framed[wrong][:, -1], framed[wrong][:, :, 0], framed[wrong][:, :, -1]):
        assert (edge == [255, 0, 0]).all()
    np.testing.assert_array_equal(pictures["augmented"], batch["image"])  # Nothing is augmented here.


def test_evaluations_are_val_at_its_interval_and_others_when_training_has_ended():
    task, _, _ = make(eval__limit=7)
    assert [(e.name, e.split, e.every, e.limit) for e in task.evaluators()] == [
        ("val", "val", 1, 7),
        ("test", "test", 0, 0),
    ]
    task, _, _ = make(eval__train=True, eval__limit=7)
    assert [(e.name, e.every, e.limit) for e in task.evaluators()] == [("val", 1, 7), ("train", 0, 7), ("test", 0, 0)]
    assert all(e.metrics == task.metrics and e.shown == 16 for e in task.evaluators())


def test_the_state_counts_trained_and_fixed_parameters():
    _, state, _ = make()
    assert state.parameter_count() == 16 * 5 + 5 + 5 * 3 + 3
    _, fixed, _ = make(model__freeze=("all_but", "head"), optimizer__ema_decay=0.9)
    network = fixed.networks["model"]
    assert fixed.parameter_count() == state.parameter_count()
    assert set(network.params) == {"head"} == set(network.averaged) and set(network.fixed) == {"hidden1"}
    assert set(network.variables()["params"]) == {"head", "hidden1"}
    assert int(fixed.step) == 0


def test_the_moving_average_follows_the_parameters():
    task, state, batch = make(optimizer__ema_decay=0.75, optimizer__learning_rate=0.1)
    after, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    before, now = state.networks["model"], after.networks["model"]
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.averaged, now.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), now.averaged, expected)
    assert float(metrics["learning_rate"]) == pytest.approx(0.1) and float(metrics["gradient_norm"]) > 0


def test_the_first_examples_are_stacked_and_bytes_round_to_nearest():
    task, _, batch = make()
    examples = base.first_examples(task.config, task.dataset, "test", 4)
    np.testing.assert_array_equal(examples["image"], batch["image"][:4])
    assert len(base.first_examples(task.config, task.dataset, "test", 99)["label"]) == 30
    np.testing.assert_array_equal(
        base.to_bytes(jnp.asarray([-1.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0])), [0, 0, 1, 255, 255]
    )


def test_accuracy_of_views_is_a_metric_of_its_own():
    task, state, batch = make(classification__test_time_augmentation="flip")
    assert task.metrics["accuracy_tta2"] and next(iter(task.metrics)) == "accuracy"
    batch["mask"] = (jnp.arange(30) < 25).astype(jnp.float32)
    sums, _ = jax.jit(task.eval_step)(state, {}, batch, jax.random.key(0))
    views = [np.asarray(task.predict(state, x)[0]) for x in (batch["image"], batch["image"][:, :, ::-1])]
    right = (np.mean(views, axis=0).argmax(-1) == np.asarray(batch["label"]))[:25]
    summary = task.summarize({**jax.device_get(sums), "count": np.int32(25)})
    assert summary["accuracy_tta2"] == pytest.approx(right.mean())
    plain, _, _ = make()
    assert set(task.metrics) - set(plain.metrics) == {"accuracy_tta2"}


def test_images_grow_during_training():
    options = dict(
        model__name="cnn",
        model__cnn=dict(channels=(4,), global_pool=True, norm="batch"),
        classification__train_sizes=(2, 4),
        optimizer__name="sgd",
    )
    task, state, batch = make(**options)
    step = jax.jit(task.train_step)

    def loss_at(number, images):
        return float(step(state.replace(step=jnp.int32(number)), {}, images, jax.random.key(1))[1]["loss"])

    small = jax.image.resize(batch["image"].astype(jnp.float32), (30, 2, 2, 1), "bilinear")
    network = state.networks["model"]
    for number, images in ((0, small / 255), (4, small / 255), (5, batch["image"] / 255), (9, batch["image"] / 255)):
        logits, _, _ = task.train_logits(network, network.params, jnp.asarray(images, jnp.float32), jax.random.key(0))
        expected = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(30), batch["label"]])
        assert loss_at(number, batch) == pytest.approx(float(expected), rel=1e-4), number
    with pytest.raises(ConfigError, match="same parameters at both sizes"):
        make(**options | {"model__cnn": dict(channels=(4,))})
    with pytest.raises(ConfigError, match="train_sizes has 5: images are 4×4"):
        make(**options | {"classification__train_sizes": (5,)})


def test_weight_averaging_evaluates_the_mean_of_the_last_steps_and_their_statistics():
    options = dict(model__name="cnn", model__cnn=dict(channels=(4,), global_pool=True, norm="batch"))
    task, state, batch = make(**options, optimizer__average_last=0.2, optimizer__learning_rate=0.1)
    step, visited = jax.jit(task.train_step), []
    for number in range(10):
        state, _ = step(state.replace(step=jnp.int32(number)), {}, batch, jax.random.key(number))
        network = state.networks["model"]
        visited.append({"params": network.params, "batch_stats": network.batch_stats})
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *visited[-2:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), network.variables(), expected)
    assert not np.allclose(visited[-1]["params"]["head"]["kernel"], expected["params"]["head"]["kernel"])


def test_a_moving_average_is_of_parameters_and_statistics():
    options = dict(model__name="cnn", model__cnn=dict(channels=(4,), global_pool=True, norm="batch"))
    task, state, batch = make(**options, optimizer__ema_decay=0.5)
    before = state.networks["model"].variables()
    network = jax.jit(task.train_step)(state, {}, batch, jax.random.key(0))[0].networks["model"]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, before, network.variables(network.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), network.variables(), mean)


class TwoHeads(AuxiliaryClassifier):
    """A linear classifier with a second head beside it."""

    aux_logits: bool = True

    @property
    def aux_weights(self):
        return {"aux": 0.4}

    @property
    def head_layers(self):
        return ("head", "aux")

    @property
    def stages(self):
        return {"head": ("head", "aux")}

    @nn.compact
    def forward(self, x, *, train):
        x = x.reshape(len(x), -1)
        self.keep_aux("aux", nn.Dense(self.num_classes, name="aux")(x))
        return nn.Dense(self.num_classes, name="head")(self.keep("features", x))


def test_an_auxiliary_head_adds_its_weighted_loss(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "two_heads", registry.Entry(TwoHeads, 0, (4, 4, 1)))
    task, state, batch = make(model__name="two_heads")
    _, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    x = np.asarray(base.to_unit(batch["image"])).reshape(30, -1)
    losses = {}
    for name, layer in state.networks["model"].params.items():
        logits = x @ layer["kernel"] + layer["bias"]
        losses[name] = float(jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])))
    assert float(metrics["loss"]) == pytest.approx(losses["head"] + 0.4 * losses["aux"], rel=1e-5)


def test_augmentations_are_told_how_far_training_is():
    task, _, batch = make(data__augment=("cutout(size=9, share=(0, 1))", "alternating_flip"))
    batch["index"] = jnp.arange(30, dtype=jnp.int32)
    seen = [task._place(jnp.int32(number), batch) for number in (0, 4, 10)]
    assert [float(place["progress"]) for place in seen] == pytest.approx([0.0, 0.4, 1.0])
    assert [place["epoch"].tolist() for place in seen] == [[0] * 30, [4] * 30, [10] * 30]
    covered = [
        int((np.asarray(task.augmented({**batch, **place}, jax.random.key(0))["image"]) == 0).all((1, 2, 3)).sum())
        for place in seen
    ]
    assert covered[0] == 0 and 0 < covered[1] < 30 and covered[2] == 30


def test_a_first_layer_is_fitted_to_the_training_images_and_frozen():
    config = config_lib.default()
    config.model.name, config.model.airbench94 = "airbench94", dict(widths=(2, 2, 2))
    config.model.freeze = ("whitening",)
    config.data.mean, config.data.std = (0.4,), (0.2,)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    source = ArraySource(images, np.arange(12) % 3)
    task = Classification(config, Dataset("toy", {"train": source, "val": source}, ("a", "b", "c"), {}), DURATIONS)
    state = task.start(jax.device_get(jax.jit(task.init)(jax.random.key(0))))
    variables = state.networks["model"].variables()
    normalized = ((images / 255 - 0.4) / 0.2).astype(np.float32)
    expected = task.model.fitted(variables, normalized)["params"]["whitening"]["kernel"]
    assert set(state.networks["model"].fixed) == {"whitening"}
    np.testing.assert_allclose(variables["params"]["whitening"]["kernel"], expected, rtol=1e-3, atol=1e-4)

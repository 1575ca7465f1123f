"""Fine-tuning: stages kept fixed cost nothing and stay fixed, rates per stage, heads, cached features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from vision_jax import config as config_lib
from vision_jax import models, run, train
from vision_jax.data import pipeline
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.pretrained import finetune, weights
from vision_jax.tasks import base, registry
from vision_jax.utils import trees

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(**options):
    config = config_lib.default()
    config.model.cnn = dict(channels=(4, 8, 8), norm="batch", hidden=(6,))
    for name, value in options.items():
        config_lib.assign(config, name.replace("__", "."), value)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    source = ArraySource(images, np.arange(8) % 4)
    task = registry.build(config, Dataset("toy", {"train": source, "val": source}, tuple("abcd"), {}), DURATIONS)
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(source.labels)}
    return task, jax.jit(task.init)(jax.random.key(0)), batch


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ((), None),
        (("all_but", "head"), {"head"}),
        (("all_but", "block3", "head"), {"block3", "head"}),
        (("block1",), {"block2", "block3", "hidden1", "head"}),
    ],
)
def test_frozen_stages_do_not_move_nor_their_statistics(freeze, trained):
    task, state, batch = make(model__freeze=freeze)
    before = state.networks["model"].variables()
    after, _ = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    after = after.networks["model"].variables()
    changed = {
        kind: {
            path[0]
            for path, leaf in traverse_util.flatten_dict(after[kind]).items()
            if not np.array_equal(leaf, traverse_util.flatten_dict(before[kind])[path])
        }
        for kind in ("params", "batch_stats")
    }
    everything = {"block1", "block2", "block3", "hidden1", "head"}
    assert changed["params"] == (trained or everything)
    assert changed["batch_stats"] == (trained or everything) - {"hidden1", "head"}


def test_fixed_statistics_make_batchnorm_an_affine_map_that_trains():
    task, state, batch = make(model__freeze_statistics=True, model__dropout=0.0)
    network = state.networks["model"]
    after, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    after = after.networks["model"]
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, network.batch_stats)
    trained = {
        name: (trees.flatten(after.params)[name] != leaf).any() for name, leaf in trees.flatten(network.params).items()
    }
    assert all(trained.values())
    sums, _ = jax.jit(task.eval_step)(state, {}, {**batch, "mask": jnp.ones(8)}, jax.random.key(2))
    np.testing.assert_allclose(metrics["loss"], sums["loss"] / 8, rtol=1e-5)  # Training computes what evaluation does.


def test_frozen_parts_cost_neither_memory_nor_work():
    costs = []
    for freeze in ((), ("all_but", "head")):
        task, state, batch = make(model__freeze=freeze)
        network = state.networks["model"]
        moments = sum(leaf.size for leaf in jax.tree.leaves(network.opt_state))
        compiled = jax.jit(task.train_step).lower(state, {}, batch, jax.random.key(0)).compile()
        costs.append((moments, compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes))
    full, head = costs
    assert head[0] < 0.05 * full[0]
    assert head[1] < 0.5 * full[1]
    assert head[2] < 0.7 * full[2]


def test_wrong_stages_are_refused_with_the_right_ones():
    model = models.build("resnet18", num_classes=3)
    words = r"'layer5'; did you mean 'layer\d'\?; the stages are stem, layer1"
    with pytest.raises(config_lib.ConfigError, match=words):
        finetune.frozen_modules(model, ("layer5",))
    with pytest.raises(config_lib.ConfigError, match="nothing to train"):
        finetune.frozen_modules(model, ("all_but",))


def test_rates_fall_from_the_head_to_the_input():
    task, state, batch = make(
        optimizer__name="sgd", optimizer__momentum=0.0, optimizer__head_multiplier=10.0, optimizer__stage_decay=0.5
    )
    plain, same, _ = make(optimizer__name="sgd", optimizer__momentum=0.0)
    jax.tree.map(np.testing.assert_array_equal, state.networks["model"].params, same.networks["model"].params)

    def change(trained, before):
        after, _ = trained.train_step(before, {}, batch, jax.random.key(1))
        old, new = before.networks["model"].params, after.networks["model"].params
        return jax.tree.map(lambda a, b: np.asarray(a - b), new, old)

    moved, by_default = change(task, state), change(plain, same)
    for module, factor in {"block1": 0.5**4, "block3": 0.5**2, "hidden1": 0.5, "head": 10.0}.items():
        expected = jax.tree.map(lambda b, f=factor: f * b, by_default[module])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), moved[module], expected)


NETWORK = {"channels": (4, 8, 8), "norm": "batch", "hidden": (6,)}


@pytest.fixture
def weights_file(tmp_path):
    """Weights of the network above for ten classes, as this project writes them."""
    model = models.build("cnn", num_classes=10, **NETWORK)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 16, 16, 3)), train=False))
    variables = jax.device_get(init(jax.random.key(9)))
    path = tmp_path / "cnn.safetensors"
    preprocessing = weights.Preprocessing(36, 32, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    record = weights.Record("cnn", "a test", options=NETWORK, input_shape=(16, 16, 3), preprocessing=preprocessing)
    weights.save(path, dict(variables), record)
    return path, variables


def test_weights_are_taken_over_and_a_head_of_other_width_is_new(weights_file):
    path, saved = weights_file
    task, state, _ = make(model__weights=str(path), model__freeze=("all_but", "head"), optimizer__ema_decay=0.9)
    initial = np.asarray(state.networks["model"].params["head"]["kernel"])
    network = task.start(state).networks["model"]
    new = network.variables()
    for name, leaf in trees.flatten(saved).items():
        if "params/head" not in name:
            np.testing.assert_array_equal(trees.flatten(new)[name], leaf, err_msg=name)
    assert new["params"]["head"]["kernel"].shape == (6, 4)
    np.testing.assert_array_equal(network.params["head"]["kernel"], initial)
    assert set(network.params) == {"head"} == set(network.averaged)


def test_auxiliary_heads_are_new_left_out_or_missed(tmp_path):
    def variables(classes, **options):
        shapes = models.shapes(models.build("googlenet", num_classes=classes, **options), (64, 64, 3))
        return jax.tree.map(lambda leaf: np.full(leaf.shape, classes, leaf.dtype), dict(shapes))

    files = {}
    for aux in (False, True):
        files[aux] = str(tmp_path / f"{aux}.safetensors")
        record = weights.Record("googlenet", "a test", options={"aux_logits": aux})
        weights.save(tmp_path / f"{aux}.safetensors", variables(10, aux_logits=aux), record)
    for aux in (False, True):
        model = models.build("googlenet", num_classes=4, aux_logits=aux)
        taken = trees.flatten(finetune.load_pretrained(model, "googlenet", files[True], variables(4, aux_logits=aux)))
        heads = {f"params/{layer}/{part}" for layer in model.head_layers for part in ("kernel", "bias")}
        assert {name for name, leaf in taken.items() if (leaf == 4).all()} == heads
    with pytest.raises(ValueError, match=r"do not fit googlenet as configured:\n  missing: batch_stats/aux1/"):
        finetune.load_pretrained(model, "googlenet", files[False], variables(4, aux_logits=True))


def test_weights_of_another_network_are_refused(weights_file):
    path, _ = weights_file
    task, state, _ = make(model__weights=str(path), model__cnn__channels=(4, 8))
    with pytest.raises(
        ValueError, match="do not fit cnn as configured:\n  other shape or type: params/hidden1/kernel is"
    ):
        task.start(state)


def test_preprocessing_comes_from_the_weights_unless_the_config_says_otherwise(weights_file):
    path, _ = weights_file
    config = config_lib.default()
    config.model.name, config.model.weights, config.data.std = "cnn", str(path), (1.0,)
    finetune.resolve_preprocessing(config, photos=True)
    assert config.data.mean == (0.4, 0.5, 0.6) and config.data.std == (1.0,)
    assert (config.data.image_size, config.data.interpolation) == (32, "bicubic")
    assert round(config.data.image_size / config.data.crop_fraction) == 36
    published = config_lib.default()
    published.model.name, published.model.weights = "resnet18", "imagenet"
    finetune.resolve_preprocessing(published, photos=False)  # Known without the file.
    assert published.data.mean == (0.485, 0.456, 0.406) and published.data.image_size == 0


def test_photos_of_a_folder_need_a_size_from_somewhere():
    config = config_lib.default()
    config.data.name = "folder"
    with pytest.raises(config_lib.ConfigError, match=r"set config\.data\.image_size"):
        finetune.resolve_preprocessing(config, photos=True)
    restoring = config_lib.default("super_resolution")
    restoring.data.name = "folder"
    finetune.resolve_preprocessing(restoring, photos=True)  # From patches; pictures are tested whole.
    assert restoring.data.image_size == 0


@pytest.mark.usefixtures("no_page")
def test_cached_features_train_the_head_to_the_same_result(load_config, tmp_path, monkeypatch):
    states, evaluations, computed = [], [], []
    mapped_once = pipeline.Loader.mapped_once
    monkeypatch.setattr(pipeline.Loader, "mapped_once", lambda *a: (computed.append(a[0]), mapped_once(*a))[1])
    for cached in (False, True):
        config = load_config("digits_cnn:smoke")
        config.log.tensorboard = False
        config.model.freeze, config.model.cache_features = ("all_but", "head"), cached
        config.data.update({"augment": (), "limit": 50, "batch_size": 10})
        config.eval.every_epochs = 1.0
        with run.build(config, tmp_path / str(cached)) as built:
            train.train(built)
            restored = built.checkpoints.restore(built.checkpoints.newest(), built.abstract_state())
            states.append(trees.flatten(restored.state))
            evaluations.append([row["val/loss"] for row in restored.history["evaluations"]])
    assert len(computed) == 3 < len(evaluations[0])  # Each split's features once, however often it is evaluated.
    np.testing.assert_allclose(evaluations[1], evaluations[0], rtol=1e-4)
    assert any("fixed" in name for name in states[0])
    for name, leaf in states[0].items():
        np.testing.assert_allclose(states[1][name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"model__freeze": ("block1",)},
        {"model__freeze": ("all_but", "head"), "data__augment": ("horizontal_flip",)},
        {"model__freeze": ("all_but", "head"), "data__image_size": 16},
    ],
)
def test_cached_features_are_refused_where_they_would_differ(options):
    with pytest.raises(config_lib.ConfigError, match="cache_features"):
        make(model__cache_features=True, **options)


def test_biases_and_norms_below_the_head_have_a_rate_of_their_own():
    model = models.build("cnn", channels=(4, 4), norm="batch")
    factor = finetune.rate_multiplier(model, 3.0, 1.0, 10.0)
    found = {
        path: factor(path)
        for path in ("block1/conv1/kernel", "block1/conv1/bias", "block2/norm1/scale", "head/kernel", "head/bias")
    }
    assert list(found.values()) == [1.0, 10.0, 10.0, 3.0, 3.0]
    assert finetune.rate_multiplier(model, 1.0, 1.0) is None

"""Every config is valid, documented, and trains the network that it says, at full size and in its quick variant."""

import ast
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import parallel, run
from vision_jax.data import pipeline
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.tasks import base, registry

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
PUBLISHED = json.loads((CONFIGS / "results" / "published.json").read_text(encoding="utf-8"))
# The image that a step sees, classes, and parameters; those of published experiments are theirs.
FULL = {
    "cifar100_small_cnn": ((32, 32, 3), 100, 57_332),
    "cifar100_small_cnn:published": ((32, 32, 3), 100, 57_332),
    "cifar100_tiny": ((32, 32, 3), 100, 57_252),
    "cifar100_transfer": ((224, 224, 3), 100, 23_712_932),
    "cifar100_transfer:mobilenet_v2_fine_tuned": ((224, 224, 3), 100, 2_351_972),
    "cifar10_cnn": ((32, 32, 3), 10, 1_971_650),
    "cifar10_cnn:published": ((32, 32, 3), 10, 551_466),
    "cifar10_fcn": ((32, 32, 3), 10, 1_699_826),
    "cifar10_fcn:best": ((32, 32, 3), 10, 1_699_826),
    "cifar10_fcn:baseline": ((32, 32, 3), 10, 309_530),
    "cifar10_fcn:wide": ((32, 32, 3), 10, 1_707_274),
    "cifar10_fcn:dropout": ((32, 32, 3), 10, 1_707_274),
    "cifar10_fcn:deep": ((32, 32, 3), 10, None),
    "cifar10_speed": ((32, 32, 3), 10, 1_971_650),
    "cifar10_speed:cifar100": ((32, 32, 3), 100, 1_994_780),
    "dcgan_cifar": ((32, 32, 3), 10, None),
    "dcgan_cifar:authors": ((32, 32, 3), 10, 370_624 + 167_808),
    "dcgan_cifar:cifar100": ((32, 32, 3), 100, None),
    "dcgan_cifar100": ((32, 32, 3), 100, 370_624 + 167_808),
    "dcgan_digits": ((8, 8, 1), 0, None),
    "digits_cnn": ((8, 8, 1), 10, None),
    "fashion_mnist_ann": ((28, 28, 1), 10, 536_586),
    "fashion_mnist_cnn": ((28, 28, 1), 10, 288_170),
    "fashion_mnist_cnn:published": ((28, 28, 1), 10, 421_642),
    "garbage_cnn": ((128, 128, 3), 6, 4_288_454),
    "garbage_cnn:augmented": ((128, 128, 3), 6, 4_288_454),
    "garbage_cnn:best": ((128, 128, 3), 6, 1_217_862),
    "garbage_resnet18": ((288, 288, 3), 6, 11_179_590),
    "garbage_resnet18:fine_tuned_augmented": ((256, 256, 3), 6, 11_179_590),
    "light_sr_t91": ((96, 96, 3), 0, 145_088),
    "light_sr_t91:x4": ((144, 144, 3), 0, None),
    "mlp_gan_mnist": ((28, 28, 1), 10, 1_486_352 + 533_505),
    "mnist_ann": ((28, 28, 1), 10, 536_586),
    "mnist_ann:published": ((28, 28, 1), 10, None),
    "mnist_cnn": ((28, 28, 1), 10, 162_562),
    "mnist_cnn:published": ((28, 28, 1), 10, 421_642),
    "photos_cnn": ((128, 128, 3), 6, 4_288_454),
    "photos_transfer": ((224, 224, 3), 9, 11_181_129),
    "photos_transfer:googlenet": ((224, 224, 3), 9, 5_609_129),
    "r3gan_cifar": ((32, 32, 3), 10, 20_781_952 + 20_732_800),
    "resnet18_photos": ((224, 224, 3), 9, 11_181_129),
    "resnet18_photos:layer4": ((224, 224, 3), 9, 11_181_129),
    "srcnn_pets:mse": ((256, 256, 3), 0, 69_251),
    "srcnn_t91": ((96, 96, 3), 0, 8_129),
    "srcnn_t91:955_x3": ((96, 96, 3), 0, 57_281),
    "srcnn_t91:fsrcnn_x4": ((96, 96, 3), 0, 12_809),
    "srcnn_t91:espcn_x2": ((96, 96, 3), 0, 21_284),
    "svhn_cnn": ((32, 32, 3), 10, 545_098),
    "svhn_cnn:augmented": ((32, 32, 3), 10, 545_098),
    "svhn_resnet18": ((64, 64, 3), 10, 11_181_642),
    "svhn_resnet18:augmented": ((64, 64, 3), 10, 11_181_642),
}


def load(name: str):
    file, _, variant = name.partition(":")
    config = runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](variant)
    config.model.cache_features = False  # So that the steps see images.
    if config.task == "super_resolution":
        config.super_resolution.perceptual.measure = False  # Its weights are somewhere else.
    return config


def test_the_table_holds_every_config():
    assert {name.partition(":")[0] for name in FULL} == {path.stem for path in CONFIGS.glob("*.py")}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_first_line_of_the_docstring_describes(path):
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    assert len(first) > 20 and first.endswith(".")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_variant_is_valid_has_a_row_of_published_figures_and_others_are_refused(path):
    module = runpy.run_path(str(path))
    for variant in module.get("VARIANTS", ("", "smoke")):
        run.validate(module["get_config"](variant))
        assert variant == "smoke" or path.name + f":{variant}" * bool(variant) in PUBLISHED
    if "VARIANTS" in module:
        assert {name.partition(":")[2] for name in FULL if name.partition(":")[0] == path.stem} <= {*module["VARIANTS"]}
        with pytest.raises(ValueError, match="has no variant 'smoky'"):
            module["get_config"]("smoky")


@pytest.mark.parametrize("name", FULL)
def test_one_step_fits_the_data_and_the_published_size(name):
    shape, classes, parameters = FULL[name]
    config = load(name)
    run.validate(config)
    names = tuple(f"class {k}" for k in range(classes))
    source = ArraySource(np.zeros((20, *shape), np.uint8), np.arange(20) % max(classes, 1))
    dataset = Dataset("fake", {"train": source, "val": source, "test": source}, names, {})
    task = registry.build(config, dataset, base.Durations(total=10, warmup=1, log=1, evaluate=1, save=0))
    state = jax.eval_shape(task.init, jax.random.key(0))
    if parameters is not None:
        assert state.parameter_count() == parameters
    if config.task == "super_resolution":
        loader = task.loader(None, pipeline.Loader(source, parallel.make_mesh()))
        batch = next(loader.train(8, seed=0))
    else:
        batch = {"image": jnp.zeros((8, *shape), jnp.uint8), "label": jnp.zeros(8, jnp.int32)}
    after, metrics = jax.eval_shape(task.train_step, state, task.constants(), batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(value.shape == () for value in metrics.values())


@pytest.mark.parametrize("name", ["dcgan_cifar", "dcgan_cifar:cifar100"])
def test_the_flagship_has_no_more_parameters_than_the_published_networks(name):
    shape, classes, _ = FULL[name]
    source = ArraySource(np.zeros((4, *shape), np.uint8), np.zeros(4))
    dataset = Dataset("fake", {"train": source, "val": source}, tuple(map(str, range(classes))), {})
    task = registry.build(load(name), dataset, base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0))
    assert jax.eval_shape(task.init, jax.random.key(0)).parameter_count() <= 370_624 + 167_808


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.py")))
def test_the_quick_variant_takes_the_same_path_on_data_that_is_always_there(name, tmp_path):
    full, quick = load(name), load(f"{name}:smoke")
    assert quick.task == full.task and quick.model.name == full.model.name
    assert quick.data.augment == full.data.augment
    assert (quick.data.name == "folder") == (full.data.name == "folder")
    with run.build(quick, tmp_path) as built:
        assert built.durations.total <= 200 and built.durations.evaluate < built.durations.total
        loader = built.loader("train")
        if quick.task == "super_resolution":
            loader = built.task.loader(None, loader)
        batch = next(loader.train(quick.data.batch_size, seed=0))
        state = built.abstract_state()
        shapes = jax.eval_shape(
            lambda s, d, b, k: built.task.train_step(s, built.task.constants(), pipeline.gather(d, b), k),
            state,
            loader.data,
            batch,
            jax.random.key(0),
        )
        assert jax.tree.structure(shapes[0]) == jax.tree.structure(state)


@pytest.mark.parametrize("name", ["dcgan_cifar", "dcgan_cifar100", "dcgan_digits", "mlp_gan_mnist", "r3gan_cifar"])
def test_gans_take_a_folder_of_photos_without_classes(name, tmp_path):
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    config = load(name)
    config.data.name, config.data.root, config.data.val_fraction = "folder", str(tmp_path), 0.2
    config.data.batch_size, config.data.image_size = 4, FULL[name][0][0]
    with run.build(config, tmp_path / "run") as built:
        loader = built.loader("train")
        batch = next(loader.train(4, seed=0))
        assert batch["image"].shape == (4, *FULL[name][0][:2], 3)
        state = built.abstract_state()
        after, _ = jax.eval_shape(built.task.train_step, state, {}, batch, jax.random.key(0))
        assert jax.tree.structure(after) == jax.tree.structure(state)

"""Learning from teachers: which networks they are, what a step makes of their answers, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import untrained_runs
from vision_jax import config as config_lib
from vision_jax import models, run
from vision_jax.data import pipeline
from vision_jax.pretrained import classifiers, weights
from vision_jax.utils.options import ConfigError


def small(*, teachers=(), **options):
    config = config_lib.default()
    config.data.limit, config.data.batch_size = 40, 8
    config.model.name, config.model.mlp = "mlp", dict(hidden=(5,))
    config.train.epochs = 1.0
    config.classification.distillation.teachers = teachers
    config.classification.distillation.update(options)
    return config


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run on the digits, of its first state, with a normalization of its own."""
    config = small()
    config.data.mean, config.data.std = (0.3,), (0.5,)
    return str(untrained_runs.write(config, tmp_path_factory.mktemp("teacher"), step=1))


def first_batch(built, state):
    loader = built.task.loader(state, built.loader("train"))
    return pipeline.gather(loader.data, next(loader.train(8, seed=0)))


def test_the_loss_is_a_mixture_of_the_labels_and_the_teacher_s(teacher, tmp_path):
    with run.build(small(teachers=(teacher,), weight=0.75, temperature=2.0), tmp_path) as built:
        state, constants = built.initial_state(), built.task.constants()
        batch = first_batch(built, state)
        _, metrics = jax.jit(built.task.train_step)(state, constants, batch, jax.random.key(1))
        logits = np.asarray(built.task.predict(state, batch["image"])[0], np.float64)
    network = classifiers.classifier_of_run(teacher)
    answers = np.asarray(network.logits(network.variables, batch["image"]), np.float64)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    hard = -np.log(softmax(logits)[np.arange(8), batch["label"]])
    p, q = softmax(logits / 2), softmax(answers / 2)
    expected = np.mean(0.25 * hard + 0.75 * 4 * (q * np.log(q / p)).sum(-1))
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)
    assert set(constants) == {"teacher1"}
    # No part of the teacher is trained, and none of it is in the state.
    assert state.parameter_count() == 64 * 5 + 5 + 5 * 10 + 10


def test_precomputed_answers_are_those_about_the_image_and_its_mirror_image(teacher, tmp_path):
    config = small(teachers=(teacher, teacher), temperature=2.0, precompute=True)
    with run.build(config, tmp_path) as built:
        state, constants = built.initial_state(), built.task.constants()
        batch = first_batch(built, state)
        images = batch["image"].astype(jnp.float32) / 255
        views = [built.task.teachers.log_probabilities(constants, x) for x in (images, images[:, :, ::-1])]
        np.testing.assert_allclose(np.exp(batch["teacher"]), np.mean(np.exp(views), axis=0), rtol=1e-4)
        given = {**batch, "teacher": jnp.roll(batch["teacher"], 1, axis=0)}
        step = jax.jit(built.task.train_step)
        losses = [float(step(state, constants, b, jax.random.key(1))[1]["loss"]) for b in (batch, given)]
        assert losses[0] != losses[1]  # The step takes the answers that it is given.
        assert "teacher" not in built.task.loader(state, built.loader("val")).arrays


@pytest.mark.parametrize("cache", [False, True])
def test_answers_about_photos_in_files_cannot_be_precomputed(cache, tmp_path):
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(path)
    config = small()
    config.data.update(name="folder", root=str(tmp_path / "photos"), image_size=8, batch_size=4, cache=cache)
    config.data.update(val_fraction=0.2)
    config.classification.distillation.teachers = (str(untrained_runs.write(config, tmp_path / "teacher", step=1)),)
    config.classification.distillation.precompute = True
    with run.build(config, tmp_path / "run") as built, pytest.raises(ConfigError, match="images in memory only"):
        built.task.loader(built.abstract_state(), built.loader("train"))


def test_a_file_of_weights_teaches(tmp_path):
    model = models.build("mlp", num_classes=10, hidden=(4,))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    names = tuple("0123456789")
    preprocessing = weights.Preprocessing(8, 8, "bilinear", (0.5,), (0.5,))
    record = weights.Record(
        "mlp", "a test", options={"hidden": [4]}, input_shape=(8, 8, 1), class_names=names, preprocessing=preprocessing
    )
    weights.save(tmp_path / "teacher.safetensors", variables, record)
    with run.build(small(teachers=(f"mlp:{tmp_path / 'teacher.safetensors'}",)), tmp_path / "run") as built:
        images = jnp.linspace(0, 1, 64).reshape(1, 8, 8, 1)
        found = built.task.teachers.log_probabilities(built.task.constants(), images)
    expected = jax.nn.log_softmax(model.apply(variables, (images - 0.5) / 0.5, train=False) / 4.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_wrong_teachers_are_refused(teacher, tmp_path):
    for name, message in (
        ("runs/nowhere", "neither the folder of a run"),
        ("resnet21", "did you mean 'resnet"),
        (str(tmp_path), "There are no checkpoints"),
    ):
        with pytest.raises(ConfigError, match=message):
            run.build(small(teachers=(name,)), tmp_path / "run")
    config = small(teachers=(teacher,))
    config.data.name, config.model.name = "photo_tiles", "mlp"
    with pytest.raises(ValueError, match="two classes or more"):
        run.build(config, tmp_path / "run")
    mixed = small(teachers=(teacher,), precompute=True)
    mixed.data.augment = ("mixup",)
    with pytest.raises(ConfigError, match="'mixup' in config"):
        run.build(mixed, tmp_path / "run")


@pytest.mark.parametrize("option", ["teachers", "train_sizes", "test_time_augmentation"])
def test_what_needs_images_is_refused_where_only_features_are_kept(option, teacher, tmp_path):
    cached = small(teachers=(teacher,) if option == "teachers" else ())
    cached.model.update(cache_features=True, freeze=("all_but", "head"))
    if option == "train_sizes":
        cached.classification.train_sizes = (4, 8)
    if option == "test_time_augmentation":
        cached.classification.test_time_augmentation = "flip"
    with pytest.raises(ConfigError, match="keeps no images"):
        run.build(cached, tmp_path / "run")


def test_a_teacher_of_other_classes_is_refused(teacher, tmp_path):
    from vision_jax.data.sources import ArraySource, Dataset
    from vision_jax.tasks.distillation import Teachers

    source = ArraySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3))
    with pytest.raises(ConfigError, match=r"knows 10 classes \(0, 1, 2, …\), toy has 3"):
        Teachers((teacher,), 4.0, Dataset("toy", {"train": source}, ("a", "b", "c"), {}), 1)
    with pytest.raises(ConfigError, match=r"takes images of 1 channel\(s\), those of digits have 3"):
        Teachers((teacher,), 4.0, Dataset("digits", {"train": source}, tuple("0123456789"), {}), 3)

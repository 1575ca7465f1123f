"""Distances of a GAN's images: the evaluators that a config asks for, and what they find."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks.test_gan import make
from vision_jax import models
from vision_jax.data import sources
from vision_jax.metrics import generative
from vision_jax.metrics.generative import FeatureSet
from vision_jax.pretrained import extractors, reference
from vision_jax.pretrained.weights import Preprocessing
from vision_jax.tasks import base, generated


@pytest.fixture
def gan(monkeypatch, tmp_path):
    """A conditional GAN whose images are compared in the features of a small network with random weights."""
    model = models.build("cnn", channels=(8,), hidden=(), global_pool=True, num_classes=4)
    variables = jax.jit(lambda: model.init(jax.random.key(1), jnp.zeros((1, 8, 8, 3)), train=False))()
    found = extractors.of_classifier(
        "cnn", model, jax.device_get(variables), Preprocessing(8, 8, "bilinear", (0.5,) * 3, (0.5,) * 3), 3
    )
    asked = []
    monkeypatch.setattr(extractors, "load", lambda *args, **options: asked.append((args, options)) or found)
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path))
    evaluation = {"extractor": "cnn", "weights": "some.npz", "samples": 7}
    task, state, images = make("dcgan", gan=dict(conditional=True), evaluation=evaluation, width=4)
    assert asked == [(("cnn", "some.npz"), {"mode": "pytorch_fid"})]
    return task, state, images


def test_evaluators_are_of_train_during_training_and_of_test_at_its_end(gan):
    task, _, _ = gan
    during, val, test = task.evaluators()
    assert (during.name, during.split, during.limit, during.every) == ("fid", "train", 7, 1)
    assert during.metrics == {"fd_cnn_7": False}
    assert val.name == "val" and val.collector is None
    assert test.name == "test" and test.every == 0 and test.collector is not None
    assert set(task.constants()) == {"extractor"}


def test_distances_are_those_of_the_features_of_generated_images(gan):
    task, state, images = gan
    constants, labels = task.constants(), jnp.arange(12) % 3
    batch = {"image": images, "label": labels, "mask": jnp.ones(12)}
    sums, outputs = jax.device_get(jax.jit(task.final_step)(state, constants, batch, jax.random.key(5)))
    noise = jax.random.normal(jax.random.key(5), (12, 6))
    expected = base.to_bytes(task.sample(state, noise, labels))
    np.testing.assert_allclose(outputs["sample"].astype(int), expected.astype(int), atol=1)
    extractor = task.distances.extractor
    features = jax.jit(extractor.apply)(constants["extractor"], outputs["sample"])
    np.testing.assert_allclose(outputs["features"], features["features"], rtol=1e-4, atol=1e-5)
    during = jax.jit(task.distance_step)(state, constants, batch, jax.random.key(5))[1]
    np.testing.assert_allclose(during["features"], outputs["features"], rtol=1e-3, atol=1e-3)
    assert "real_logit" in outputs and sums["fake_first"].shape == (64,)


def feature_set(task, images):
    found = FeatureSet()
    for image in images:
        found.add(task.distances.extractor.apply(task.constants()["extractor"], image[None]))
    return found


def test_collectors_measure_with_receipts_a_floor_and_a_ceiling(gan):
    task, _, images = gan
    rng = np.random.default_rng(3)
    samples = rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    fake = feature_set(task, samples)
    real = feature_set(task, images)
    outputs = {"sample": samples, "features": fake.features, "logits": fake.logits}
    during, final = task.distances.training("train", 7), task.distances.final("test")
    for part in (slice(0, 5), slice(5, 12)):
        rows = {name: values[part] for name, values in outputs.items()}
        during.add(rows)
        final.add(rows)
    protocol = task.distances.protocol("train", 7)
    expected, _ = generative.measure(
        feature_set(task, images[jnp.array([0, 1, 3, 5, 7, 9, 11])]), fake, protocol, parts=()
    )
    assert during.metrics() == pytest.approx(expected, rel=1e-3) and expected["fd_cnn_12"] > 0.01
    assert list(during.metrics()) == ["fd_cnn_12"]
    measured = final.final()
    expected, _ = generative.measure(real, fake, protocol)
    for name, value in expected.items():
        assert measured.metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    # The test images are the training images here.
    assert measured.metrics["fd_cnn_12_of_train"] == pytest.approx(0.0, abs=1e-4)
    assert measured.metrics["fd_cnn_12_of_noise"] > 0
    receipt = measured.receipts["fd_cnn_12"]
    assert receipt["generated"] == receipt["real"] == 12
    assert receipt["protocol"]["weights"] == task.distances.extractor.weights
    assert receipt["protocol"]["split"] == "test" and receipt["protocol"]["fingerprint"] != protocol.fingerprint


def test_real_images_are_those_that_the_run_sees(gan):
    task, _, _ = gan
    plain = task.distances.protocol("test", 0)
    assert plain.fingerprint == sources.fingerprint(task.dataset.splits["test"]) and plain.split == "test"
    task.distances.real("test", 0)
    for side, words in ((8, "(short side to 9 by bilinear interpolation, central 8×8)"), (4, "central 4×4)")):
        task.config.data.image_size = side
        distances = generated.Distances(task.config, task.dataset)
        images = [np.asarray(image) for image in distances.images("test")]
        assert images[0].shape == (side, side, 3)
        found = distances.real("test", 0)
        np.testing.assert_allclose(found.features, feature_set(task, images).features, rtol=1e-3, atol=1e-4)
        protocol = distances.protocol("test", 0)
        assert protocol.fingerprint != plain.fingerprint and protocol.split.endswith(words)


def test_real_images_are_embedded_once_also_where_nothing_can_be_kept(gan, monkeypatch):
    task, _, _ = gan
    read = []

    def collect(extractor, images, **options):
        read.append(len(list(images)))
        return FeatureSet()

    monkeypatch.setattr(extractors, "collect", collect)
    monkeypatch.setattr(reference, "cached", lambda protocol, limit, compute: compute())
    parts = ("test", 0), ("train", 7), ("test", 0), ("train", 7), ("train", 5)
    found = [task.distances.real(*part) for part in parts]
    assert read == [12, 7, 5] and found[0] is found[2] and found[1] is found[3]


def test_on_other_data_nothing_is_said_of_training_images(gan):
    task, _, images = gan
    other = dataclasses.replace(
        task.dataset, splits=dict.fromkeys(("train", "val", "test"), task.dataset.splits["val"])
    )
    final = generated.Distances(task.config, other).final("test")
    final.add({"sample": np.asarray(images), "features": np.random.default_rng(0).normal(size=(12, 8))})
    measured = final.final()
    assert "fd_cnn_12" in measured.metrics and "fd_cnn_12_of_noise" in measured.metrics
    assert "fd_cnn_12_of_train" not in measured.metrics and not measured.pictures and not measured.arrays


def test_nearest_training_images_lie_beside_samples(gan):
    task, _, images = gan
    final = task.distances.final("test")
    samples = np.asarray(images[jnp.array([4, 2])])
    final.add({"sample": samples, "features": np.random.default_rng(0).normal(size=(2, 8))})
    measured = final.final()
    np.testing.assert_array_equal(measured.pictures["nearest_samples"], samples)
    assert measured.pictures["nearest_training"].shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(measured.pictures["nearest_training"][[0, 3]], samples)
    assert measured.arrays["nearest_distance"][:, 0].tolist() == [0.0, 0.0]
    assert (np.diff(measured.arrays["nearest_distance"]) > 0).all()

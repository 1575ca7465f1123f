"""The GAN step against gradients taken separately, and its Fréchet distance against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import config as config_lib
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.metrics import frechet
from vision_jax.tasks import base
from vision_jax.tasks.gan import GAN

pytestmark = pytest.mark.compiled_quickly

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(name, size=8, **options):
    config = config_lib.default("gan")
    config.model.name, config.gan.latent_dim = name, 6
    config.model[f"{name}_generator"] = config.model[f"{name}_discriminator"] = options
    config.optimizer.name, config.optimizer.momentum, config.optimizer.learning_rate = "sgd", 0.0, 0.1
    config.gan.discriminator_learning_rate = 0.05
    images = np.random.default_rng(0).integers(0, 256, (12, size, size, 1), dtype=np.uint8)
    source = ArraySource(images, np.zeros(12, np.int32))
    task = GAN(config, Dataset("toy", {"train": source, "val": source}, (), {}), DURATIONS)
    return task, jax.jit(task.init)(jax.random.key(0)), jnp.asarray(images)


@pytest.fixture(scope="module")
def gan():
    return make("dcgan", width=4)


def test_networks_of_dense_layers_take_the_shape_of_the_images():
    task, state, images = make("mlp_gan", hidden=(8, 8))
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, jax.random.key(1))
    samples = task.pictures(after, {}, {"image": images})["samples"]
    assert samples.shape == (64, 8, 8, 1) and np.isfinite(float(metrics["generator_loss"]))


def test_step_is_discriminator_first_then_generator_through_the_new_discriminator(gan):
    task, state, images = gan
    key = jax.random.key(3)
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, key)
    noise = jax.random.normal(jax.random.split(key, 5)[0], (12, 6))
    g, d = state.networks["generator"], state.networks["discriminator"]
    real = 2.0 * base.to_unit(images) - 1.0

    def generate(params):
        return task.generator.apply(g.variables(params), noise, train=True, mutable=["batch_stats"])[0]

    def judge(params, x):
        return task.discriminator.apply(d.variables(params), x, train=True, mutable=["batch_stats"])[0]

    def d_loss(params):
        on_real, on_fake = judge(params, real), judge(params, generate(g.params))
        return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake))

    new_d = jax.tree.map(lambda p, grad: p - 0.05 * grad, d.params, jax.grad(d_loss)(d.params))

    def g_loss(params):
        return jnp.mean(jax.nn.softplus(-judge(new_d, generate(params))))

    new_g = jax.tree.map(lambda p, grad: p - 0.1 * grad, g.params, jax.grad(g_loss)(g.params))
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(d_loss(d.params)), rel=1e-5)
    assert float(metrics["generator_loss"]) == pytest.approx(float(g_loss(g.params)), rel=1e-5)
    for name, expected in (("discriminator", new_d), ("generator", new_g)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.networks[name].params, expected
        )


def test_samples_are_in_range_and_fixed_for_a_state(gan):
    task, state, images = gan
    one, other = (task.pictures(state, {}, {"image": images})["samples"] for _ in range(2))
    assert one.shape == (64, 8, 8, 1) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)


def test_binary_cross_entropy_of_optax_is_softplus():
    x = jnp.linspace(-3, 3, 7)
    np.testing.assert_allclose(optax.sigmoid_binary_cross_entropy(x, jnp.ones(7)), jax.nn.softplus(-x), rtol=1e-5)


def test_evaluation_compares_moments_of_real_and_generated_images(gan):
    task, state, images = gan
    mask = jnp.asarray([1.0] * 9 + [0.0] * 3)
    sums, outputs = jax.device_get(
        jax.jit(task.eval_step)(state, {}, {"image": images, "mask": mask}, jax.random.key(2))
    )
    assert outputs["sample"].shape == (12, 8, 8, 1) and outputs["sample"].dtype == np.uint8
    noise = jax.random.normal(jax.random.key(2), (12, 6))
    fake = task.sample(state, noise)
    np.testing.assert_array_equal(outputs["sample"], base.to_bytes(fake))
    variables = state.networks["discriminator"].variables()
    for name, shown in (("real", base.to_unit(images)), ("fake", fake)):
        logits = task.discriminator.apply(variables, 2.0 * shown - 1.0, train=False)
        np.testing.assert_allclose(outputs[f"{name}_logit"], logits, rtol=1e-4, atol=1e-5)
        pixels = np.asarray(shown, np.float64).reshape(12, -1)[:9]
        np.testing.assert_allclose(sums[f"{name}_first"], pixels.sum(0), rtol=1e-4)
        np.testing.assert_allclose(sums[f"{name}_second"], pixels.T @ pixels, rtol=1e-3, atol=1e-4)
    found = task.summarize({**sums, "count": np.int32(9)})
    real, fake = (frechet.gaussian(sums[f"{name}_first"], sums[f"{name}_second"], 9) for name in ("real", "fake"))
    assert found == {"frechet_8x8": pytest.approx(frechet.distance(*real, *fake))}


def test_pictures_are_samples_and_the_images_given(gan):
    task, state, images = gan
    pictures = task.pictures(state, {}, {"image": images})
    noise = jax.random.normal(jax.random.key(task.config.seed), (64, 6))
    np.testing.assert_array_equal(pictures["samples"], base.to_bytes(task.sample(state, noise)))
    np.testing.assert_array_equal(pictures["real"], images)


def test_scores_are_mean_probabilities_and_rates_those_of_each_network(gan):
    task, state, images = gan
    _, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, jax.random.key(3))
    assert 0 < float(metrics["real_score"]) < 1 and 0 < float(metrics["fake_score"]) < 1
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)
    assert float(task.discriminator_optimizer.rate(0)) == pytest.approx(0.05)


def test_images_that_are_not_square_are_refused():
    config = config_lib.default("gan")
    config.model.name = "dcgan"
    source = ArraySource(np.zeros((4, 8, 16, 1), np.uint8), np.zeros(4, np.int32))
    with pytest.raises(ValueError, match="needs square images; toy has 8x16"):
        GAN(config, Dataset("toy", {"train": source, "val": source}, (), {}), DURATIONS)


def test_both_networks_update_their_running_statistics():
    task, state, images = make("dcgan", size=16, width=4)
    after, _ = jax.jit(task.train_step)(state, {}, {"image": images}, jax.random.key(3))
    for name in ("generator", "discriminator"):
        before, now = (jax.tree.leaves(s.networks[name].batch_stats) for s in (state, after))
        assert before and all(not np.array_equal(a, b) for a, b in zip(before, now, strict=True)), name

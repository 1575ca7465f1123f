"""The GAN step against gradients taken separately, and its Fréchet distance against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import config as config_lib
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.tasks import base
from vision_jax.tasks.gan import GAN

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(name, **options):
    config = config_lib.default("gan")
    config.model.name, config.gan.latent_dim = name, 6
    config.model[f"{name}_generator"] = config.model[f"{name}_discriminator"] = options
    config.optimizer.name, config.optimizer.momentum, config.optimizer.learning_rate = "sgd", 0.0, 0.1
    config.gan.discriminator_learning_rate = 0.05
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
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

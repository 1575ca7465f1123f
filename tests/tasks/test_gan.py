"""The GAN step against gradients taken separately, and its Fréchet distance against a closed form."""

import dataclasses

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
from vision_jax.utils.options import ConfigError

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(name, size=8, gan=(), discriminator=(), evaluation=(), **options):
    config = config_lib.default("gan")
    config.model.name, config.gan.latent_dim, config.data.batch_size = name, 6, 12
    config.model[f"{name}_generator"] = options
    config.model[f"{name}_discriminator"] = {**options, **dict(discriminator)}
    config.gan.update(dict(gan))
    config.eval.gan.update(dict(evaluation))
    config.optimizer.name, config.optimizer.momentum, config.optimizer.learning_rate = "sgd", 0.0, 0.1
    config.gan.discriminator_learning_rate = 0.05
    images = np.random.default_rng(5).integers(0, 256, (12, size, size, 1), dtype=np.uint8)
    source = ArraySource(images, np.arange(12, dtype=np.int32) % 3)
    splits = {"train": source, "val": source, "test": ArraySource(images, source.labels)}
    task = GAN(config, Dataset("toy", splits, ("a", "b", "c"), {}), DURATIONS)
    return task, jax.jit(task.init)(jax.random.key(0)), jnp.asarray(images)


@pytest.fixture(scope="module")
def gan():
    return make("dcgan", width=4)


def test_networks_of_dense_layers_take_the_shape_of_the_images():
    task, state, images = make("mlp_gan", hidden=(8, 8))
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, jax.random.key(1))
    samples = task.pictures(after, {}, {"image": images})["samples"]
    assert samples.shape == (64, 8, 8, 1) and np.isfinite(float(metrics["generator_loss"]))


def parts(task, state):
    """Both networks as in a training step, without augmentation: `generate(params, noise, labels)`, `judge(...)`."""
    generator, discriminator = state.networks["generator"], state.networks["discriminator"]

    def generate(params, noise, labels=None):
        return task.generator.apply(generator.variables(params), noise, labels, train=True, mutable=["batch_stats"])[0]

    def judge(params, images, labels=None):
        variables = discriminator.variables(params)
        return task.discriminator.apply(variables, images, labels, train=True, mutable=["batch_stats"])[0]

    return generate, judge


def noise_of(key, steps, number, count, latent=6):
    """The noise of an update of the discriminator: its key is split off the step's, then the noise's off that."""
    update_key = jax.random.split(key, 2 + steps)[2 + number]
    return jax.random.normal(jax.random.split(update_key, 3)[0], (count, latent))


def descend(params, gradients, rate):
    return jax.tree.map(lambda p, grad: p - rate * grad, params, gradients)


def assert_params(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_step_is_discriminator_first_then_generator_through_the_new_discriminator(gan):
    task, state, images = gan
    key = jax.random.key(3)
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, key)
    noise, real = noise_of(key, 1, 0, 12), 2.0 * base.to_unit(images) - 1.0
    g, d = state.networks["generator"].params, state.networks["discriminator"].params
    generate, judge = parts(task, state)

    def d_loss(params):
        on_real, on_fake = judge(params, real), judge(params, generate(g, noise))
        return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake))

    new_d = descend(d, jax.grad(d_loss)(d), 0.05)

    def g_loss(params):
        return jnp.mean(jax.nn.softplus(-judge(new_d, generate(params, noise))))

    assert float(metrics["discriminator_loss"]) == pytest.approx(float(d_loss(d)), rel=1e-5)
    assert float(metrics["generator_loss"]) == pytest.approx(float(g_loss(g)), rel=1e-5)
    assert_params(after.networks["discriminator"].params, new_d)
    assert_params(after.networks["generator"].params, descend(g, jax.grad(g_loss)(g), 0.1))


def test_several_updates_of_the_discriminator_take_parts_of_the_batch():
    """Wasserstein with its penalty, conditional: updates on every second example, the generator on the last half."""
    gan = dict(loss="wasserstein", discriminator_steps=2, gradient_penalty=3.0, conditional=True)
    task, state, images = make("dcgan", gan=gan, discriminator=dict(norm="none"), width=4)
    labels, key = jnp.arange(12) % 3, jax.random.key(3)
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images, "label": labels}, key)
    real, (generate, judge) = 2.0 * base.to_unit(images) - 1.0, parts(task, state)
    g, d = state.networks["generator"].params, state.networks["discriminator"].params
    for number in (0, 1):
        own, fake = labels[number::2], generate(g, noise_of(key, 2, number, 6), labels[number::2])
        update_key = jax.random.split(jax.random.split(key, 4)[2 + number], 3)[2]
        penalty_key = jax.random.split(jax.random.split(update_key, 3)[2], 4)[3]
        position = jax.random.uniform(penalty_key, (6, 1, 1, 1))
        between = position * real[number::2] + (1 - position) * fake

        def loss(params, own=own, fake=fake, between=between, number=number):
            by_image = jax.grad(lambda x: jnp.sum(judge(params, x, own)))(between)
            penalty = jnp.mean((jnp.sqrt(jnp.sum(by_image**2, (1, 2, 3))) - 1) ** 2)
            value = jnp.mean(judge(params, fake, own)) - jnp.mean(judge(params, real[number::2], own))
            return value + 3.0 * penalty, (value, penalty)

        (_, (value, penalty)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(d)
        d = descend(d, gradient, 0.05)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(value), rel=1e-4)
    assert float(metrics["penalty"]) == pytest.approx(3.0 * float(penalty), rel=1e-4)
    assert_params(after.networks["discriminator"].params, d)
    noise = noise_of(key, 2, 1, 6)
    gradient = jax.jit(
        jax.grad(lambda params: -jnp.mean(judge(d, generate(params, noise, labels[1::2]), labels[1::2])))
    )
    assert_params(after.networks["generator"].params, descend(g, gradient(g), 0.1))


def test_the_discriminator_s_rate_falls_with_the_generator_s_however_often_it_is_updated():
    task, *_ = make("mlp_gan", gan=dict(discriminator_steps=2), hidden=(8,))
    task.config.schedule.name = "cosine"
    task = GAN(task.config, task.dataset, dataclasses.replace(DURATIONS, warmup=2))

    def moves(optimizer, updates):
        state, found = optimizer.init({"params": {"weight": jnp.zeros(())}}), []
        for _ in range(updates):
            before, state = state, optimizer.update(state, {"weight": jnp.ones(())}, {})
            found.append(float(before.params["weight"] - state.params["weight"]))
        return found

    generator, discriminator = moves(task.generator_optimizer, 10), moves(task.discriminator_optimizer, 20)
    np.testing.assert_allclose(discriminator[::2], np.asarray(generator) / 2, atol=1e-7)  # Rates of 0.1 and 0.05.
    assert discriminator[-1] > 0


def test_a_relativistic_step_compares_pairs_and_penalizes_both_kinds():
    gan = dict(loss="relativistic", r1=2.0, r2=0.5, penalty_every=2)
    task, state, images = make("dcgan", gan=gan, discriminator=dict(norm="none"), width=4)
    key, real, (generate, judge) = jax.random.key(3), 2.0 * base.to_unit(images) - 1.0, parts(task, state)
    g, d = state.networks["generator"].params, state.networks["discriminator"].params
    noise = noise_of(key, 1, 0, 12)
    fake = generate(g, noise)

    def loss(params, penalized):
        def penalty(x):
            return 0.5 * jnp.sum(jax.grad(lambda x: jnp.sum(judge(params, x)))(x) ** 2) / 12

        value = jnp.mean(jax.nn.softplus(judge(params, fake) - judge(params, real)))
        added = 2 * penalized * (2.0 * penalty(real) + 0.5 * penalty(fake))
        return value + added, added

    step = jax.jit(task.train_step)
    for number, penalized in ((0, 1.0), (1, 0.0)):  # Every second step has the penalties, at twice their weight.
        after, metrics = step(state.replace(step=jnp.int32(number)), {}, {"image": images}, key)
        gradient, added = jax.jit(jax.grad(loss, has_aux=True))(d, penalized)
        new_d = descend(d, gradient, 0.05)
        assert_params(after.networks["discriminator"].params, new_d)
        assert float(metrics["penalty"]) == pytest.approx(float(added), rel=1e-4)
        assert bool(added > 0) == bool(penalized)
    gradient = jax.jit(
        jax.grad(lambda params: jnp.mean(jax.nn.softplus(judge(new_d, real) - judge(new_d, generate(params, noise)))))
    )
    assert_params(after.networks["generator"].params, descend(g, gradient(g), 0.1))


def test_a_classifier_adds_its_cross_entropy_on_real_images_and_on_the_generator_s_own():
    task, state, images = make("dcgan", gan=dict(conditional=True, classifier=0.7), width=4)
    labels, key, real = jnp.arange(12) % 3, jax.random.key(3), 2.0 * base.to_unit(images) - 1.0
    after, metrics = jax.jit(task.train_step)(state, {}, {"image": images, "label": labels}, key)
    g, d, (generate, _) = *(state.networks[name].params for name in ("generator", "discriminator")), parts(task, state)
    noise = noise_of(key, 1, 0, 12)

    def judge(params, images):
        variables, mutable = state.networks["discriminator"].variables(params), ["batch_stats", "class_scores"]
        logits, found = task.discriminator.apply(variables, images, labels, train=True, mutable=mutable)
        scores = jax.nn.log_softmax(found["class_scores"]["scores"])
        return logits, -jnp.mean(scores[jnp.arange(12), labels])

    def d_loss(params):
        (on_real, classes), (on_fake, _) = judge(params, real), judge(params, generate(g, noise, labels))
        return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake)) + 0.7 * classes, classes

    gradient, real_classes = jax.jit(jax.grad(d_loss, has_aux=True))(d)
    new_d = descend(d, gradient, 0.05)

    def g_loss(params):
        logits, classes = judge(new_d, generate(params, noise, labels))
        return jnp.mean(jax.nn.softplus(-logits)) + 0.7 * classes, classes

    gradient, fake_classes = jax.jit(jax.grad(g_loss, has_aux=True))(g)
    assert_params(after.networks["discriminator"].params, new_d)
    assert_params(after.networks["generator"].params, descend(g, gradient, 0.1))
    assert float(metrics["real_class_loss"]) == pytest.approx(float(real_classes), rel=1e-5)
    assert float(metrics["fake_class_loss"]) == pytest.approx(float(fake_classes), rel=1e-5)


def test_a_classifier_of_a_gan_that_knows_no_classes_is_refused():
    with pytest.raises(ConfigError, match="classifier is for conditional GANs; set"):
        make("dcgan", gan=dict(classifier=0.7), width=4)


def test_samples_have_a_temperature_of_which_training_knows_nothing():
    task, state, images = make("dcgan", gan=dict(temperature=1.5), width=4)
    plain, *_ = make("dcgan", width=4)
    key = jax.random.key(3)
    noise = jax.random.normal(key, (12, 6))
    np.testing.assert_allclose(task.sample(state, noise, None), plain.sample(state, 1.5 * noise, None), atol=1e-6)
    after, expected = (jax.jit(each.train_step)(state, {}, {"image": images}, key)[0] for each in (task, plain))
    assert_params(after.networks["generator"].params, expected.networks["generator"].params)


def test_the_averaged_generator_has_statistics_of_its_own():
    task, state, images = make("dcgan", width=4)
    config = task.config
    config.optimizer.ema_decay = 0.5
    task = GAN(config, task.dataset, DURATIONS)
    state, key = jax.jit(task.init)(jax.random.key(0)), jax.random.key(3)
    before = state.networks["generator"].averaged_statistics
    step = jax.jit(task.train_step)
    after = step(state, {}, {"image": images}, key)[0].networks["generator"]
    variables = {"params": after.averaged, "batch_stats": before}
    noise = noise_of(key, 1, 0, 12)
    _, expected = jax.jit(lambda v: task.generator.apply(v, noise, train=True, mutable=["batch_stats"]))(variables)
    assert_params(after.averaged_statistics, expected["batch_stats"])
    between = step(state.replace(step=jnp.int32(1)), {}, {"image": images}, key)[0].networks["generator"]
    assert_params(between.averaged_statistics, before)


def test_what_the_discriminator_sees_is_augmented_real_and_generated():
    plain, state, images = make("dcgan", width=4)
    augmented, _, _ = make("dcgan", gan=dict(augment=("color", "cutout")), width=4)
    arguments = state.networks["discriminator"].params, state.networks["discriminator"].batch_stats
    real = 2.0 * base.to_unit(images) - 1.0
    first, second, other = (
        task.judge(*arguments, real, None, jax.random.key(n), 0)[0]
        for task, n in ((plain, 0), (augmented, 0), (augmented, 1))
    )
    assert not np.allclose(first, second) and not np.allclose(second, other)


def test_augmentation_begins_after_its_fraction_of_training():
    plain, state, images = make("dcgan", width=4)
    always, _, _ = make("dcgan", gan=dict(augment=("translation",)), width=4)
    late, _, _ = make("dcgan", gan=dict(augment=("translation",), augment_start=0.5), width=4)
    arguments = state.networks["discriminator"].params, state.networks["discriminator"].batch_stats
    real = 2.0 * base.to_unit(images) - 1.0

    def logits(task, step):
        return task.judge(*arguments, real, None, jax.random.key(0), jnp.int32(step))[0]

    begin = late.durations.total // 2
    np.testing.assert_array_equal(logits(late, begin - 1), logits(plain, begin - 1))
    np.testing.assert_array_equal(logits(late, begin), logits(always, begin))
    assert not np.allclose(logits(plain, begin), logits(always, begin))


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
    fake = task.sample(state, noise, None)
    np.testing.assert_array_equal(outputs["sample"], base.to_bytes(fake))
    variables, pooled = state.networks["discriminator"].variables(), {}
    for name, shown in (("real", base.to_unit(images)), ("fake", fake)):
        logits = task.discriminator.apply(variables, 2.0 * shown - 1.0, train=False)
        np.testing.assert_allclose(outputs[f"{name}_logit"], logits, rtol=1e-4, atol=1e-5)
        pixels = pooled[name] = np.asarray(shown, np.float64).reshape(12, -1)[:9]
        np.testing.assert_allclose(sums[f"{name}_first"], pixels.sum(0), rtol=1e-4)
        np.testing.assert_allclose(sums[f"{name}_second"], pixels.T @ pixels, rtol=1e-3, atol=1e-4)
    found = task.summarize({**sums, "count": np.int32(9)})
    real, fake = (frechet.gaussian(sums[f"{name}_first"], sums[f"{name}_second"], 9) for name in ("real", "fake"))
    assert found["frechet_8x8"] == pytest.approx(frechet.distance(*real, *fake))
    apart = [np.square(x[:, None] - x[None]).sum(-1).sum() for x in (pooled["fake"], pooled["real"])]
    assert found["diversity"] == pytest.approx(np.sqrt(apart[0] / apart[1]), rel=1e-3)


def test_pictures_are_samples_and_the_images_given(gan):
    task, state, images = gan
    pictures = task.pictures(state, {}, {"image": images})
    noise = jax.random.normal(jax.random.key(task.config.seed), (64, 6))
    np.testing.assert_array_equal(pictures["samples"], base.to_bytes(task.sample(state, noise, None)))
    np.testing.assert_array_equal(pictures["real"], images)


def test_accuracies_are_the_discriminator_s_and_rates_those_of_each_network(gan):
    task, state, images = gan
    key = jax.random.key(3)
    _, metrics = jax.jit(task.train_step)(state, {}, {"image": images}, key)
    generate, judge = parts(task, state)
    g, d = state.networks["generator"].params, state.networks["discriminator"].params
    on_real = judge(d, 2.0 * base.to_unit(images) - 1.0)
    on_fake = judge(d, generate(g, noise_of(key, 1, 0, 12)))
    assert float(metrics["real_accuracy"]) == pytest.approx(float(jnp.mean(on_real > 0)))
    assert float(metrics["fake_accuracy"]) == pytest.approx(float(jnp.mean(on_fake <= 0)))
    shown = generate(g, noise_of(key, 1, 0, 12)), 2.0 * base.to_unit(images) - 1.0
    deviations = [float(np.std(np.asarray(x), 0).mean()) for x in shown]
    assert float(metrics["minibatch_deviation"]) == pytest.approx(deviations[0] / deviations[1], rel=1e-2)
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)
    assert float(task.discriminator_optimizer.rate(0)) == pytest.approx(0.05)


def test_pictures_of_a_conditional_gan_are_of_the_classes_in_turn():
    task, state, images = make("dcgan", gan=dict(conditional=True), width=4)
    pictures = jax.jit(task.pictures)(state, {}, {"image": images})
    noise = jax.random.normal(jax.random.key(task.config.seed), (64, 6))
    expected = task.sample(state, noise, jnp.arange(64) % 3)
    np.testing.assert_allclose(pictures["samples"], base.to_bytes(expected), atol=1)
    assert pictures["by_class"].shape == (3 * 8, 8, 8, 1) and pictures["interpolation"].shape == (64, 8, 8, 1)


def test_collapse_is_warned_of_once_training_is_under_way(gan):
    task, _, _ = gan
    metrics = {"val/diversity": 0.2, "val/frechet_8x8": 0.1}
    assert task.warnings(1, metrics) == []
    (warning,) = task.warnings(2, metrics)
    assert warning.startswith("val/diversity is 0.20: generated images differ from each other much less")
    assert task.warnings(2, {"val/diversity": 0.31, "train/minibatch_deviation": 0.3}) == []
    assert len(task.warnings(2, {"train/minibatch_deviation": 0.29})) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(augment=("colour",)), "has 'colour'; did you mean 'color'"),
        (dict(discriminator_steps=5), "batch_size=12 is to be divided into .*=5 equal parts"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make("dcgan", gan=options)


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

"""Layers of GANs against PyTorch's own and against their formulas."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from vision_jax import models
from vision_jax.models import adversarial_layers as layers
from vision_jax.models.layers import Conv

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return layers.SpectralNorm(Conv(5, (3, 3), padding=1, name="conv"), name="spectral")(x, train=train)


def test_spectral_normalization_is_pytorch_s():
    module = torch.nn.utils.spectral_norm(torch.nn.Conv2d(2, 5, 3, padding=1))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    kernel = module.weight_orig.detach().permute(2, 3, 1, 0).numpy().copy()
    variables = {
        "params": {"conv": {"kernel": kernel, "bias": module.bias.detach().numpy().copy()}},
        "batch_stats": {"spectral": {"u": module.weight_u.numpy().copy()[None]}},
    }
    theirs = torch.tensor(x).permute(0, 3, 1, 2)

    def loss(params, stats, train=True):
        y, mutated = Normalized().apply({"params": params, **stats}, x, train=train, mutable=["batch_stats"])
        return jnp.sum(y**2), mutated

    stats = {"batch_stats": variables["batch_stats"]}
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for _ in range(3):  # The iteration goes on from step to step.
        (value, stats), gradient = step(variables["params"], stats)
        expected = module(theirs).square().sum()
        module.zero_grad()
        expected.backward()
        assert float(value) == pytest.approx(expected.item(), rel=1e-5)
        by_kernel = module.weight_orig.grad.permute(2, 3, 1, 0)
        np.testing.assert_allclose(gradient["conv"]["kernel"], by_kernel, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(stats["batch_stats"]["spectral"]["u"][0], module.weight_u, rtol=1e-4, atol=1e-5)
    # In evaluation PyTorch keeps both vectors of the iteration and we one, which is the same once they have converged.
    for _ in range(100):
        (_, stats), _ = step(variables["params"], stats)
        module(theirs)
    module.eval()
    value, mutated = loss(variables["params"], stats, train=False)
    assert float(value) == pytest.approx(module(theirs).square().sum().item(), rel=1e-4)
    jax.tree.map(np.testing.assert_array_equal, mutated, stats)


def test_minibatch_deviation_is_that_of_each_group():
    x = np.random.default_rng(0).normal(size=(8, 3, 3, 2)).astype(np.float32)
    out = np.asarray(layers.minibatch_stddev(jnp.asarray(x)))
    np.testing.assert_array_equal(out[..., :2], x)
    for group in range(2):  # Images 0, 2, 4, 6 and 1, 3, 5, 7.
        expected = np.sqrt(x[group::2].var(0) + 1e-8).mean()
        np.testing.assert_allclose(out[group::2, ..., 2], expected, rtol=1e-5)
    alike = np.asarray(layers.minibatch_stddev(jnp.asarray(x[:1].repeat(3, 0))))
    np.testing.assert_allclose(alike[..., 2], 1e-4, rtol=1e-3)


def test_minibatch_discrimination_is_its_formula():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    module = layers.MinibatchDiscrimination(kernels=3, dimensions=2)
    variables = jax.tree.map(lambda leaf: 20.0 * leaf, module.init(jax.random.key(0), x))
    out = np.asarray(module.apply(variables, x))
    projected = np.einsum("nd,dkp->nkp", x, np.asarray(variables["params"]["projection"]))
    for i in range(4):
        others = [np.exp(-np.abs(projected[i] - projected[j]).sum(-1)) for j in range(4) if j != i]
        np.testing.assert_allclose(out[i, 6:], np.sum(others, 0), rtol=1e-4)


@pytest.mark.parametrize("name", ["dcgan", "mlp_gan"])
def test_a_conditional_network_sees_the_class(name):
    generator = models.build(f"{name}_generator", num_classes=3, latent=4)
    discriminator = models.build(f"{name}_discriminator", num_classes=3)
    noise, labels = jnp.ones((2, 4)), jnp.array([0, 1])

    @jax.jit
    def compute():
        variables = generator.init(jax.random.key(0), noise, labels, train=False)
        images = generator.apply(variables, noise, labels, train=False)
        alike = jnp.stack([images[0], images[0]])
        variables = discriminator.init(jax.random.key(0), alike, labels, train=False)
        logits, kept = discriminator.apply(variables, alike, labels, train=False, mutable=["intermediates"])
        return images, logits, kept["intermediates"]["features"][0], variables["params"]["class"]["embedding"]

    images, logits, features, embedding = compute()
    assert not np.allclose(images[0], images[1])
    pooled = features[0].reshape(-1, embedding.shape[1]).sum(0)
    expected = pooled @ (embedding[0] - embedding[1])
    assert float(logits[0] - logits[1]) == pytest.approx(float(expected), rel=1e-3, abs=1e-5)
    with pytest.raises(ValueError, match="num_classes=3 and was not given labels"):
        jax.eval_shape(lambda: discriminator.init(jax.random.key(0), images, train=False))


def test_the_class_scales_and_shifts_channels():
    x, embedded = jax.random.normal(jax.random.key(0), (2, 3, 3, 4)), jnp.array([[1.0, 0.0], [0.5, 2.0]])
    kernel = jax.random.normal(jax.random.key(1), (2, 8))
    out = layers.ClassModulation().apply({"params": {"dense": {"kernel": kernel}}}, x, embedded)
    scale, shift = np.split(np.asarray(embedded @ kernel)[:, None, None], 2, -1)
    np.testing.assert_allclose(out, x * (1 + scale) + shift, rtol=1e-5, atol=1e-5)


def test_a_modulated_generator_sees_the_class_in_every_layer():
    generator = models.build("dcgan_generator", num_classes=3, latent=4, width=4, modulation=True)
    noise, labels = jnp.ones((2, 4)), jnp.array([0, 1])
    variables = jax.jit(lambda: generator.init(jax.random.key(0), noise, labels, train=False))()
    assert set(variables["params"]) == {module for names in generator.stages.values() for module in names}
    first = generator.apply(variables, noise, labels, train=False)
    for layer in ("modulation0", "modulation2"):
        changed = jax.tree.map(lambda leaf: 10.0 * leaf, variables["params"][layer])
        images = generator.apply(
            {**variables, "params": variables["params"] | {layer: changed}}, noise, labels, train=False
        )
        assert not np.allclose(images, first, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("dcgan", 32), ("mlp_gan", 28), ("r3gan", 32)])
def test_a_discriminator_that_classifies_offers_scores_of_all_classes(name, size):
    options = dict(widths=(16,) * 4, blocks=1) if name == "r3gan" else {}
    networks = [
        models.build(f"{name}_discriminator", num_classes=3, classifies=flag, **options) for flag in (True, False)
    ]
    images, labels = jax.random.normal(jax.random.key(1), (2, size, size, 3)), jnp.array([0, 1])

    @jax.jit
    def compute():
        variables = networks[0].init(jax.random.key(0), images, labels, train=False)
        mutable = ["batch_stats", "class_scores"]
        logits, found = networks[0].apply(variables, images, labels, train=True, mutable=mutable)
        without = {name: leaves for name, leaves in variables["params"].items() if name != "scores"}
        plain, nothing = networks[1].apply(
            {**variables, "params": without}, images, labels, train=True, mutable=mutable
        )
        return variables["params"], logits, plain, found["class_scores"]["scores"], nothing.get("class_scores")

    params, logits, plain, scores, nothing = compute()
    assert set(params) == {module for names in networks[0].stages.values() for module in names}
    assert scores.shape == (2, 3) and scores.dtype == jnp.float32 and not np.allclose(scores[0], scores[1])
    assert nothing is None
    np.testing.assert_array_equal(logits, plain)


@pytest.mark.parametrize(
    "options",
    [
        dict(norm="none"),
        dict(spectral_norm=True),
        dict(minibatch="stddev"),
        dict(minibatch="discrimination"),
        dict(residual=1),
        dict(residual=2, norm="none"),
    ],
)
def test_options_of_the_discriminator_change_its_logits_and_its_stages_name_all_it_has(options):
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))

    def compute(**given):
        model = models.build("dcgan_discriminator", image_size=16, channels=1, width=4, **given)
        variables = model.init(jax.random.key(0), images, train=False)
        assert set(variables["params"]) == {module for names in model.stages.values() for module in names}
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    logits = jax.jit(compute, static_argnames=tuple(options))

    assert not np.allclose(logits(), logits(**options))


def test_a_residual_convolution_adds_to_what_it_sees():
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    plain, residual = (
        models.build("dcgan_discriminator", image_size=16, channels=1, width=4, norm="none", residual=count)
        for count in (0, 1)
    )

    @jax.jit
    def compute():
        params = residual.init(jax.random.key(0), images, train=False)["params"]
        params |= {"residual0": jax.tree.map(jnp.zeros_like, params["residual0"])}
        _, kept = residual.apply({"params": params}, images, train=False, mutable=["intermediates"])
        params = {name: leaf for name, leaf in params.items() if name != "residual0"}
        _, before = plain.apply({"params": params}, images, train=False, mutable=["intermediates"])
        return kept["intermediates"]["down0"][0], before["intermediates"]["down0"][0]

    kept, before = compute()
    np.testing.assert_allclose(kept, jnp.where(before > 0, before, 0.2 * before), rtol=1e-6)


def test_a_fully_connected_discriminator_drops_activations_in_training_alone():
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    model = models.build("mlp_gan_discriminator", hidden=(16,), dropout=0.5)

    @jax.jit
    def compute():
        variables = model.init(jax.random.key(0), images, train=False)
        trained = [model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2)]
        return *trained, model.apply(variables, images, train=False)

    first, second, evaluated = compute()
    assert not np.allclose(first, second) and not np.allclose(first, evaluated)

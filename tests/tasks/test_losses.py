"""Losses and penalties of GANs against PyTorch, in value and gradient, on the same arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks import losses
from vision_jax.utils.options import ConfigError

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
F = torch.nn.functional

REAL, FAKE = (np.random.default_rng(i).normal(0.0, 2.0, 6).astype(np.float32) for i in (0, 1))
LABEL = 0.9


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


# Of each loss: the discriminator's, the generator's, the shares of REAL and of FAKE that count as told right.
TORCH = {
    "bce": (lambda r, f: bce(r, LABEL) + bce(f, 0.0), lambda r, f: bce(f, 1.0)),
    "minimax": (lambda r, f: bce(r, LABEL) + bce(f, 0.0), lambda r, f: torch.log1p(-torch.sigmoid(f)).mean()),
    "hinge": (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "least_squares": (
        lambda r, f: 0.5 * (F.mse_loss(r, torch.full_like(r, LABEL)) + F.mse_loss(f, torch.zeros_like(f))),
        lambda r, f: 0.5 * F.mse_loss(f, torch.ones_like(f)),
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic": (lambda r, f: F.softplus(-(r - f)).mean(), lambda r, f: F.softplus(-(f - r)).mean()),
}


def gradients(value, *by):
    return [g.numpy() for g in torch.autograd.grad(value, by)]


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_values_and_gradients_are_pytorch_s(name):
    loss = losses.adversarial(name)
    real, fake = (torch.tensor(x, requires_grad=True) for x in (REAL, FAKE))
    discriminator, generator = TORCH[name]
    value = discriminator(real, fake)
    found, by = jax.value_and_grad(loss.discriminator, (0, 1))(jnp.asarray(REAL), jnp.asarray(FAKE), LABEL)
    np.testing.assert_allclose(found, value.item(), rtol=1e-5)
    for ours, theirs in zip(by, gradients(value, real, fake), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    value = generator(real, fake)
    found, by = jax.value_and_grad(loss.generator)(jnp.asarray(FAKE), jnp.asarray(REAL))
    np.testing.assert_allclose(found, value.item(), rtol=1e-5)
    np.testing.assert_allclose(by, gradients(value, fake)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "boundary"), [("bce", 0.0), ("hinge", 0.0), ("least_squares", 0.5), ("wasserstein", None)]
)
def test_accuracies_count_what_lies_on_the_right_side(name, boundary):
    boundary = (REAL.mean() + FAKE.mean()) / 2 if boundary is None else boundary
    real, fake = losses.adversarial(name).accuracies(jnp.asarray(REAL), jnp.asarray(FAKE))
    assert (float(real), float(fake)) == pytest.approx((np.mean(REAL > boundary), np.mean(FAKE <= boundary)))


def test_an_unknown_loss_names_the_closest():
    with pytest.raises(ConfigError, match="'hing'; did you mean 'hinge'"):
        losses.adversarial("hing")


class Critic(torch.nn.Module):
    """A small network with the weights given, of which everything is twice differentiable."""

    def __init__(self, kernel, weights):
        super().__init__()
        self.kernel, self.weights = (torch.nn.Parameter(torch.tensor(x)) for x in (kernel, weights))

    def forward(self, x):
        x = F.softplus(F.conv2d(x, self.kernel, stride=2, padding=1))
        return x.flatten(1) @ self.weights


@pytest.fixture(scope="module")
def critic():
    """Both versions, their parameters, and images real and generated in both layouts."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 0.3, (4, 3, 4, 4)).astype(np.float32)
    weights = rng.normal(0, 0.3, 4 * 4 * 4).astype(np.float32)
    real, fake = rng.normal(0, 1, (2, 5, 8, 8, 3)).astype(np.float32)

    def logits(params, images):
        dimensions = ("NHWC", "OIHW", "NCHW")
        x = jax.lax.conv_general_dilated(images, params[0], (2, 2), ((1, 1), (1, 1)), dimension_numbers=dimensions)
        return jax.nn.softplus(x).reshape(len(images), -1) @ params[1]

    return Critic(kernel, weights), logits, (jnp.asarray(kernel), jnp.asarray(weights)), real, fake


def compare(critic, ours, theirs):
    """Compares a penalty and its gradient by the critic's parameters."""
    module, logits, params, *_ = critic
    found, by = jax.value_and_grad(lambda p: ours(lambda images: logits(p, images)))(params)
    value = theirs(module)
    np.testing.assert_allclose(found, value.item(), rtol=1e-5)
    for a, b in zip(by, gradients(value, module.kernel, module.weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def input_gradient(module, images):
    images = torch.tensor(images).permute(0, 3, 1, 2).requires_grad_()
    return torch.autograd.grad(module(images).sum(), images, create_graph=True)[0]


def test_the_zero_centered_penalty_is_pytorch_s(critic):
    _, _, _, real, _ = critic

    def theirs(module):
        return 0.5 * input_gradient(module, real).square().sum((1, 2, 3)).mean()

    compare(critic, lambda logits: losses.zero_centered_penalty(logits, jnp.asarray(real)), theirs)


def test_the_interpolation_penalty_is_pytorch_s(critic):
    _, _, _, real, fake = critic
    key = jax.random.key(7)
    position = np.asarray(jax.random.uniform(key, (5, 1, 1, 1)))

    def theirs(module):
        between = position * real + (1 - position) * fake
        return (input_gradient(module, between).flatten(1).norm(dim=1) - 1).square().mean()

    compare(
        critic,
        lambda logits: losses.interpolation_penalty(logits, jnp.asarray(real), jnp.asarray(fake), key),
        theirs,
    )


def test_a_constant_critic_has_a_finite_penalty():
    images = jnp.zeros((2, 4, 4, 1))
    value, gradient = jax.value_and_grad(
        lambda scale: losses.interpolation_penalty(
            lambda x: scale * x.sum((1, 2, 3)), images, images, jax.random.key(0)
        )
    )(0.0)
    assert float(value) == pytest.approx(1.0, abs=1e-5) and np.isfinite(gradient)

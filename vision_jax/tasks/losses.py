"""What the networks of a GAN minimize, by name: losses of the discriminator's logits, penalties on its gradient."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

Logits = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One pair of losses, both means over the batch.

    Attributes:
        discriminator: `(on_real, on_fake, real_label)` -> scalar; logits [N], and the target of real images, which a
            loss without targets leaves out.
        generator: `(on_fake, on_real)` -> scalar; most leave `on_real` out, which then is not computed when compiled.
        boundary: the logit above which an image counts as taken for real; None where logits have no zero of their own,
            and the mean of real and generated ones takes its place.
    """

    discriminator: Callable[[jax.Array, jax.Array, float], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    boundary: float | None = 0.0

    def accuracies(self, on_real: jax.Array, on_fake: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the shares of real and of generated images that the discriminator tells right."""
        middle = (jnp.mean(on_real) + jnp.mean(on_fake)) / 2.0
        boundary = middle if self.boundary is None else jnp.asarray(self.boundary, middle.dtype)
        return jnp.mean((on_real > boundary).astype(jnp.float32)), jnp.mean((on_fake <= boundary).astype(jnp.float32))


def _bce(logits: jax.Array, target: float) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)).mean()


def _discriminator_bce(on_real: jax.Array, on_fake: jax.Array, real_label: float) -> jax.Array:
    return _bce(on_real, real_label) + _bce(on_fake, 0.0)


ADVERSARIAL = {
    # Goodfellow et al. 2014 (arXiv 1406.2661): the generator's loss in the non-saturating form, and as in the game.
    "bce": AdversarialLoss(_discriminator_bce, lambda on_fake, on_real: _bce(on_fake, 1.0)),
    "minimax": AdversarialLoss(_discriminator_bce, lambda on_fake, on_real: -_bce(on_fake, 0.0)),
    # Lim & Ye 2017 (arXiv 1705.02894).
    "hinge": AdversarialLoss(
        lambda on_real, on_fake, real_label: jax.nn.relu(1.0 - on_real).mean() + jax.nn.relu(1.0 + on_fake).mean(),
        lambda on_fake, on_real: -on_fake.mean(),
    ),
    # Mao et al. 2017 (arXiv 1611.04076), with the labels 0 and 1.
    "least_squares": AdversarialLoss(
        lambda on_real, on_fake, real_label: 0.5 * (((on_real - real_label) ** 2).mean() + (on_fake**2).mean()),
        lambda on_fake, on_real: 0.5 * ((on_fake - 1.0) ** 2).mean(),
        boundary=0.5,
    ),
    # Arjovsky et al. 2017 (arXiv 1701.07875); it needs config.gan.gradient_penalty (Gulrajani et al. 2017, 1704.00028).
    "wasserstein": AdversarialLoss(
        lambda on_real, on_fake, real_label: on_fake.mean() - on_real.mean(),
        lambda on_fake, on_real: -on_fake.mean(),
        boundary=None,
    ),
    # Jolicoeur-Martineau 2018 (arXiv 1807.00734), each generated image against one real image, as in R3GAN (Huang et
    # al. 2024, arXiv 2501.05441), which adds config.gan.r1 and config.gan.r2.
    "relativistic": AdversarialLoss(
        lambda on_real, on_fake, real_label: jax.nn.softplus(on_fake - on_real).mean(),
        lambda on_fake, on_real: jax.nn.softplus(on_real - on_fake).mean(),
        boundary=None,
    ),
}


def adversarial(name: str) -> AdversarialLoss:
    """Returns the loss `config.gan.loss` names; raises `ConfigError` with the names there are."""
    if name not in ADVERSARIAL:
        names = ", ".join(ADVERSARIAL)
        raise ConfigError(f"config.gan.loss is {name!r}{closest(name, ADVERSARIAL)}; there are {names}.")
    return ADVERSARIAL[name]


def gradient_norms(logits: Logits, images: jax.Array) -> jax.Array:
    """Returns the norm [N] of the gradient of each image's logit with respect to the image, differentiable itself."""
    gradients = jax.grad(lambda x: jnp.sum(logits(x)))(images)
    squares = jnp.sum(gradients**2, tuple(range(1, gradients.ndim)))
    # The root has no derivative at 0, where a discriminator is constant.
    return jnp.sqrt(jnp.maximum(squares, 1e-12))


def zero_centered_penalty(logits: Logits, images: jax.Array) -> jax.Array:
    """Returns half the mean squared norm of the logits' gradient: R1 on real images, R2 on generated ones.

    Source: Mescheder et al. 2018 (arXiv 1801.04406).
    """
    gradients = jax.grad(lambda x: jnp.sum(logits(x)))(images)
    return 0.5 * jnp.sum(gradients**2) / images.shape[0]


def interpolation_penalty(logits: Logits, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the mean of (norm - 1)² of the gradient between real and generated images.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), WGAN-GP: one uniform point on the line between each pair.
    """
    position = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1))
    return jnp.mean((gradient_norms(logits, fake + position * (real - fake)) - 1.0) ** 2)

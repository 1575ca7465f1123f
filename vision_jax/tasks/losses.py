"""Losses of adversarial training, by name: what discriminator and generator minimize, of the discriminator's logits."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One pair of losses.

    Attributes:
        discriminator: `(on_real, on_fake, real_label)` -> scalar; logits [N], and the target of real images, which a
            loss without targets leaves out.
        generator: `(on_fake)` -> scalar.
    """

    discriminator: Callable[[jax.Array, jax.Array, float], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


def _bce(logits: jax.Array, target: float) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)).mean()


ADVERSARIAL = {
    # The non-saturating loss of Goodfellow et al. 2014 (arXiv 1406.2661).
    "bce": AdversarialLoss(
        lambda on_real, on_fake, real_label: _bce(on_real, real_label) + _bce(on_fake, 0.0),
        lambda on_fake: _bce(on_fake, 1.0),
    ),
    # Lim & Ye 2017 (arXiv 1705.02894).
    "hinge": AdversarialLoss(
        lambda on_real, on_fake, real_label: jax.nn.relu(1.0 - on_real).mean() + jax.nn.relu(1.0 + on_fake).mean(),
        lambda on_fake: -on_fake.mean(),
    ),
    # Mao et al. 2017 (arXiv 1611.04076), with the labels 0 and 1.
    "least_squares": AdversarialLoss(
        lambda on_real, on_fake, real_label: 0.5 * (((on_real - real_label) ** 2).mean() + (on_fake**2).mean()),
        lambda on_fake: 0.5 * ((on_fake - 1.0) ** 2).mean(),
    ),
}


def adversarial(name: str) -> AdversarialLoss:
    """Returns the loss `config.gan.loss` names; raises `ConfigError` with the names there are."""
    if name not in ADVERSARIAL:
        names = ", ".join(ADVERSARIAL)
        raise ConfigError(f"config.gan.loss is {name!r}{closest(name, ADVERSARIAL)}; there are {names}.")
    return ADVERSARIAL[name]

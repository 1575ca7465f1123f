"""Generative adversarial networks: one update of the discriminator and one of the generator per step.

As in the DCGAN reference implementation, real and generated images pass the discriminator in batches of their own, and
the generator is updated through the discriminator just updated, on the same noise.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision_jax import models, optim
from vision_jax.data import augment
from vision_jax.data.sources import Dataset
from vision_jax.metrics import frechet
from vision_jax.models import network_options, registry
from vision_jax.tasks import base, losses
from vision_jax.tasks.state import TrainState

_POOLED = 8  # Side of the images that the cheap Fréchet distance compares.


class GAN(base.Task):
    """Trains the networks `NAME_generator` and `NAME_discriminator` (NAME: `config.model.name`) against each other."""

    metrics: Mapping[str, bool] = {f"frechet_{_POOLED}x{_POOLED}": False}

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        super().__init__(config, dataset, durations)
        self.latent, self.shown = config.gan.latent_dim, config.gan.samples
        self.shape = base.image_shape(config, dataset)
        height, width, _ = self.shape
        if height != width:
            raise ValueError(f"The GAN needs square images; {dataset.name} has {height}x{width}.")
        self.generator, self.discriminator = (self._network(part) for part in ("generator", "discriminator"))
        self.loss = losses.adversarial(config.gan.loss)
        rate = config.optimizer.learning_rate
        self.generator_optimizer = self.optimizer(rate)
        self.discriminator_optimizer = self.optimizer(config.gan.discriminator_learning_rate or rate)
        self.augment = augment.build(config.data.augment, num_classes=None)

    def _network(self, part: str) -> models.Network:
        name = f"{self.config.model.name}_{part}"
        height, _, channels = self.shape
        of_data = {"image_size": height, "channels": channels, "image_shape": self.shape, "latent": self.latent}
        return models.build(
            name,
            dtype=jnp.dtype(self.config.train.dtype),
            **{field: value for field, value in of_data.items() if field in registry.values(name)},
            **network_options.given(self.config.model, name),
        )

    def init(self, key: jax.Array) -> TrainState:
        generator_key, discriminator_key = jax.random.split(key)
        generator = self.generator.init(generator_key, jnp.zeros((2, self.latent)), train=False)
        discriminator = self.discriminator.init(discriminator_key, jnp.zeros((2, *self.shape)), train=False)
        return TrainState.first(
            generator=self.generator_optimizer.init(generator),
            discriminator=self.discriminator_optimizer.init(discriminator),
        )

    def train_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[TrainState, base.Arrays]:
        del constants
        noise_key, augment_key, *dropout_keys = jax.random.split(key, 5)
        batch = self.augment(augment_key, {**batch, "image": base.to_unit(batch["image"])})
        real = 2.0 * batch["image"] - 1.0
        noise = jax.random.normal(noise_key, (real.shape[0], self.latent))
        generator, discriminator = state.networks["generator"], state.networks["discriminator"]

        def generate(params: base.Tree) -> tuple[jax.Array, base.Tree]:
            images, mutated = self.generator.apply(
                generator.variables(params),
                noise,
                train=True,
                rngs={"dropout": dropout_keys[0]},
                mutable=["batch_stats"],
            )
            return images, mutated.get("batch_stats", {})

        def judge(params: base.Tree, batch_stats: base.Tree, images: jax.Array, key: jax.Array):
            variables = discriminator.variables(params) | {"batch_stats": batch_stats}
            logits, mutated = self.discriminator.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return logits, mutated.get("batch_stats", {})

        # The generator runs once: its images train the discriminator, its vjp the generator.
        fake, generator_vjp, generator_stats = jax.vjp(generate, generator.params, has_aux=True)

        def discriminator_loss(params: base.Tree) -> tuple[jax.Array, tuple[jax.Array, jax.Array, base.Tree]]:
            on_real, stats = judge(params, discriminator.batch_stats, real, dropout_keys[1])
            on_fake, stats = judge(params, stats, jax.lax.stop_gradient(fake), dropout_keys[2])
            loss = self.loss.discriminator(on_real, on_fake, self.config.gan.real_label)
            return loss, (on_real, on_fake, stats)

        (d_loss, (on_real, on_fake, stats)), d_gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(
            discriminator.params
        )
        discriminator = self.discriminator_optimizer.update(discriminator, d_gradients, stats)

        def generator_loss(images: jax.Array) -> tuple[jax.Array, base.Tree]:
            logits, stats = judge(discriminator.params, discriminator.batch_stats, images, dropout_keys[2])
            return self.loss.generator(logits), stats

        (g_loss, stats), image_gradients = jax.value_and_grad(generator_loss, has_aux=True)(fake)
        (g_gradients,) = generator_vjp(image_gradients)
        networks = {
            "generator": self.generator_optimizer.update(generator, g_gradients, generator_stats),
            "discriminator": discriminator.replace(batch_stats=stats),
        }
        metrics = {
            "generator_loss": g_loss,
            "discriminator_loss": d_loss,
            "real_score": jnp.mean(jax.nn.sigmoid(on_real)),
            "fake_score": jnp.mean(jax.nn.sigmoid(on_fake)),
            "gradient_norm": optim.norm((g_gradients, d_gradients)),
            "learning_rate": self.generator_optimizer.rate(state.step),
        }
        return state.replace(networks=networks), metrics

    def sample(self, state: TrainState, noise: jax.Array) -> jax.Array:
        """Returns float32 images [N, H, W, C] in [0, 1] for noise [N, latent], with the parameters of evaluation."""
        images = self.generator.apply(state.networks["generator"].variables(), noise, train=False)
        return (images + 1.0) / 2.0

    def eval_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns sums of moments of pooled images, real and generated; a generated image per row, and both logits."""
        del constants
        noise = jax.random.normal(key, (batch["mask"].shape[0], self.latent))
        real, fake = base.to_unit(batch["image"]), self.sample(state, noise)
        sums: base.Arrays = {}
        for name, images in (("real", real), ("fake", fake)):
            moments = frechet.moments(frechet.pooled_pixels(images, _POOLED), batch["mask"])
            sums |= {f"{name}_{moment}": value for moment, value in moments.items()}
        variables = state.networks["discriminator"].variables()
        outputs = {
            f"{name}_logit": self.discriminator.apply(variables, 2.0 * images - 1.0, train=False)
            for name, images in (("real", real), ("fake", fake))
        }
        return sums, {"sample": base.to_bytes(fake), **outputs}

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the Fréchet distance between images averaged down to 8x8 pixels (not comparable with FID)."""
        count = int(sums["count"])
        real, fake = (
            frechet.gaussian(sums[f"{name}_first"], sums[f"{name}_second"], count) for name in ("real", "fake")
        )
        return {next(iter(self.metrics)): frechet.distance(*real, *fake)}

    def pictures(self, state: TrainState, constants: base.Constants, batch: base.Batch) -> base.Arrays:
        """Returns samples for the same noise at every call, so that their course can be followed, and real images."""
        del constants
        noise = jax.random.normal(jax.random.key(self.config.seed), (self.shown, self.latent))
        return {"samples": base.to_bytes(self.sample(state, noise)), "real": batch["image"]}

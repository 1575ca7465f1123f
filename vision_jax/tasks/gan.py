"""Generative adversarial networks: the non-saturating loss of Goodfellow et al. 2014, one update of each net per step.

As in the DCGAN reference implementation, real and generated images pass the discriminator in batches of their own, and
the generator is updated through the discriminator just updated, on the same noise.
"""

import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import models, optim
from vision_jax.data import augment
from vision_jax.data.sources import Dataset
from vision_jax.metrics import frechet
from vision_jax.models import registry
from vision_jax.tasks import base

_POOLED = 8  # Side of the images that the cheap Fréchet distance compares.


class GAN(base.Task):
    """Trains the networks `NAME_generator` and `NAME_discriminator` (NAME: `config.model.name`) against each other."""

    metrics: Mapping[str, bool] = {f"frechet_{_POOLED}x{_POOLED}": False}

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        self.config, self.dataset = config, dataset
        self.latent = config.gan.latent_dim
        height, width, channels = base.first_examples(config, dataset, "train", 1)["image"].shape[1:]
        if height != width:
            raise ValueError(f"The GAN needs square images; {dataset.name} has {height}x{width}.")
        self.shape = (height, width, channels)
        given = {"image_size": height, "channels": channels, "image_shape": self.shape, "latent": self.latent}
        self.generator, self.discriminator = (
            models.build(
                name,
                dtype=jnp.dtype(config.train.dtype),
                **config_lib.network_options(config),
                **{option: value for option, value in given.items() if option in registry.options(name)},
            )
            for name in (f"{config.model.name}_generator", f"{config.model.name}_discriminator")
        )
        rate = config.optimizer.learning_rate
        self.generator_trainer, self.rate = base.network_trainer(config, durations, rate)
        self.discriminator_trainer, _ = base.network_trainer(
            config, durations, config.gan.discriminator_learning_rate or rate
        )
        self.augment = augment.build(config.data.augment, num_classes=None)

    def init(self, key: jax.Array) -> base.TrainState:
        """See `base.Task`."""
        generator_key, discriminator_key = jax.random.split(key)
        networks = {
            "generator": self.generator_trainer.init(
                self.generator.init(generator_key, jnp.zeros((2, self.latent)), train=False)
            ),
            "discriminator": self.discriminator_trainer.init(
                self.discriminator.init(discriminator_key, jnp.zeros((2, *self.shape)), train=False)
            ),
        }
        return base.TrainState(jnp.zeros((), jnp.int32), networks)

    def train_step(
        self, state: base.TrainState, batch: base.Batch, key: jax.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        """See `base.Task`."""
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
            real_target = jnp.full_like(on_real, self.config.gan.real_label)
            loss = optax.sigmoid_binary_cross_entropy(on_real, real_target).mean()
            loss += optax.sigmoid_binary_cross_entropy(on_fake, jnp.zeros_like(on_fake)).mean()
            return loss, (on_real, on_fake, stats)

        (d_loss, (on_real, on_fake, stats)), d_gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(
            discriminator.params
        )
        discriminator = self.discriminator_trainer.update(discriminator, d_gradients, stats)

        def generator_loss(images: jax.Array) -> tuple[jax.Array, base.Tree]:
            logits, stats = judge(discriminator.params, discriminator.batch_stats, images, dropout_keys[2])
            return optax.sigmoid_binary_cross_entropy(logits, jnp.ones_like(logits)).mean(), stats

        (g_loss, stats), image_gradients = jax.value_and_grad(generator_loss, has_aux=True)(fake)
        (g_gradients,) = generator_vjp(image_gradients)
        networks = {
            "generator": self.generator_trainer.update(generator, g_gradients, generator_stats),
            "discriminator": discriminator.replace(batch_stats=stats),
        }
        metrics = {
            "generator_loss": g_loss,
            "discriminator_loss": d_loss,
            "real_score": jnp.mean(jax.nn.sigmoid(on_real)),
            "fake_score": jnp.mean(jax.nn.sigmoid(on_fake)),
            "gradient_norm": optim.norm((g_gradients, d_gradients)),
            "learning_rate": self.rate(state.step),
        }
        return state.replace(networks=networks), metrics

    def sample(self, state: base.TrainState, noise: jax.Array) -> jax.Array:
        """Returns float32 images [N, H, W, C] in [0, 1] for noise [N, latent], with the parameters of evaluation."""
        images = self.generator.apply(state.networks["generator"].variables(), noise, train=False)
        return (images + 1.0) / 2.0

    def eval_step(self, state: base.TrainState, batch: base.Batch, key: jax.Array) -> dict[str, jax.Array]:
        """See `base.Task`; one generated image per real one, both pooled, as sums of moments."""
        noise = jax.random.normal(key, (batch["mask"].shape[0], self.latent))
        real = frechet.pooled_pixels(base.to_unit(batch["image"]), _POOLED)
        fake = frechet.pooled_pixels(self.sample(state, noise), _POOLED)
        sums = {"count": jnp.sum(batch["mask"].astype(jnp.int32))}
        for name, pixels in (("real", real), ("fake", fake)):
            sums |= {f"{name}_{moment}": value for moment, value in frechet.moments(pixels, batch["mask"]).items()}
        return sums

    def summarise(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the Fréchet distance between images averaged down to 8x8 pixels (not comparable with FID)."""
        count = int(sums["count"])
        real, fake = (
            frechet.gaussian(sums[f"{name}_first"], sums[f"{name}_second"], count) for name in ("real", "fake")
        )
        return {next(iter(self.metrics)): frechet.distance(*real, *fake)}

    def _grid(self, state: base.TrainState) -> np.ndarray:
        noise = jax.random.normal(jax.random.key(self.config.seed), (self.config.gan.samples, self.latent))
        return np.asarray(self._sample_bytes(state, noise))

    @property
    def _sample_bytes(self):
        if not hasattr(self, "_compiled"):
            self._compiled = jax.jit(lambda state, noise: base.to_bytes(self.sample(state, noise)))
        return self._compiled

    def images(self, state: base.TrainState) -> dict[str, np.ndarray]:
        """Samples for the same noise at every call, so that their course can be followed."""
        return {"samples": self._grid(state)}

    def report(
        self, state: base.TrainState, sums: Mapping[str, Mapping[str, np.ndarray]], folder: pathlib.Path
    ) -> base.Report:
        """The grid of samples beside real images."""
        from vision_jax.report import plots

        split = "test" if "test" in sums else "val"
        real = base.first_examples(self.config, self.dataset, split, self.config.gan.samples)["image"]
        columns = max(1, int(len(real) ** 0.5))
        report = base.Report()
        for title, name, images, caption in (
            ("Generated images", "samples", self._grid(state), "Noise drawn once, not selected."),
            (f"Real images ({split})", "real", real, "The first images of the split, for comparison."),
        ):
            path = folder / f"{name}.png"
            plots.image_grid(path, images, columns=columns)
            report.pictures.append((title, path, caption))
        return report

"""Generative adversarial networks: updates of the discriminator, then one of the generator, in each step.

As in the DCGAN reference implementation, real and generated images pass the discriminator in batches of their own, and
the generator is updated through the discriminator just updated, on the same noise.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import optim
from vision_jax.data import augment
from vision_jax.data.augment import differentiable
from vision_jax.data.sources import Dataset
from vision_jax.metrics import diversity, frechet
from vision_jax.tasks import adversarial_networks, base, generated, latent, losses
from vision_jax.tasks.state import NetworkState, TrainState
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

_POOLED = 8  # Side of the images that the cheap Fréchet distance compares.
_COLUMNS = 8  # Of grids of interpolations and of classes.
_ROWS_BY_CLASS = 20  # Classes shown, at most.
_BEGINNING = 0.1  # Part of training in which samples may be alike.
_STATISTICS_EVERY = 8  # Steps between two looks at what BatchNorm normalizes in the averaged generator.


class GAN(base.Task):
    """Trains the networks `NAME_generator` and `NAME_discriminator` (NAME: `config.model.name`) against each other."""

    metrics: Mapping[str, bool] = {f"frechet_{_POOLED}x{_POOLED}": False, "diversity": True}
    per_step = ("generator_loss", "discriminator_loss")

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        super().__init__(config, dataset, durations)
        options = config.gan
        self.latent, self.shown = options.latent_dim, options.samples
        self.shape = base.image_shape(config, dataset)
        height, width, _ = self.shape
        if height != width:
            raise ValueError(
                f"The GAN needs square images; {dataset.name} has {height}x{width}. Set config.data.image_size."
            )
        self.classes = adversarial_networks.classes(config, dataset.class_names)
        self.generator, self.discriminator = (
            adversarial_networks.build(config, part, self.shape, self.classes)
            for part in ("generator", "discriminator")
        )
        if options.classifier and not options.conditional:
            raise ConfigError("config.gan.classifier is for conditional GANs; set config.gan.conditional.")
        self.classifies = self.classes > 0 and options.classifier > 0
        self.loss = losses.adversarial(options.loss)
        rate = config.optimizer.learning_rate
        self.generator_optimizer = self.optimizer(rate)
        self.discriminator_optimizer = self.optimizer(
            options.discriminator_learning_rate or rate, updates_per_step=options.discriminator_steps
        )
        self.augment = augment.build(config.data.augment, num_classes=None)
        self.first_augmented_step = round(options.augment_start * durations.total)
        self.distances = generated.Distances(config, dataset) if config.eval.gan.extractor else None
        for policy in options.augment:
            if policy not in differentiable.POLICIES:
                known = differentiable.POLICIES
                raise ConfigError(
                    f"config.gan.augment has {policy!r}{closest(policy, known)}; there are {', '.join(known)}."
                )
        if config.data.batch_size % options.discriminator_steps:
            raise ConfigError(
                f"config.data.batch_size={config.data.batch_size} is to be divided into config.gan.discriminator_steps="
                f"{options.discriminator_steps} equal parts; make it a multiple."
            )

    def _labels(self, batch: base.Batch) -> jax.Array | None:
        return batch["label"] if self.classes else None

    def init(self, key: jax.Array) -> TrainState:
        generator_key, discriminator_key = jax.random.split(key)
        labels = jnp.zeros(2, jnp.int32) if self.classes else None
        generator = self.generator.init(generator_key, jnp.zeros((2, self.latent)), labels, train=False)
        discriminator = self.discriminator.init(discriminator_key, jnp.zeros((2, *self.shape)), labels, train=False)
        return TrainState.first(
            generator=self.generator_optimizer.init(generator),
            discriminator=self.discriminator_optimizer.init(discriminator),
        )

    def generate(
        self, network: NetworkState, params: base.Tree, noise: jax.Array, labels: jax.Array | None, key: jax.Array
    ) -> tuple[jax.Array, base.Tree]:
        """Returns images in [-1, 1] as in training, and the new running statistics."""
        variables, rngs = network.variables(params), {"dropout": key}
        images, mutated = self.generator.apply(variables, noise, labels, train=True, rngs=rngs, mutable=["batch_stats"])
        return images, mutated.get("batch_stats", {})

    def with_own_statistics(
        self,
        before: NetworkState,
        after: NetworkState,
        noise: jax.Array,
        labels: jax.Array | None,
        key: jax.Array,
        step: jax.Array,
    ) -> NetworkState:
        """Returns the updated generator, whose averaged parameters have running statistics of their own.

        An average of statistics is not the statistics of the average: while parameters change fast, averaged ones make
        smaller activations, which the others' statistics turn into gray images. (BigGAN, arXiv 1809.11096, measures
        them before each evaluation: its "standing statistics".)
        """
        if not after.averaged_statistics:
            return after
        network = after.replace(batch_stats=before.averaged_statistics)
        statistics = jax.lax.cond(
            step % _STATISTICS_EVERY == 0,
            lambda: self.generate(network, after.averaged, noise, labels, key)[1],
            lambda: before.averaged_statistics,
        )
        return after.replace(averaged_statistics=statistics)

    def judge(
        self,
        params: base.Tree,
        batch_stats: base.Tree,
        images: jax.Array,
        labels: jax.Array | None,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, jax.Array, base.Tree]:
        """Judges images in [-1, 1] as training does after `step` steps: augmented, once it is time for that.

        Returns:
            Their logits [N], the mean cross-entropy of the classes found (0 without a classifier), and the new running
            statistics.
        """
        augment_key, dropout_key = jax.random.split(key)
        augmented = differentiable.diff_augment(augment_key, images, self.config.gan.augment)
        images = jnp.where(step >= self.first_augmented_step, augmented, images)
        variables, rngs = {"params": params, "batch_stats": batch_stats}, {"dropout": dropout_key}
        logits, mutated = self.discriminator.apply(
            variables, images, labels, train=True, rngs=rngs, mutable=["batch_stats", "class_scores"]
        )
        cross_entropy = jnp.zeros(())
        if "class_scores" in mutated:
            scores = mutated["class_scores"]["scores"]
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
        return logits, cross_entropy, mutated.get("batch_stats", {})

    def penalty(self, logits: Callable[..., jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
        """Returns the weighted sum of the penalties on the gradient of `logits(images, key)` that the config asks for.

        Args:
            logits: of the discriminator.
            real: images [N, H, W, C] in [-1, 1].
            fake: generated ones.
            key: of their augmentation and of the points between them.
        """
        options = self.config.gan
        keys = jax.random.split(key, 4)
        total = jnp.zeros(())
        if options.r1:
            total += options.r1 * losses.zero_centered_penalty(lambda x: logits(x, keys[0]), real)
        if options.r2:
            total += options.r2 * losses.zero_centered_penalty(lambda x: logits(x, keys[1]), fake)
        if options.gradient_penalty:
            between = losses.interpolation_penalty(lambda x: logits(x, keys[2]), real, fake, keys[3])
            total += options.gradient_penalty * between
        return total

    def update_discriminator(
        self,
        network: NetworkState,
        real: jax.Array,
        fake: jax.Array,
        labels: jax.Array | None,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[NetworkState, base.Arrays]:
        """Returns the discriminator after one update on images in [-1, 1], and the metrics of it.

        `penalty` is what the loss has of the penalties, so that its mean over steps does not depend on `penalty_every`.
        """
        options = self.config.gan
        real_key, fake_key, penalty_key = jax.random.split(key, 3)

        def loss(params: base.Tree, penalized: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            on_real, classes, stats = self.judge(params, network.batch_stats, real, labels, real_key, step)
            on_fake, _, stats = self.judge(params, stats, fake, labels, fake_key, step)
            value, penalty = self.loss.discriminator(on_real, on_fake, options.real_label), jnp.zeros(())
            if penalized:

                def logits(images: jax.Array, key: jax.Array) -> jax.Array:
                    return self.judge(params, network.batch_stats, images, labels, key, step)[0]

                penalty = self.penalty(logits, real, fake, penalty_key)
            penalty *= options.penalty_every  # Where every n-th step has a penalty, it weighs n times as much.
            total = value + options.classifier * classes + penalty
            return total, (value, classes, penalty, on_real, on_fake, stats)

        def gradients(penalized: bool) -> tuple[tuple[jax.Array, ...], base.Tree]:
            (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(network.params, penalized)
            return found, gradient

        has_penalty = bool(options.r1 or options.r2 or options.gradient_penalty)
        if has_penalty and options.penalty_every > 1:
            now = step % options.penalty_every == 0
            found, gradient = jax.lax.cond(now, lambda: gradients(True), lambda: gradients(False))
        else:
            found, gradient = gradients(has_penalty)
        value, classes, penalty, on_real, on_fake, stats = found
        real_accuracy, fake_accuracy = self.loss.accuracies(on_real, on_fake)
        metrics = {
            "discriminator_loss": value,
            "real_accuracy": real_accuracy,
            "fake_accuracy": fake_accuracy,
            "discriminator_gradient_norm": optim.norm(gradient),
        }
        if self.classifies:
            metrics["real_class_loss"] = classes
        if has_penalty:
            metrics["penalty"] = penalty
        return self.discriminator_optimizer.update(network, gradient, stats), metrics

    def train_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[TrainState, base.Arrays]:
        del constants
        augment_key, generator_key, *keys = jax.random.split(key, 2 + self.config.gan.discriminator_steps)
        batch = self.augment(augment_key, {**batch, "image": base.to_unit(batch["image"])})
        generator, discriminator = state.networks["generator"], state.networks["discriminator"]
        for number, update_key in enumerate(keys):
            # Every n-th example, not every n-th block, which would move examples between devices.
            part = {name: rows[number :: len(keys)] for name, rows in batch.items()}
            real, labels = 2.0 * part["image"] - 1.0, self._labels(part)
            noise_key, dropout_key, update_key = jax.random.split(update_key, 3)
            noise = jax.random.normal(noise_key, (real.shape[0], self.latent))
            # The generator runs once: its last images train the discriminator, their vjp the generator.
            fake, generator_vjp, generator_stats = jax.vjp(
                lambda params: self.generate(generator, params, noise, labels, dropout_key),  # noqa: B023
                generator.params,
                has_aux=True,
            )
            discriminator, metrics = self.update_discriminator(
                discriminator, real, jax.lax.stop_gradient(fake), labels, update_key, state.step
            )

        def generator_loss(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            stats = discriminator.batch_stats
            on_real, *_ = self.judge(discriminator.params, stats, real, labels, generator_key, state.step)
            on_fake, classes, stats = self.judge(discriminator.params, stats, images, labels, generator_key, state.step)
            value = self.loss.generator(on_fake, on_real)
            return value + self.config.gan.classifier * classes, (value, classes, stats)

        (_, (g_loss, classes, stats)), image_gradients = jax.value_and_grad(generator_loss, has_aux=True)(fake)
        (g_gradients,) = generator_vjp(image_gradients)
        updated = self.generator_optimizer.update(generator, g_gradients, generator_stats)
        networks = {
            "generator": self.with_own_statistics(generator, updated, noise, labels, dropout_key, state.step),
            "discriminator": discriminator.replace(batch_stats=stats),
        }
        deviations = [diversity.minibatch_standard_deviation(images) for images in (fake, real)]
        metrics |= {
            "generator_loss": g_loss,
            "generator_gradient_norm": optim.norm(g_gradients),
            "minibatch_deviation": deviations[0] / deviations[1],
            "learning_rate": self.generator_optimizer.rate(state.step),
        }
        if self.classifies:
            metrics["fake_class_loss"] = classes
        return state.replace(networks=networks), metrics

    def sample(self, state: TrainState, noise: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns float32 images [N, H, W, C] in [0, 1] for normal noise [N, latent], as evaluations make them."""
        variables, noise = state.networks["generator"].variables(), self.config.gan.temperature * noise
        images = self.generator.apply(variables, noise, labels, train=False)
        return (images + 1.0) / 2.0

    def constants(self) -> dict[str, base.Tree]:
        return {"extractor": self.distances.extractor.variables} if self.distances else {}

    def evaluators(self) -> list[base.Evaluator]:
        """Returns the evaluations of every task and, with an extractor, its distances: 'fid' during training, first."""
        evaluators = super().evaluators()
        if self.distances is None:
            return evaluators
        options, examples = self.config.eval.gan, len(self.dataset.splits["train"])
        steps = config_lib.steps(options, "every_", batch_size=self.config.data.batch_size, train_examples=examples)
        distances, limit = self.distances, min(options.samples, examples)
        during = base.Evaluator(
            name="fid",
            split="train",
            every=steps or self.durations.evaluate,
            limit=limit,
            metrics={distances.metric("train", limit): False},
            step=self.distance_step,
            summarize=lambda sums: {},
            collector=lambda: distances.training("train", limit),
        )
        return [
            during,
            *(
                dataclasses.replace(
                    evaluator, step=self.final_step, collector=functools.partial(distances.final, evaluator.split)
                )
                if evaluator.split not in ("train", "val")
                else evaluator
                for evaluator in evaluators
            ),
        ]

    def distance_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns, per row, the features of a generated image (of the row's class, if the GAN is conditional)."""
        assert self.distances is not None  # Or there were no such evaluator.
        noise = jax.random.normal(key, (batch["mask"].shape[0], self.latent))
        images = base.to_bytes(self.sample(state, noise, self._labels(batch)))
        return {}, self.distances.extractor.apply(constants["extractor"], images)

    def final_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns what `eval_step` does, and the features of the same generated images."""
        assert self.distances is not None
        sums, outputs = self.eval_step(state, constants, batch, key)
        return sums, outputs | self.distances.extractor.apply(constants["extractor"], outputs["sample"])

    def eval_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns sums of moments of pooled images, real and generated; a generated image per row, and both logits."""
        del constants
        labels = self._labels(batch)
        noise = jax.random.normal(key, (batch["mask"].shape[0], self.latent))
        real, fake = base.to_unit(batch["image"]), self.sample(state, noise, labels)
        sums: base.Arrays = {}
        for name, images in (("real", real), ("fake", fake)):
            moments = frechet.moments(frechet.pooled_pixels(images, _POOLED), batch["mask"])
            sums |= {f"{name}_{moment}": value for moment, value in moments.items()}
        variables = state.networks["discriminator"].variables()
        outputs = {
            f"{name}_logit": self.discriminator.apply(variables, 2.0 * images - 1.0, labels, train=False)
            for name, images in (("real", real), ("fake", fake))
        }
        return sums, {"sample": base.to_bytes(fake), **outputs}

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns what the images averaged down to 8x8 pixels say.

        `frechet_8x8` is the Fréchet distance of their pixels (not comparable with FID); `diversity` the root mean
        squared distance between two generated images over that between two real ones.
        """
        count = int(sums["count"])
        real, fake = (
            frechet.gaussian(sums[f"{name}_first"], sums[f"{name}_second"], count) for name in ("real", "fake")
        )
        # The mean squared distance between two draws is twice the trace of their covariance.
        diversity = float(np.sqrt(max(np.trace(fake[1]), 0.0) / max(np.trace(real[1]), 1e-12)))
        return dict(zip(self.metrics, (frechet.distance(*real, *fake), diversity), strict=True))

    def warnings(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Says so where the samples are nearly alike and no longer because training has just begun."""
        bound = self.config.gan.collapse_below if step > _BEGINNING * self.durations.total else 0.0
        return [
            f"{name} is {value:.2f}: generated images differ from each other much less than real ones do, so the "
            "generator may have collapsed. config.gan.augment, r1 or a lower learning rate help; look at the samples."
            for name, value in metrics.items()
            if name.endswith(("/diversity", "/minibatch_deviation")) and value < bound
        ]

    def pictures(self, state: TrainState, constants: base.Constants, batch: base.Batch) -> base.Arrays:
        """Returns pictures of the same noise at every call, so that their course can be followed.

        'samples' (of the classes in turn, if the GAN is conditional), 'interpolation' (rows of 8 from noise to noise),
        'by_class' of a conditional GAN (rows of 8), and the 'real' images given.
        """
        del constants
        key = jax.random.key(self.config.seed)
        noise = jax.random.normal(key, (self.shown, self.latent))
        labels = jnp.arange(self.shown) % self.classes if self.classes else None
        pictures = {"samples": self.sample(state, noise, labels), "interpolation": self._interpolated(state, key)}
        if self.classes:
            rows = min(self.classes, _ROWS_BY_CLASS)
            noise = jax.random.normal(jax.random.fold_in(key, 1), (rows * _COLUMNS, self.latent))
            pictures["by_class"] = self.sample(state, noise, jnp.repeat(jnp.arange(rows), _COLUMNS))
        return {"real": batch["image"], **{name: base.to_bytes(images) for name, images in pictures.items()}}

    def _interpolated(self, state: TrainState, key: jax.Array) -> jax.Array:
        """Returns rows of images from one noise to another."""
        ends = jax.random.normal(jax.random.fold_in(key, 2), (2, _COLUMNS, self.latent))
        labels = jnp.repeat(jnp.arange(_COLUMNS) % self.classes, _COLUMNS) if self.classes else None
        return self.sample(state, latent.interpolate(ends[0], ends[1], _COLUMNS), labels)

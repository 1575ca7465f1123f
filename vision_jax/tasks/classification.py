"""Image classification: losses, augmentation, distillation; accuracy, F1, calibration."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from vision_jax import models, optim, parallel
from vision_jax.data import augment, splits
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import Dataset
from vision_jax.metrics import classification as metrics
from vision_jax.models import network_options
from vision_jax.pretrained import finetune
from vision_jax.tasks import base, classification_losses, views
from vision_jax.tasks.distillation import Teachers
from vision_jax.tasks.state import NetworkState, TrainState, merge
from vision_jax.utils import trees
from vision_jax.utils.options import ConfigError

_FRAME = np.array([255, 0, 0], np.uint8)  # Color of a mistake's frame in the pictures of training.
_TOP_5_CLASSES = 6  # From so many on, top-5 accuracy says something.
_FILTERS = 64  # Shown of the first layer, at most.


class _Prepared(NamedTuple):
    """A training batch as the network gets it: images in [0, 1], targets [N, K], the teachers' answers, if any."""

    images: jax.Array
    targets: jax.Array
    smoothed: jax.Array
    teacher: jax.Array | None
    progress: jax.Array
    dropout_key: jax.Array


def _shrunk(images: jax.Array, side: int) -> jax.Array:
    """Images [N, H, W, C] shrunk to `side` unless it is 0."""
    if not side:
        return images
    return jax.image.resize(images, (images.shape[0], side, side, images.shape[-1]), "bilinear")


class Classification(base.Task):
    """Trains `config.model` to name the class of an image."""

    shown = 16

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        super().__init__(config, dataset, durations)
        self.classes = len(dataset.class_names)
        if self.classes < 2:
            raise ValueError(
                f"Classification needs two classes or more; {dataset.name} has {self.classes}. In a folder of photos, "
                "each class is a folder of its own."
            )
        self.metrics = {
            "accuracy": True,
            **({"top5_accuracy": True} if self.classes >= _TOP_5_CLASSES else {}),
            "macro_f1": True,
            "weighted_f1": True,
            f"calibration_error_{metrics.CALIBRATION_BINS}_bins": False,
            "loss": False,
            **dict.fromkeys(self._of_views(), True),
        }
        options = config.model
        model = models.build(
            options.name,
            num_classes=self.classes,
            dtype=jnp.dtype(config.train.dtype),
            **network_options.given(options, options.name),
        )
        frozen = finetune.frozen_modules(model, options.freeze)
        self.model = model.clone(frozen=frozen, freeze_statistics=options.freeze_statistics)
        self.pretrained = bool(options.weights) or model.fits_images
        self.network = self.optimizer(
            config.optimizer.learning_rate,
            multiplier=finetune.rate_multiplier(
                model,
                config.optimizer.head_multiplier,
                config.optimizer.stage_decay,
                config.optimizer.bias_multiplier,
            ),
            trained=(lambda path: path.partition("/")[0] not in frozen) if frozen else None,
        )
        self.augment = augment.build(config.data.augment, num_classes=self.classes)
        self.weights = jnp.ones(self.classes, jnp.float32)
        if config.data.class_weights != "none":
            labels = dataset.splits["train"].labels
            self.weights = jnp.asarray(
                splits.class_weights(labels, self.classes, method=config.data.class_weights), jnp.float32
            )
        self.teachers = self._teachers()
        self._check_sizes()

    def _teachers(self) -> Teachers | None:
        options = self.config.classification.distillation
        if not options.teachers:
            return None
        mixing = [spec for spec in self.config.data.augment if augment.mixes(spec)]
        if options.precompute and mixing:
            raise ConfigError(
                "config.classification.distillation.precompute asks the teachers about single images; "
                f"{mixing[0]!r} in config.data.augment mixes them. Leave one of the two out."
            )
        channels = base.image_shape(self.config, self.dataset)[-1]
        return Teachers(options.teachers, options.temperature, self.dataset, channels)

    def constants(self) -> dict[str, base.Tree]:
        """Returns the teachers' variables."""
        return {} if self.teachers is None else self.teachers.constants()

    def loader(self, state: TrainState, loader: Loader) -> Loader:
        """Returns the batches, those of the training split with the teachers' answers where these are precomputed."""
        precompute = self.config.classification.distillation.precompute
        if self.teachers is None or not precompute or loader.split != "train":
            return loader
        teachers, constants = self.teachers, parallel.put_replicated(self.constants(), loader.mesh)

        @jax.jit
        def answers(constants: base.Constants, images: jax.Array) -> jax.Array:
            images = base.to_unit(images)
            both = (teachers.log_probabilities(constants, view) for view in (images, images[:, :, ::-1]))
            return jnp.logaddexp(*both) - jnp.log(2.0)

        return loader.mapped_once(
            lambda images: answers(constants, images), self.config.data.batch_size, name="teacher"
        )

    def init(self, key: jax.Array) -> TrainState:
        variables = self.model.init(key, jnp.zeros((1, *base.image_shape(self.config, self.dataset))), train=False)
        return TrainState.first(model=self.network.init(variables))

    def start(self, state: TrainState) -> TrainState:
        """Returns the state with pretrained weights, and a new head unless theirs has as many classes.

        Without weights, what the network takes from training images is fitted to the first 5,000.
        """
        model, network = self.config.model, state.networks["model"]
        variables = {**network.variables(), "params": merge(network.params, network.fixed)}
        if model.weights:
            variables = finetune.load_pretrained(self.model, model.name, model.weights, variables)
        else:
            examples = base.first_examples(self.config, self.dataset, "train", 5_000)
            images = self.normalize(base.to_unit(jnp.asarray(examples["image"])))
            variables = self.model.fitted(variables, np.asarray(images))
        return state.replace(networks={"model": self.network.init(variables)})

    def normalize(self, images: jax.Array) -> jax.Array:
        """Images in [0, 1] to what the network sees."""
        mean, std = self.config.data.mean or (0.0,), self.config.data.std or (1.0,)
        return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)

    def _check_sizes(self) -> None:
        """Raises `ConfigError` unless the network has the same parameters at every size of training."""
        height, width, channels = base.image_shape(self.config, self.dataset)

        def shapes(height: int, width: int) -> base.Tree:
            images = jnp.zeros((1, height, width, channels))
            return jax.eval_shape(lambda: self.model.init(jax.random.key(0), images, train=False))["params"]

        for side in self.config.classification.train_sizes:
            if side > min(height, width) or (shapes(side, side) != shapes(height, width)):
                raise ConfigError(
                    f"config.classification.train_sizes has {side}: images are {height}×{width}, and "
                    f"{self.config.model.name} must have the same parameters at both sizes (global pooling)."
                )

    def augmented(self, batch: base.Batch, key: jax.Array) -> base.Batch:
        """Returns the training batch with images in [0, 1]; 'target' is there where labels were mixed."""
        return self.augment(key, {**batch, "image": base.to_unit(batch["image"])})

    def train_logits(
        self, network: NetworkState, params: base.Tree, x: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], base.Tree]:
        """Returns logits for images in [0, 1], those of auxiliary heads by name, and the new running statistics."""
        logits, mutated = self.model.apply(
            network.variables(params),
            self.normalize(x),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats", "aux_logits"],
        )
        return logits, mutated.get("aux_logits", {}), mutated.get("batch_stats", {})

    def predict(self, state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns float32 logits [N, K] and features [N, F] of uint8 images, with the parameters of evaluation."""
        x = self.normalize(base.to_unit(images))
        return finetune.logits_and_features(self.model, state.networks["model"].variables(), x)

    def train_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[TrainState, base.Arrays]:
        step = self._prepared(state, constants, batch, key)
        network = state.networks["model"]

        def mean_loss(logits: jax.Array) -> jax.Array:
            return classification_losses.weighted_mean(self._losses(logits, step), step.targets, self.weights)

        def gradients_at(side: int, params: base.Tree) -> Any:
            """Value and gradients on the images, shrunk to `side` unless it is 0."""
            images = _shrunk(step.images, side)

            def loss_of(params: base.Tree) -> tuple[jax.Array, tuple[jax.Array, base.Tree]]:
                logits, auxiliary, batch_stats = self.train_logits(network, params, images, step.dropout_key)
                loss = mean_loss(logits)
                for name, auxiliary_logits in auxiliary.items():
                    loss += self.model.aux_weights[name] * mean_loss(auxiliary_logits)
                return loss, (logits, batch_stats)

            return jax.value_and_grad(loss_of, has_aux=True)(params)

        (loss, (logits, batch_stats)), gradients = self._at_side(step.progress, gradients_at, network.params)
        correct = jnp.argmax(logits, -1) == jnp.argmax(step.targets, -1)
        row = {
            "loss": loss,
            "accuracy": jnp.mean(correct.astype(jnp.float32)),
            "gradient_norm": optim.norm(gradients),
            "learning_rate": self.network.rate(state.step),
        }
        network = self.network.update(network, gradients, batch_stats, state.step)
        return state.replace(networks={"model": network}), row

    def example_losses(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> jax.Array:
        """Returns the loss [N] of each example in `train_step`, before the weights of the classes."""
        step = self._prepared(state, constants, batch, key)
        network = state.networks["model"]

        def losses_at(side: int, params: base.Tree) -> jax.Array:
            images = _shrunk(step.images, side)
            logits, auxiliary, _ = self.train_logits(network, params, images, step.dropout_key)
            losses = self._losses(logits, step)
            for name, auxiliary_logits in auxiliary.items():
                losses += self.model.aux_weights[name] * self._losses(auxiliary_logits, step)
            return losses

        return self._at_side(step.progress, losses_at, network.params)

    def _prepared(self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array) -> "_Prepared":
        augment_key, dropout_key = jax.random.split(key)
        place = self._place(state.step, batch)
        batch = self.augmented({**batch, **place}, augment_key)
        targets = batch.get("target", jax.nn.one_hot(batch["label"], self.classes))
        smoothed = optax.smooth_labels(targets, self.config.train.label_smoothing)
        teacher = None
        if self.teachers is not None:
            teacher = batch.get("teacher")
            if teacher is None:
                teacher = self.teachers.log_probabilities(constants, batch["image"])
        return _Prepared(batch["image"], targets, smoothed, teacher, place["progress"], dropout_key)

    def _losses(self, logits: jax.Array, step: "_Prepared") -> jax.Array:
        return classification_losses.of_examples(logits, step.smoothed, step.teacher, self.config.classification)

    def _at_side(self, progress: jax.Array, function: Callable[[int, base.Tree], Any], params: base.Tree) -> Any:
        """Returns `function(side, params)` at the side of this part of training; 0 leaves the images as they are."""
        sides = tuple(self.config.classification.train_sizes) or (0,)
        # One program holds them all, and each step runs one.
        which = jnp.minimum((progress * len(sides)).astype(jnp.int32), len(sides) - 1)
        return lax.switch(which, [functools.partial(function, side) for side in sides], params)

    def _place(self, step: jax.Array, batch: base.Batch) -> base.Arrays:
        """Returns how far training is, for augmentations: 'progress' from 0 to 1 and each example's 'epoch'."""
        rows = len(batch["label"])
        position = step * rows + jnp.arange(rows, dtype=jnp.int32)
        epoch = position // len(self.dataset.splits["train"])
        return {"progress": step.astype(jnp.float32) / max(self.durations.total, 1), "epoch": epoch}

    def eval_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns the sums that `summarize` takes; label, logits and features per row."""
        del constants, key
        logits, features = self.predict(state, batch["image"])
        outputs = {"label": batch["label"], "logits": logits}
        if self.config.eval.features:
            outputs["features"] = features
        return self.sums(logits, batch) | self._sums_of_views(state, batch, logits), outputs

    def sums(self, logits: jax.Array, batch: base.Batch) -> base.Arrays:
        """Returns sums of the loss, the confusion matrix [true, predicted], top-5 hits and the bins of confidence."""
        label, mask = batch["label"], batch["mask"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        sums = {
            "loss": jnp.sum(losses * mask),
            "confusion": metrics.confusion(label, jnp.argmax(logits, -1), mask, self.classes),
            **metrics.calibration_sums(logits, label, mask),
        }
        if "top5_accuracy" in self.metrics:
            sums["top5_hits"] = metrics.top_k_hits(logits, label, mask, 5)
        return sums

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the metrics, in the order in which `metrics` names them."""
        count = int(sums["count"])
        found = {
            "accuracy": metrics.accuracy(sums["confusion"]),
            "macro_f1": metrics.macro_f1(sums["confusion"]),
            "weighted_f1": metrics.weighted_f1(sums["confusion"]),
            f"calibration_error_{metrics.CALIBRATION_BINS}_bins": metrics.expected_calibration_error(sums),
            "loss": float(sums["loss"]) / count,
            **{name: float(sums[name]) / count for name in self._of_views()},
        }
        if "top5_accuracy" in self.metrics:
            found["top5_accuracy"] = int(sums["top5_hits"]) / count
        return {name: found[name] for name in self.metrics}

    def _of_views(self) -> tuple[str, ...]:
        """Returns the name of the accuracy with test-time augmentation, if there is one."""
        kind = self.config.classification.test_time_augmentation
        return () if kind == "none" else (f"accuracy_tta{views.VIEWS[kind]}",)

    def _sums_of_views(self, state: TrainState, batch: base.Batch, logits: jax.Array) -> base.Arrays:
        """Returns how many examples are right by the mean logits of their views, under the metric's name."""

        def logits_of(images: jax.Array) -> jax.Array:
            return self.predict(state, images)[0]

        found = {}
        for name in self._of_views():
            mean = views.averaged(logits_of, batch["image"], logits, self.config.classification.test_time_augmentation)
            correct = jnp.argmax(mean, -1) == batch["label"]
            found[name] = jnp.sum(correct.astype(jnp.float32) * batch["mask"])
        return found

    def pictures(self, state: TrainState, constants: base.Constants, batch: base.Batch) -> base.Arrays:
        """Returns the examples, mistakes framed in red, what a step makes of them when it augments, and filters."""
        del constants
        images = jnp.broadcast_to(batch["image"], (*batch["image"].shape[:3], 3))
        logits, _ = self._predict_images(state, batch["image"])
        wrong = jnp.argmax(logits, -1) != batch["label"]
        inside = jnp.zeros(images.shape[1:3], bool).at[1:-1, 1:-1].set(True)
        framed = jnp.where((wrong[:, None, None] & ~inside)[..., None], _FRAME, images)
        key = jax.random.fold_in(jax.random.key(self.config.seed), state.step)
        batch = {**batch, **self._place(state.step, batch), "image": base.to_unit(batch["image"])}
        augmented = self.augment(key, batch)["image"]
        return {"predicted": framed, "augmented": base.to_bytes(augmented), **self.filters(state)}

    def filters(self, state: TrainState) -> base.Arrays:
        """Returns 'filters', the first layer's kernels as uint8 [N, h, w, 1 or 3], or nothing where it sees no pixels.

        Each is scaled by its own largest weight; middle gray is 0. Of a dense layer, a filter has the image's size.
        """
        shape = base.image_shape(self.config, self.dataset)
        parameters = state.networks["model"].variables()["params"]
        first = [parameters[name] for name in next(iter(self.model.stages.values())) if name in parameters]
        kernels = [leaf for path, leaf in trees.flatten(first).items() if path.endswith("kernel")]
        kernel = kernels[0] if kernels else jnp.zeros(())
        if kernel.ndim == 2 and kernel.shape[0] == np.prod(shape):
            kernel = kernel.reshape(*shape, -1)
        if kernel.ndim != 4 or kernel.shape[2] != shape[2] or min(kernel.shape[:2]) < 2:
            return {}
        weights = jnp.moveaxis(kernel, -1, 0)[:_FILTERS]
        largest = jnp.max(jnp.abs(weights), axis=(1, 2, 3), keepdims=True)
        return {"filters": base.to_bytes(0.5 + 0.5 * weights / jnp.maximum(largest, 1e-12))}

    def _predict_images(self, state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`predict` of this class, for subclasses whose own takes something else."""
        return Classification.predict(self, state, images)

"""Image classification: cross-entropy, augmentation, label smoothing, class weights; accuracy and confusion matrix."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import models, optim
from vision_jax.data import augment, splits
from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import Dataset
from vision_jax.pretrained import finetune
from vision_jax.tasks import base

_GRID = 64  # Test images in the report's grid.


class Classification(base.Task):
    """Trains `config.model` to name the class of an image."""

    metrics: Mapping[str, bool] = {"accuracy": True, "macro_f1": True, "loss": False}

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        self.config, self.dataset = config, dataset
        self.classes = len(dataset.class_names)
        if self.classes < 2:
            raise ValueError(f"Classification needs two classes or more; {dataset.name} has {self.classes}.")
        model = models.build(
            config.model.name,
            num_classes=self.classes,
            dtype=jnp.dtype(config.train.dtype),
            **config_lib.network_options(config),
        )
        frozen = finetune.frozen_modules(model, config.model.freeze)
        self.model = model.clone(frozen=frozen, freeze_statistics=config.model.freeze_statistics)
        self.trainer, self.rate = base.network_trainer(
            config,
            durations,
            config.optimizer.learning_rate,
            multiplier=finetune.rate_multiplier(model, config.optimizer.head_multiplier, config.optimizer.stage_decay),
            trained=(lambda path: path[0] not in frozen) if frozen else None,
        )
        self.head = self._head() if config.model.cache_features else None
        self._features = jax.jit(self._features_of)
        self.augment = augment.build(config.data.augment, num_classes=self.classes)
        self.weights = jnp.ones(self.classes, jnp.float32)
        if config.data.class_weights != "none":
            labels = dataset.splits["train"].labels
            self.weights = jnp.asarray(
                splits.class_weights(labels, self.classes, method=config.data.class_weights), jnp.float32
            )

    def _head(self) -> nn.Module:
        """The head to train on features computed once; refuses what would make those differ from step to step."""
        config = self.config
        if tuple(config.model.freeze) != ("all_but", "head"):
            raise config_lib.ConfigError("config.model.cache_features needs config.model.freeze=('all_but', 'head').")
        if config.data.augment or (config.data.image_size and config.data.train_crop != "center"):
            raise config_lib.ConfigError(
                "config.model.cache_features computes each image's features once: it needs config.data.augment=() and "
                "config.data.train_crop='center'."
            )
        return self.model.head_module()

    def _input(self, images: jax.Array) -> jax.Array:
        """What the network takes for uint8 images."""
        return self._normalise(base.to_unit(images))

    def _normalise(self, images: jax.Array) -> jax.Array:
        mean, std = self.config.data.mean or (0.0,), self.config.data.std or (1.0,)
        return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)

    def init(self, key: jax.Array) -> base.TrainState:
        """See `base.Task`."""
        shape = base.first_examples(self.config, self.dataset, "train", 1)["image"].shape[1:]
        variables = self.model.init(key, jnp.zeros((1, *shape)), train=False)
        return base.TrainState(jnp.zeros((), jnp.int32), {"model": self.trainer.init(variables)})

    def start(self, state: base.TrainState) -> base.TrainState:
        """See `base.Task`: the pretrained weights, with a new head unless it has as many classes."""
        if not self.config.model.weights:
            return state
        network = state.networks["model"]
        initial = {**network.variables(), "params": base.merge(network.params, network.fixed)}
        variables = finetune.load_pretrained(self.model, self.config.model.name, self.config.model.weights, initial)
        return state.replace(networks={"model": self.trainer.init(variables)})

    def loader(self, state: base.TrainState, loader: Loader) -> Loader:
        """See `base.Task`: the features of the split where the config wants them cached."""
        if self.head is None:
            return loader
        variables = state.networks["model"].variables()
        return loader.mapped_once(lambda images: self._features(variables, images), self.config.data.batch_size)

    def _features_of(self, variables: base.Tree, images: jax.Array) -> jax.Array:
        return finetune.features(self.model, variables, self._input(images))

    def train_step(
        self, state: base.TrainState, batch: base.Batch, key: jax.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        """See `base.Task`."""
        augment_key, dropout_key = jax.random.split(key)
        if self.head is None:
            batch = self.augment(augment_key, {**batch, "image": base.to_unit(batch["image"])})
        targets = batch.get("target", jax.nn.one_hot(batch["label"], self.classes))
        smoothed = optax.smooth_labels(targets, self.config.train.label_smoothing)
        example_weights = targets @ self.weights
        network = state.networks["model"]

        def loss_of(params: base.Tree) -> tuple[jax.Array, tuple[jax.Array, base.Tree]]:
            def mean(logits: jax.Array) -> jax.Array:
                losses = optax.softmax_cross_entropy(logits, smoothed)
                return jnp.sum(losses * example_weights) / jnp.sum(example_weights)

            rngs = {"dropout": dropout_key}
            if self.head is not None:
                logits = self.head.apply({"params": params}, batch["image"], train=True, rngs=rngs)
                return mean(logits), (logits, network.batch_stats)
            logits, mutated = self.model.apply(
                network.variables(params),
                self._normalise(batch["image"]),
                train=True,
                rngs=rngs,
                mutable=["batch_stats", "aux_logits"],
            )
            loss = mean(logits)
            for name, auxiliary in mutated.get("aux_logits", {}).items():
                loss += self.model.aux_weights[name] * mean(auxiliary)
            return loss, (logits, mutated.get("batch_stats", {}))

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(network.params)
        correct = jnp.argmax(logits, -1) == jnp.argmax(targets, -1)
        metrics = {
            "loss": loss,
            "accuracy": jnp.mean(correct.astype(jnp.float32)),
            "gradient_norm": optim.norm(gradients),
            "learning_rate": self.rate(state.step),
        }
        return state.replace(networks={"model": self.trainer.update(network, gradients, batch_stats)}), metrics

    def logits(self, state: base.TrainState, images: jax.Array) -> jax.Array:
        """Returns float32 logits [N, K] of uint8 images, with the parameters of evaluation."""
        return self.model.apply(state.networks["model"].variables(), self._input(images), train=False)

    def _logits_of_rows(self, state: base.TrainState, rows: jax.Array) -> jax.Array:
        """The same of a batch as the loader gives it: images, or their features."""
        if self.head is None:
            return self.logits(state, rows)
        network = state.networks["model"]
        return self.head.apply({"params": network.averaged or network.params}, rows, train=False)

    def eval_step(self, state: base.TrainState, batch: base.Batch, key: jax.Array) -> dict[str, jax.Array]:
        """See `base.Task`; also the sums of loss and hits, and the confusion matrix [true, predicted]."""
        del key
        logits = self._logits_of_rows(state, batch["image"])
        real = batch["mask"].astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        predicted = jnp.argmax(logits, -1)
        confusion = jnp.zeros((self.classes, self.classes), jnp.int32).at[batch["label"], predicted].add(real)
        return {"count": jnp.sum(real), "loss": jnp.sum(losses * batch["mask"]), "confusion": confusion}

    def summarise(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns mean loss, accuracy, and F1 averaged over classes (a class never true nor predicted counts 0)."""
        confusion = np.asarray(sums["confusion"], np.float64)
        hits, appearances = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
        return {
            "accuracy": float(hits.sum()) / int(sums["count"]),
            "macro_f1": float(np.mean(2.0 * hits / np.maximum(appearances, 1.0))),
            "loss": float(sums["loss"]) / int(sums["count"]),
        }

    def report(
        self, state: base.TrainState, sums: Mapping[str, Mapping[str, np.ndarray]], folder: pathlib.Path
    ) -> base.Report:
        """Confusion matrix, a grid of images with true and predicted class, and a table per class."""
        from vision_jax.report import plots

        split = "test" if "test" in sums else "val"
        names, confusion = self.dataset.class_names, np.asarray(sums[split]["confusion"])
        report = base.Report()
        matrix = folder / "confusion_matrix.png"
        plots.confusion_matrix(matrix, confusion, names)
        report.pictures.append(
            (f"Confusion matrix ({split})", matrix, f"Rows: true class; columns: predicted; {confusion.sum()} images.")
        )
        examples = base.first_examples(self.config, self.dataset, split, _GRID)
        images, labels = examples["image"], examples["label"]
        predicted = np.argmax(jax.device_get(jax.jit(self.logits)(state, images)), -1)
        wrong = predicted != labels
        captions = [
            f"{names[true]} → {names[found]}" if error else names[found]
            for true, found, error in zip(labels, predicted, wrong, strict=True)
        ]
        grid = folder / "images.png"
        plots.image_grid(grid, images, captions, colors=["crimson" if w else None for w in wrong])
        report.pictures.append(
            (
                f"First {len(images)} images ({split})",
                grid,
                "An arrow leads from the true to the predicted class of errors.",
            )
        )
        rows: list[list[Any]] = []
        for k, name in enumerate(names):
            true, found, hits = confusion[k].sum(), confusion[:, k].sum(), confusion[k, k]
            rows.append([name, int(true), *(round(float(hits / n), 4) if n else None for n in (true, found))])
        report.tables.append((f"Classes ({split})", ("class", "images", "recall", "precision"), rows))
        return report

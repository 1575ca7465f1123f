"""Classification by a new head on a frozen network, whose features are computed once instead of at every step."""

import jax
from ml_collections import ConfigDict

from vision_jax.data.pipeline import Loader
from vision_jax.data.sources import Dataset
from vision_jax.pretrained import finetune
from vision_jax.tasks import base
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.state import NetworkState, TrainState
from vision_jax.utils.options import ConfigError


class CachedFeatures(Classification):
    """`Classification` whose batches hold features [N, F] where that has images, and whose steps train the head."""

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        if tuple(config.model.freeze) != ("all_but", "head"):
            raise ConfigError("config.model.cache_features needs config.model.freeze=('all_but', 'head').")
        if config.data.augment or (config.data.image_size and config.data.train_crop != "center"):
            raise ConfigError(
                "config.model.cache_features computes each image's features once: it needs config.data.augment=() and "
                "config.data.train_crop='center'."
            )
        options = config.classification
        if options.distillation.teachers or options.train_sizes or options.test_time_augmentation != "none":
            raise ConfigError(
                "config.model.cache_features keeps no images: config.classification can have neither teachers nor "
                "train_sizes nor test_time_augmentation."
            )
        super().__init__(config, dataset, durations)
        self.head = self.model.head_module()
        self._features = jax.jit(lambda variables, images: self._features_of(variables, images))

    def _features_of(self, variables: base.Tree, images: jax.Array) -> jax.Array:
        x = self.normalize(base.to_unit(images))
        return finetune.logits_and_features(self.model, variables, x)[1]

    def loader(self, state: TrainState, loader: Loader) -> Loader:
        """Returns the features of a split."""
        variables = state.networks["model"].variables()
        return loader.mapped_once(lambda images: self._features(variables, images), self.config.data.batch_size)

    def augmented(self, batch: base.Batch, key: jax.Array) -> base.Batch:
        return batch

    def train_logits(
        self, network: NetworkState, params: base.Tree, x: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], base.Tree]:
        logits = self.head.apply({"params": params}, x, train=True, rngs={"dropout": key})
        return logits, {}, network.batch_stats

    def predict(self, state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns float32 logits [N, K] of features [N, F], and these."""
        network = state.networks["model"]
        return self.head.apply({"params": network.averaged or network.params}, images, train=False), images

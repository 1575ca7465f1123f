"""Distances between the images of a GAN and real ones, in the features of a network that only helps."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict

from vision_jax.data import datasets, sources, transforms
from vision_jax.data.sources import Dataset
from vision_jax.metrics import generative, memorization
from vision_jax.metrics.generative import FeatureSet
from vision_jax.metrics.receipt import Protocol
from vision_jax.pretrained import extractors, reference
from vision_jax.tasks.base import Measured

_KEPT = 10_000  # Features kept of each set for what statistics cannot give.
_BATCH = 250
_NEAREST = 8  # Samples whose nearest training images are shown.
_NEIGHBORS = 3


class Distances:
    """What measures a GAN's images; the extractor's weights are loaded, real images are embedded when first needed.

    Attributes:
        extractor: the network, its weights (a constant of the task) and its view of images.
        trained: whether the split 'train' is what was trained on: in an evaluation on other data all splits are one.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset):
        """Loads the extractor that `config.eval.gan` names; see `extractors.load` about errors."""
        options = config.eval.gan
        self.config, self.dataset = config, dataset
        self.trained = dataset.splits["train"] is not dataset.splits.get("test")
        self.extractor = extractors.load(options.extractor, options.weights, mode=options.mode)
        self._real: dict[tuple[str, int], FeatureSet] = {}

    def protocol(self, split: str, limit: int) -> Protocol:
        """Returns what distances to a split are measured with; what the config does to photos is part of it."""
        fingerprint = sources.fingerprint(datasets.limited(self.dataset.splits[split], limit))
        _, transform = transforms.for_config(self.config.data)
        if transform is not None:
            fingerprint = hashlib.sha256(f"{fingerprint} {transform!r}".encode()).hexdigest()
            split = f"{split} ({transform.words})"
        return self.extractor.protocol(self.dataset.name, split, fingerprint)

    def real(self, split: str, limit: int) -> FeatureSet:
        """Returns the features of a split's images, at most `limit` of them, spread evenly; 0 takes all."""
        if (split, limit) not in self._real:
            self._real[split, limit] = reference.cached(
                self.protocol(split, limit), _KEPT, lambda: self._embed(self.images(split, limit), _KEPT)
            )
        return self._real[split, limit]

    def metric(self, split: str, limit: int) -> str:
        """Returns the name of the distance of as many generated images as the split has, or `limit`."""
        count = len(datasets.evenly(len(self.dataset.splits[split]), limit))
        return self.protocol(split, limit).metric(self.extractor.prefix.partition("_")[0], count)

    def training(self, split: str, limit: int) -> "Training":
        """Returns what measures during training."""
        return Training(self, split, limit)

    def final(self, split: str) -> "Final":
        """Returns what measures when training has ended."""
        return Final(self, split)

    def noise(self, count: int) -> FeatureSet:
        """Returns the features of images of uniform noise."""
        generator, shape = np.random.default_rng(0), next(self.images("train")).shape
        return self._embed((generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)), 0)

    def images(self, split: str, limit: int = 0) -> Iterator[np.ndarray]:
        """Yields a split's images as the GAN sees them, uint8 [H, W, C], at most `limit` spread evenly; 0 takes all."""
        source = datasets.limited(self.dataset.splits[split], limit)
        _, transform = transforms.for_config(self.config.data)
        for index in range(len(source)):
            example = source[index]
            yield (transform(example) if transform is not None else example)["image"]

    def _embed(self, images: Iterator[np.ndarray], kept: int) -> FeatureSet:
        return extractors.collect(self.extractor, images, batch_size=_BATCH, limit=kept)


class Training:
    """Gathers the features of generated images during training; see `tasks.base.Collector`."""

    def __init__(self, distances: Distances, split: str, limit: int):
        self.distances, self.split, self.limit = distances, split, limit
        self.fake = FeatureSet(0)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Takes in a batch with 'features'."""
        self.fake.add({"features": outputs["features"]})

    def metrics(self) -> dict[str, float]:
        """Returns the Fréchet distance alone."""
        return self.final().metrics

    def final(self) -> Measured:
        """Returns the same with its receipt."""
        real, protocol = self.distances.real(self.split, self.limit), self.distances.protocol(self.split, self.limit)
        metrics, receipts = generative.measure(real, self.fake, protocol, parts=())
        return Measured(metrics, {name: receipt.to_json() for name, receipt in receipts.items()})


class Final:
    """Gathers generated images and their features for everything that is measured when training has ended."""

    def __init__(self, distances: Distances, split: str):
        self.distances, self.split = distances, split
        self.fake = FeatureSet(_KEPT)
        self.samples: list[np.ndarray] = []

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Takes in a batch with 'sample', 'features' and, where the extractor has them, 'logits'."""
        self.fake.add({name: outputs[name] for name in ("features", "logits") if name in outputs})
        missing = _NEAREST - sum(map(len, self.samples))
        if missing > 0:
            self.samples.append(outputs["sample"][:missing])

    def metrics(self) -> dict[str, float]:
        """Returns all metrics."""
        return self.final().metrics

    def final(self) -> Measured:
        """Returns all distances with their receipts, their floor and ceiling, and the nearest training images.

        Without training images there is neither the floor nor the nearest.

        `<distance>_of_train` is that of as many training images, the least to expect; `<distance>_of_noise` that of
        images of uniform noise.
        """
        distances, count = self.distances, self.fake.count
        assert count is not None  # These images were counted.
        real, protocol = distances.real(self.split, 0), distances.protocol(self.split, 0)
        metrics, receipts = generative.measure(real, self.fake, protocol)
        bounds = {"noise": distances.noise(count)}
        if distances.trained:
            bounds = {"train": distances.real("train", count), **bounds}
        for name, images in bounds.items():
            found, receipt = generative.measure(real, images, protocol, parts=())
            ((metric, value),) = found.items()
            metrics[f"{metric}_of_{name}"], receipts[f"{metric}_of_{name}"] = value, receipt[metric]
        pictures, arrays = nearest(np.concatenate(self.samples), distances) if distances.trained else ({}, {})
        return Measured(metrics, {name: receipt.to_json() for name, receipt in receipts.items()}, pictures, arrays)


def nearest(samples: np.ndarray, distances: Distances) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns samples uint8 [k, H, W, C] beside the three nearest training images of each, by the distance of pixels.

    Returns:
        Pictures 'nearest_samples' [k, H, W, C] and 'nearest_training' [3 k, H, W, C]; array 'nearest_distance' [k, 3].
    """
    neighbors = min(_NEIGHBORS, len(distances.dataset.splits["train"]))
    _, apart, found = memorization.nearest(samples, distances.images("train"), neighbors)
    pictures = {"nearest_samples": samples, "nearest_training": found.reshape(-1, *found.shape[2:])}
    return pictures, {"nearest_distance": apart}

"""The table of tasks, and the task of a config."""

import dataclasses
import importlib

from ml_collections import ConfigDict

from vision_jax.data.sources import Dataset
from vision_jax.tasks.base import Durations, Task


@dataclasses.dataclass(frozen=True)
class Entry:
    """One task: its class as 'MODULE:CLASS', and the ends of the names of the networks that it trains."""

    path: str
    suffixes: tuple[str, ...] = ("",)


TASKS = {
    "classification": Entry("classification:Classification"),
    "gan": Entry("gan:GAN", ("_generator", "_discriminator")),
    "super_resolution": Entry("super_resolution:SuperResolution"),
}
_CACHED_FEATURES = Entry("cached_features:CachedFeatures")


def build(config: ConfigDict, dataset: Dataset, durations: Durations) -> Task:
    """Returns the task that `config.task` names; the module of no other task is imported."""
    entry = _CACHED_FEATURES if config.model.cache_features else TASKS[config.task]
    module, _, name = entry.path.partition(":")
    return getattr(importlib.import_module(f"vision_jax.tasks.{module}"), name)(config, dataset, durations)

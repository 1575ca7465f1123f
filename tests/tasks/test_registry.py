"""The task of a config."""

import numpy as np
import pytest

from vision_jax import config as config_lib
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.tasks import base, registry

NETWORKS = {"classification": "mlp", "gan": "mlp_gan", "super_resolution": "srcnn"}


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        ("classification", {}, "Classification"),
        ("classification", {"freeze": ("all_but", "head"), "cache_features": True}, "CachedFeatures"),
        ("gan", {}, "GAN"),
        ("super_resolution", {}, "SuperResolution"),
    ],
)
def test_each_task_is_built(task, options, expected):
    config = config_lib.default(task)
    config.model.name = NETWORKS[task]
    config.model.update(options)
    source = ArraySource(np.zeros((6, 32, 32, 3), np.uint8), np.arange(6) % 2)
    dataset = Dataset("toy", {"train": source, "val": source}, ("a", "b"), {})
    built = registry.build(config, dataset, base.Durations(total=2, warmup=0, log=1, evaluate=1, save=0))
    assert type(built).__name__ == expected

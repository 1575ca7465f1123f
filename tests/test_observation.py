"""Norms and ranges within a step are those of the same network written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import config as config_lib
from vision_jax import observation
from vision_jax.data import datasets
from vision_jax.tasks import base, registry


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_of_layers_and_activations_of_stages(accumulate):
    config = config_lib.default()
    config.model.name, config.model.mlp = "mlp", dict(hidden=(8,))
    config.optimizer.clip_norm, config.optimizer.accumulate = 1e-3, accumulate  # What the optimizer makes of them.
    task = registry.build(config, datasets.load(config.data), base.Durations(10, 0, 1, 1, 0))
    examples = base.first_examples(config, task.dataset, "train", 6)
    batch = {name: jnp.asarray(x) for name, x in examples.items()}
    state = task.init(jax.random.key(0))
    found = observation.observe(task, state, {}, batch, jax.random.key(1))

    def hidden(params):
        images = examples["image"].reshape(6, -1) / np.float32(255)
        return jax.nn.relu(images @ params["hidden1"]["kernel"] + params["hidden1"]["bias"])

    def loss(params):
        logits = hidden(params) @ params["head"]["kernel"] + params["head"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    params = state.networks["model"].params
    norms = {f"model/{layer}": optax.tree.norm(g) for layer, g in jax.grad(loss)(params).items()}
    assert found.gradients == {name: pytest.approx(float(norm), rel=1e-4) for name, norm in norms.items()}
    h = np.asarray(hidden(params))
    expected = {"min": h.min(), "max": h.max(), "mean_absolute": np.abs(h).mean(), "zeros": (h == 0).mean()}
    assert 0 < expected["zeros"] < 1
    assert found.activations["model/hidden1"] == pytest.approx(expected, rel=1e-5)

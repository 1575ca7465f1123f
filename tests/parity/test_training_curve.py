"""At each of a hundred steps of SGD from the same weights on the same batches, the loss is PyTorch's.

The weights keep activations off the kinks of ReLU (`harness.randomize`): from torchvision's own initialisation, a
difference in the last bit grows to per cents within thirty steps, whoever computes it.
"""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import functools

import numpy as np
import pytest

from .needs import needs_references

needs_references()

import jax
import optax
import torch
from jax import numpy as jnp

from vision_jax import models
from vision_jax.pretrained import port

from . import harness
from .cases import CASES

STEPS, BATCH, RATE, MOMENTUM = 100, 16, 1e-4, 0.9


def batches(size):
    """Noise over one fixed pattern per class: float32 [STEPS,BATCH,size,size,3] and labels."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(10, size, size, 3))
    labels = rng.integers(0, 10, size=(STEPS, BATCH))
    noise = rng.normal(size=(STEPS, BATCH, size, size, 3))
    return (patterns[labels] + 0.5 * noise).astype(np.float32), labels


def torch_losses(net, images, labels):
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM)
    losses = []
    for x, y in zip(images, labels, strict=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(harness.to_nchw(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def losses_here(model, variables, images, labels):
    optimizer = optax.sgd(RATE, MOMENTUM)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        def loss_of(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            logits, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), updated["batch_stats"]

        (loss, batch_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state["params"])
        updates, momentum = optimizer.update(gradients, state["optimizer"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "batch_stats": batch_stats, "optimizer": momentum}, loss

    state = jax.tree.map(jnp.array, {**variables, "optimizer": optimizer.init(variables["params"])})
    losses = []
    for x, y in zip(images, labels, strict=True):
        state, loss = step(state, x, y)
        losses.append(loss)
    return np.array(jax.device_get(losses))


@pytest.mark.parametrize(
    "name,size",
    [
        ("tiny_resnet", 32),
        pytest.param("resnet18", 32, marks=pytest.mark.full),
        pytest.param("resnet18", 64, marks=pytest.mark.full),
        # In images of 32 pixels its last statistics are those of 16 values, too few for losses this close.
        pytest.param("mobilenet_v2", 64, marks=pytest.mark.full),
    ],
)
def test_each_of_a_hundred_steps_loses_as_pytorch_does(name, size):
    net = CASES[name].reference().train()
    harness.randomize(net, seed=0)
    state = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    images, labels = batches(size)
    expected = torch_losses(net, images, labels)
    model = models.build(name, **CASES[name].options)
    found = losses_here(model, port.load_state_dict(name, state), images, labels)
    assert expected[-10:].mean() < 0.75 * expected[:10].mean()  # It learns, so that there is a curve to follow.
    np.testing.assert_allclose(found, expected, rtol=1e-5)

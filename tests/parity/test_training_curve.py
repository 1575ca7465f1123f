"""A hundred steps of SGD from the same weights on the same batches lose as PyTorch's do.

At rates with which the loss falls, but not to zero: on the way there a difference in the last bit grows to more than
the bound, whoever computes it.
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

from . import harness, references

STEPS, BATCH, SIZE, MOMENTUM = 100, 16, 64, 0.9


def batches():
    """Noise over one fixed pattern per class: float32 [STEPS,BATCH,SIZE,SIZE,3] and labels."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(10, SIZE, SIZE, 3))
    labels = rng.integers(0, 10, size=(STEPS, BATCH))
    noise = rng.normal(size=(STEPS, BATCH, SIZE, SIZE, 3))
    return (patterns[labels] + 0.5 * noise).astype(np.float32), labels


def torch_losses(net, rate, images, labels):
    optimizer = torch.optim.SGD(net.parameters(), rate, MOMENTUM)
    losses = []
    for x, y in zip(images, labels, strict=True):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(harness.to_nchw(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def losses_here(model, variables, rate, images, labels):
    optimizer = optax.sgd(rate, MOMENTUM)

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


@pytest.mark.parametrize("name,rate,options", [("resnet18", 1e-4, {}), ("mobilenet_v2", 3e-4, {"dropout": 0.0})])
def test_hundred_steps_lose_as_pytorch_does(name, rate, options):
    torch.manual_seed(0)
    net = references.from_torchvision(name, **options)().train()
    state = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    images, labels = batches()
    expected = torch_losses(net, rate, images, labels)
    model = models.build(name, num_classes=10, **options)
    found = losses_here(model, port.load_state_dict(name, state), rate, images, labels)
    assert expected[-10:].mean() < 0.95 * expected[:10].mean()  # It learns, so that there is a curve to follow.
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[-10:].mean(), expected[-10:].mean(), rtol=1e-2)

"""Losses of classification in value and gradient: against PyTorch on the same arrays, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.tasks import classification_losses as losses

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(6, 4))).astype(np.float32)
TEACHER = (3 * RNG.normal(size=(6, 4))).astype(np.float32)
LABELS = np.array([0, 3, 1, 1, 2, 0], np.int32)
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
MIXED = (0.7 * ONE_HOT + 0.3 * np.roll(ONE_HOT, 1, axis=0)).astype(np.float32)  # As Mixup and CutMix make them.
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0], np.float32)


def ours(loss):
    """The mean of a loss over the examples and its gradient by the logits."""
    return jax.value_and_grad(lambda logits: jnp.mean(loss(logits)))(jnp.asarray(LOGITS))


def in_torch(loss):
    torch = pytest.importorskip("torch")
    logits = torch.tensor(LOGITS, requires_grad=True)
    value = loss(torch, logits)
    value.backward()
    return value.detach().numpy(), logits.grad.numpy()


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_label_costs_what_its_one_hot_vector_costs():
    sparse = ours(lambda logits: losses.cross_entropy(logits, jnp.asarray(LABELS)))
    one_hot = ours(lambda logits: losses.cross_entropy(logits, jnp.asarray(ONE_HOT)))
    assert_same(sparse, one_hot)
    assert_same(sparse, in_torch(lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS).long())))
    for gamma in (0.5, 2.0):
        assert_same(
            ours(lambda logits, g=gamma: losses.focal(logits, jnp.asarray(LABELS), g)),
            ours(lambda logits, g=gamma: losses.focal(logits, jnp.asarray(ONE_HOT), g)),
        )


def test_mixed_targets():
    found = ours(lambda logits: losses.cross_entropy(logits, jnp.asarray(MIXED)))
    assert_same(found, in_torch(lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(MIXED))))


def test_class_weights_divide_by_their_sum():
    def reference(torch, x):
        return torch.nn.functional.cross_entropy(x, torch.tensor(LABELS).long(), weight=torch.tensor(WEIGHTS))

    expected = in_torch(reference)
    for targets in (jnp.asarray(LABELS), jnp.asarray(ONE_HOT)):

        def loss(logits, targets=targets):
            return losses.weighted_mean(losses.cross_entropy(logits, targets), targets, jnp.asarray(WEIGHTS))

        value, gradient = jax.value_and_grad(loss)(jnp.asarray(LOGITS))
        assert_same((value, gradient), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("targets", [ONE_HOT, MIXED], ids=["one_hot", "mixed"])
def test_focal_loss(gamma, targets):
    def reference(torch, x):
        log_p = torch.log_softmax(x, -1)
        return (-torch.tensor(targets) * (1 - log_p.exp()) ** gamma * log_p).sum(-1).mean()

    assert_same(ours(lambda logits: losses.focal(logits, jnp.asarray(targets), gamma)), in_torch(reference))


def test_focal_loss_stays_finite_where_nothing_is_missing():
    certain = jnp.asarray([[80.0, -80.0]])
    value, gradient = jax.value_and_grad(lambda x: losses.focal(x, jnp.asarray([0]), 0.5).sum())(certain)
    assert float(value) == pytest.approx(0, abs=1e-6) and np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation(temperature):
    teacher = losses.softened([jnp.asarray(TEACHER)], temperature)

    def reference(torch, x):
        log_p = torch.log_softmax(x / temperature, -1)
        q = torch.softmax(torch.tensor(TEACHER) / temperature, -1)
        return torch.nn.functional.kl_div(log_p, q, reduction="batchmean") * temperature**2

    found = ours(lambda logits: losses.distillation(logits, teacher, temperature))
    assert_same(found, in_torch(reference))
    itself = losses.softened([jnp.asarray(LOGITS)], temperature)
    value, gradient = ours(lambda logits: losses.distillation(logits, itself, temperature))
    assert float(value) == pytest.approx(0, abs=1e-5) and np.abs(gradient).max() < 1e-5


def test_several_teachers_are_averaged_as_probabilities():
    found = losses.softened([jnp.asarray(TEACHER), jnp.asarray(LOGITS)], 2.0)
    each = [np.exp(x / 2.0) / np.exp(x / 2.0).sum(-1, keepdims=True) for x in (TEACHER, LOGITS)]
    np.testing.assert_allclose(np.exp(found), np.mean(each, axis=0), rtol=1e-5)

"""Losses of classification, one value per example, of logits [N, K] and labels or soft targets.

Targets are int labels [N] or distributions float32 [N, K]: one-hot, smoothed, or mixed as Mixup and CutMix make them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

NAMES = ("cross_entropy", "focal")


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the cross-entropy [N]; a label and its one-hot vector cost the same."""
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return optax.softmax_cross_entropy(logits, targets)


def focal(logits: jax.Array, targets: jax.Array, gamma: float) -> jax.Array:
    """Returns the focal loss [N], in which examples already known count less: -Σ t (1 - p)^gamma log p.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv 1708.02002), over the softmax's classes.

    Args:
        logits: float [N, K].
        targets: labels or distributions.
        gamma: 0 is the cross-entropy; 2 is the paper's.
    """
    log_p = jax.nn.log_softmax(logits)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=log_p.dtype)
    # The bound keeps the power's gradient finite where p is 1 to rounding and gamma below 1.
    missing = jnp.maximum(-jnp.expm1(log_p), 1e-7)
    return -jnp.sum(targets * missing**gamma * log_p, axis=-1)


def softened(logits: Sequence[jax.Array], temperature: float) -> jax.Array:
    """Returns the logarithm [N, K] of the mean, over networks, of their probabilities at a temperature.

    Args:
        logits: of each network, [N, K].
        temperature: divides the logits; above 1 it brings out how a network ranks the classes it does not choose.
    """
    log_p = jax.nn.log_softmax(jnp.stack(list(logits)) / temperature)
    return jax.nn.logsumexp(log_p, axis=0) - jnp.log(float(len(logits)))


def distillation(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Returns T² KL(teacher ‖ student) [N], both at temperature T, so that gradients keep their size when T changes.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), section 2; their
    cross-entropy less the teacher's entropy, which no gradient sees.

    Args:
        logits: the student's, [N, K].
        teacher: log-probabilities at the temperature [N, K]; see `softened`.
        temperature: T.
    """
    log_p = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_p, teacher)


def of_examples(logits: jax.Array, targets: jax.Array, teacher: jax.Array | None, options: ConfigDict) -> jax.Array:
    """Returns the losses [N] that the section `classification` of a config asks for.

    Args:
        logits: float [N, K].
        targets: distributions.
        teacher: log-probabilities of the teachers [N, K], if there are any.
        options: the section.
    """
    if options.loss == "focal":
        losses = focal(logits, targets, options.focal_gamma)
    else:
        losses = cross_entropy(logits, targets)
    if teacher is None:
        return losses
    weight, temperature = options.distillation.weight, options.distillation.temperature
    return (1.0 - weight) * losses + weight * distillation(logits, teacher, temperature)


def weighted_mean(losses: jax.Array, targets: jax.Array, class_weights: jax.Array) -> jax.Array:
    """Returns the mean of losses [N], each weighted by its targets' class weights, over the sum of the weights.

    That is `torch.nn.CrossEntropyLoss(weight=…)` for labels. A mixed target has the mixture of its classes' weights.

    Args:
        losses: per example.
        targets: labels or distributions, before smoothing.
        class_weights: float32 [K].
    """
    integer = jnp.issubdtype(targets.dtype, jnp.integer)
    weights = class_weights[targets] if integer else targets @ class_weights
    return jnp.sum(losses * weights) / jnp.sum(weights)

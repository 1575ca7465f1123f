"""Optax chains and learning-rate schedules from the sections `optimizer` and `schedule` of a config."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vision_jax import ops
from vision_jax.utils import trees

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
Tree = Any


def schedule(options: Mapping[str, Any], peak: float, total_steps: int, warmup_steps: int) -> Schedule:
    """Returns step -> learning rate.

    Args:
        options: the config's section `schedule`.
        peak: highest learning rate.
        total_steps: length of training; fractions in `options` refer to it.
        warmup_steps: linear warm-up from 0 to the start of the schedule proper.

    Raises:
        ValueError: the warm-up does not leave a step for the schedule.
    """
    if warmup_steps >= total_steps > 0 and warmup_steps:
        raise ValueError(
            f"config.schedule's warm-up takes {warmup_steps} of {total_steps} training steps; make it shorter."
        )
    rest = max(total_steps - warmup_steps, 1)
    match options["name"]:
        case "constant":
            main = optax.constant_schedule(peak)
        case "step":
            at = {int(fraction * total_steps) - warmup_steps: options["factor"] for fraction in options["boundaries"]}
            main = optax.piecewise_constant_schedule(peak, at)
        case "linear":
            main = optax.linear_schedule(peak, peak * options["final_fraction"], rest)
        case "cosine":
            main = optax.cosine_decay_schedule(peak, rest, alpha=options["final_fraction"])
        case "one_cycle":
            # Super-convergence, Smith & Topin 2018; starts at peak / 25 by itself.
            main = optax.cosine_onecycle_schedule(rest, peak, pct_start=options["peak_fraction"])
        case name:
            raise ValueError(f"There is no schedule {name!r}.")
    if warmup_steps:
        main = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), main], [warmup_steps])

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes types in some schedules.
            return jnp.asarray(main(jnp.asarray(step, jnp.float32)), jnp.float32)

    return rate


def decay_mask(params: Tree) -> Tree:
    """Returns True for parameters that weight decay applies to: kernels, not biases, scales or shifts."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def _muon_dimensions(params: Tree) -> Tree:
    """Muon orthogonalizes hidden matrices [in, out] and kernels seen as [h*w*in, out]; Adam takes the rest."""

    def dimensions(parameter: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if parameter.ndim < 2:
            return None
        inputs = tuple(range(parameter.ndim - 1))
        return optax.contrib.MuonDimensionNumbers(reduction_axis=inputs, output_axis=parameter.ndim - 1)

    return jax.tree.map(dimensions, params)


def optimizer(
    options: Mapping[str, Any], rate: Schedule, multiplier: Callable[[str], float] | None = None
) -> optax.GradientTransformation:
    """Returns the update rule: clip, decay, rule, rate, accumulation, in this order.

    For 'sgd' and 'adam' the decay is L2 regularization, added to the gradient (as `torch.optim.SGD` and `Adam`); for
    'adamw', 'lion' and 'muon' it is decoupled (Loshchilov & Hutter 2019). Muon: Jordan et al. 2024, Optax's version.
    'muon_sgd' is the rule of KellerJordan/cifar10-airbench (airbench94_muon.py): Muon of three iterations for
    convolutions, whose kernels are brought to the norm √outputs before each update, without decay; SGD of Nesterov
    momentum 0.85 for everything else, which all decays, biases too, and at the same rate whatever its factor.

    Args:
        options: the config's section `optimizer`.
        rate: learning rate as a function of the training step.
        multiplier: factor of the rate for a parameter's path, for discriminative learning rates.
    """
    every, decay = options["accumulate"], options["weight_decay"]

    def rate_of_update(update: jax.typing.ArrayLike) -> jax.Array:
        return rate(update * every)

    coupled = [optax.add_decayed_weights(decay, decay_mask)] if decay else []
    match options["name"]:
        case "sgd":
            momentum = options["momentum"] or None
            rule = [*coupled, optax.sgd(rate_of_update, momentum, nesterov=options["nesterov"] and bool(momentum))]
        case "adam":
            moments = scale_by_adam(options["b1"], options["b2"], options["eps"])
            rule = [*coupled, optax.chain(moments, optax.scale_by_learning_rate(rate_of_update))]
        case "adamw":
            moments = scale_by_adam(options["b1"], options["b2"], options["eps"])
            decoupled = optax.add_decayed_weights(decay, decay_mask)
            rule = [optax.chain(moments, decoupled, optax.scale_by_learning_rate(rate_of_update))]
        case "lion":
            rule = [optax.lion(rate_of_update, options["b1"], options["b2"], weight_decay=decay, mask=decay_mask)]
        case "muon":
            rule = [
                optax.contrib.muon(
                    rate_of_update,
                    beta=options["momentum"],
                    nesterov=options["nesterov"],
                    weight_decay=decay,
                    weight_decay_mask=decay_mask,
                    muon_weight_dimension_numbers=_muon_dimensions,
                )
            ]
        case "muon_sgd":
            convolutions = optax.chain(
                optax.contrib.scale_by_muon(
                    ns_steps=3,
                    beta=options["momentum"],
                    nesterov=options["nesterov"],
                    weight_dimension_numbers=_muon_dimensions,
                ),
                optax.scale_by_learning_rate(rate_of_update),
            )
            others = optax.sgd(rate_of_update, 0.85, nesterov=True)
            rule = [optax.partition({True: convolutions, False: others}, _convolutions)]
            if decay:
                rule.insert(0, _decay_of_the_rest(decay, multiplier or (lambda path: 1.0)))
        case name:
            raise ValueError(f"There is no optimizer {name!r}.")
    if multiplier is not None:
        rule.append(_scale_by_path(multiplier))
    if options["name"] == "muon_sgd":
        rule.append(_from_unit_filters())
    if options["clip_norm"]:
        rule.insert(0, optax.clip_by_global_norm(options["clip_norm"]))
    chain = optax.chain(*rule)
    return optax.MultiSteps(chain, every).gradient_transformation() if every > 1 else chain


def _convolutions(params: Tree) -> Tree:
    """Returns True for kernels of convolutions."""
    return jax.tree.map(lambda parameter: parameter.ndim == 4, params)


def _decay_of_the_rest(decay: float, multiplier: Callable[[str], float]) -> optax.GradientTransformation:
    """Adds `decay` times the parameter to gradients, but those of convolutions, which a later factor leaves as much."""

    def update(updates: Tree, params: Tree | None) -> Tree:
        def one(gradient: jax.Array, parameter: jax.Array, factor: float) -> jax.Array:
            if gradient.ndim == 4 or not factor:
                return gradient
            return gradient + decay / factor * parameter

        factors = [multiplier(path) for path in trees.flatten(updates)]
        return jax.tree.map(one, updates, params, jax.tree.unflatten(jax.tree.structure(updates), factors))

    return optax.stateless(update)


def _from_unit_filters() -> optax.GradientTransformation:
    """Adds to a convolution's update what brings its kernel to the norm √outputs first."""

    def update(updates: Tree, params: Tree | None) -> Tree:
        def one(update: jax.Array, parameter: jax.Array) -> jax.Array:
            if parameter.ndim != 4:
                return update
            length = jnp.sqrt(float(parameter.shape[-1])) / norm(parameter)
            return update + (length - 1.0) * parameter

        return jax.tree.map(one, updates, params)

    return optax.stateless(update)


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Returns `optax.scale_by_adam`, its state included, in fewer passes over memory on a CPU (`ops.adam`)."""

    def update(
        gradients: Tree, state: optax.ScaleByAdamState, params: Tree | None = None
    ) -> tuple[Tree, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        corrections = 1.0 - jnp.array([b1, b2], jnp.float32) ** count.astype(jnp.float32)

        def one(gradient: jax.Array, mean: jax.Array, square: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            return ops.adam(gradient, mean, square, corrections.astype(mean.dtype), b1=b1, b2=b2, eps=eps)

        results = jax.tree.map(one, gradients, state.mu, state.nu)
        structures = jax.tree.structure(gradients), jax.tree.structure((0, 0, 0))
        updates, mu, nu = jax.tree.transpose(*structures, results)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)


def norm(tree: Tree) -> jax.Array:
    """Returns the Euclidean norm of all leaves together."""
    return jnp.sqrt(sum(ops.square_sum(leaf) for leaf in jax.tree.leaves(tree)))


def _scale_by_path(multiplier: Callable[[str], float]) -> optax.GradientTransformation:
    def scale(updates: Tree, params: Tree | None) -> Tree:
        del params
        scaled = {path: update * multiplier(path) for path, update in trees.flatten(updates).items()}
        return jax.tree.unflatten(jax.tree.structure(updates), list(scaled.values()))

    return optax.stateless(scale)


def averaging(ema_decay: float, last: float, steps: int) -> Schedule | None:
    """Returns the step -> weight of the average so far against the parameters after that step; None without one.

    Args:
        ema_decay: constant weight of a moving average; 0 if there is none.
        last: part of training at its end whose parameters count equally: stochastic weight averaging, Izmailov et al.
            2018 (arXiv 1803.05407). Before that the average is the parameters.
        steps: length of training.
    """
    if last:
        start = min(round((1.0 - last) * steps), steps - 1)

        def weight(step: jax.typing.ArrayLike) -> jax.Array:
            counted = jnp.maximum(jnp.asarray(step, jnp.float32) - start, 0.0)
            return counted / (counted + 1.0)

        return weight
    return optax.constant_schedule(ema_decay) if ema_decay else None


def average(decay: jax.typing.ArrayLike, old: Tree, new: Tree) -> Tree:
    """Returns the exponential moving average `decay * old + (1 - decay) * new`, leaf by leaf."""
    return jax.tree.map(lambda a, b: a + (1.0 - decay) * (b - a), old, new)

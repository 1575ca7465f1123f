"""The state that all tasks train: one pytree of networks with their optimizers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vision_jax import optim
from vision_jax.utils import trees

Tree = Any


class NetworkState(flax.struct.PyTreeNode):
    """Everything that belongs to one network.

    Attributes:
        params: the trained parameters.
        fixed: parameters that stay as they are: no gradient, no optimizer state.
        batch_stats: running statistics of its normalizations.
        opt_state: the optimizer's.
        averaged: average of `params` over steps; `{}` where the config asks for none.
        averaged_statistics: the same of `batch_stats`.
    """

    params: Tree
    fixed: Tree
    batch_stats: Tree
    opt_state: Tree
    averaged: Tree
    averaged_statistics: Tree = flax.struct.field(default_factory=dict)

    def variables(self, params: Tree | None = None) -> dict[str, Tree]:
        """Returns Flax variables with `params` and the fixed parameters; by default those of evaluation, averaged."""
        batch_stats = self.batch_stats
        if params is None:
            params, batch_stats = self.averaged or self.params, self.averaged_statistics or batch_stats
        return {"params": merge(params, self.fixed), "batch_stats": batch_stats}


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes: `step` (int32, steps done) and the networks by name."""

    step: jax.Array
    networks: dict[str, NetworkState]

    @classmethod
    def first(cls, **networks: NetworkState) -> "TrainState":
        """Returns the state before the first step."""
        return cls(jnp.zeros((), jnp.int32), networks)

    def parameter_count(self) -> int:
        """Returns the number of parameters of all networks, trained and fixed."""
        return sum(
            leaf.size for network in self.networks.values() for leaf in jax.tree.leaves((network.params, network.fixed))
        )


def merge(first: Tree, second: Tree) -> Tree:
    """Returns the union of two trees of parameters that share no leaf."""
    if not second:
        return first
    return trees.unflatten(trees.flatten(first) | trees.flatten(second))


@dataclasses.dataclass(frozen=True)
class NetworkOptimizer:
    """What trains one network: makes its state and applies gradients to it.

    Attributes:
        transformation: the update rule.
        rate: step -> learning rate.
        averaging: step -> weight of the average so far (see `optim.averaging`), of parameters and of the running
            statistics that belong to them; None keeps no average.
        trained: whether the parameter at a path ('block1/conv1/kernel') is trained; None trains all.
    """

    transformation: optax.GradientTransformation
    rate: optim.Schedule
    averaging: optim.Schedule | None
    trained: Callable[[str], bool] | None = None

    @classmethod
    def of_config(
        cls,
        config: ConfigDict,
        *,
        steps: int,
        warmup: int,
        peak: float,
        multiplier: Callable[[str], float] | None = None,
        trained: Callable[[str], bool] | None = None,
    ) -> "NetworkOptimizer":
        """Returns the optimizer that the sections `optimizer` and `schedule` describe.

        Args:
            config: of the run.
            steps: length of training.
            warmup: how many of them warm the learning rate up.
            peak: highest learning rate.
            multiplier: factor of the rate by path of a parameter.
            trained: whether the parameter at a path is trained; all by default.
        """
        rate = optim.schedule(config.schedule, peak, steps, warmup)
        transformation = optim.optimizer(config.optimizer, rate, multiplier)
        averaging = optim.averaging(config.optimizer.ema_decay, config.optimizer.average_last, steps)
        return cls(transformation, rate, averaging, trained)

    def init(self, variables: Mapping[str, Tree]) -> NetworkState:
        """Returns the state of a network just initialized to `variables`."""
        params, fixed = variables["params"], {}
        if self.trained is not None:
            flat = trees.flatten(params)
            params = trees.unflatten({path: leaf for path, leaf in flat.items() if self.trained(path)})
            fixed = trees.unflatten({path: leaf for path, leaf in flat.items() if not self.trained(path)})
        batch_stats = variables.get("batch_stats", {})
        averages = ({}, {}) if self.averaging is None else jax.tree.map(jnp.copy, (params, batch_stats))
        return NetworkState(params, fixed, batch_stats, self.transformation.init(params), *averages)

    def update(
        self, state: NetworkState, gradients: Tree, batch_stats: Tree, step: jax.Array | int = 0
    ) -> NetworkState:
        """Returns the state after one step of the optimizer.

        Args:
            state: before it.
            gradients: of `state.params`.
            batch_stats: the new running statistics.
            step: steps done before; only stochastic weight averaging asks for it.
        """
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers; our own code need not.
            updates, opt_state = self.transformation.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state)
        if self.averaging is None:
            return state
        averages = state.averaged, state.averaged_statistics
        averaged, statistics = optim.average(self.averaging(step), averages, (params, batch_stats))
        return state.replace(averaged=averaged, averaged_statistics=statistics)

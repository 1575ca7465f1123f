"""What happens within one training step besides its metrics: gradients of layers and activations of stages.

The step is the task's own, in a program of its own, whose figures agree with training's to rounding.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision_jax import optim, parallel
from vision_jax.models.network import Network
from vision_jax.tasks.base import Batch, Constants, Task
from vision_jax.tasks.state import NetworkOptimizer, TrainState
from vision_jax.utils import trees

Tree = Any


@dataclasses.dataclass(frozen=True)
class Observed:
    """One step from within.

    Attributes:
        gradients: 'network/layer' -> Euclidean norm of its gradient, before the optimizer clips it; of a network that
            is updated several times per step, the last.
        activations: 'network/stage' -> 'min', 'max', 'mean_absolute' and 'zeros' (share of exact zeros) of what the
            stage gave, over all passes of the step.
    """

    gradients: dict[str, float]
    activations: dict[str, dict[str, float]]


def observe(task: Task, state: TrainState, constants: Constants, batch: Batch, key: jax.Array) -> Observed:
    """Makes the step `task.train_step` of these arguments and returns what happened in it."""
    watched = copy.copy(task)
    for name, value in vars(task).items():
        if isinstance(value, NetworkOptimizer):
            setattr(watched, name, _keeping_gradients(value))
    activations = _Activations(task)

    def step(state: TrainState, constants: Constants, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        networks = {
            name: network.replace(opt_state=_Kept(network.opt_state, ())) for name, network in state.networks.items()
        }
        with nn.intercept_methods(activations.intercept):
            after, _ = watched.train_step(state.replace(networks=networks), constants, batch, key)
        return {
            f"{name}/{layer}": norm
            for name, network in after.networks.items()
            for layer, norm in _norms(network.opt_state.gradients).items()
        }

    norms = parallel.to_host(jax.jit(step)(state, constants, batch, key))
    jax.effects_barrier()
    return Observed({name: float(norm) for name, norm in norms.items()}, activations.found())


class _Kept(NamedTuple):
    """An optimizer's state, and the gradients that it got last."""

    inner: Tree
    gradients: Tree


def _keeping_gradients(optimizer: NetworkOptimizer) -> NetworkOptimizer:
    def update(gradients: Tree, state: _Kept, params: Tree | None = None) -> tuple[Tree, _Kept]:
        updates, inner = optimizer.transformation.update(gradients, state.inner, params)
        return updates, _Kept(inner, gradients)

    transformation = optax.GradientTransformation(optimizer.transformation.init, update)
    return dataclasses.replace(optimizer, transformation=transformation)


def _norms(gradients: Tree) -> dict[str, jax.Array]:
    """Returns the norm of each layer's gradient: 'block1/conv1' has a kernel and a bias."""
    layers: dict[str, list[jax.Array]] = {}
    for path, leaf in trees.flatten(gradients).items():
        layers.setdefault(path.rpartition("/")[0] or path, []).append(leaf)
    return {layer: optim.norm(leaves) for layer, leaves in layers.items()}


class _Activations:
    """Listens to what the stages of a task's networks give in their training passes."""

    def __init__(self, task: Task):
        self.names = {type(value): name for name, value in vars(task).items() if isinstance(value, Network)}
        self.passes: dict[str, list[np.ndarray]] = {}
        self.training = False

    def intercept(self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        """See `flax.linen.intercept_methods`; networks that only help pass with `train=False`."""
        module, method = context.module, context.method_name
        name = self.names.get(type(module)) if module.path == () else None
        if name and method == "__call__":
            self.training = kwargs["train"]
        if name and method == "keep" and self.training:
            stage, x = args
            x = jax.lax.stop_gradient(x).astype(jnp.float32)
            figures = jnp.stack([x.min(), x.max(), jnp.abs(x).mean(), (x == 0).astype(jnp.float32).mean()])
            passes = self.passes.setdefault(f"{name}/{stage}", [])  # In the order of the network.
            jax.debug.callback(lambda found: passes.append(np.asarray(found)), figures)
        return call(*args, **kwargs)

    def found(self) -> dict[str, dict[str, float]]:
        """Returns the figures of each stage over its passes."""
        found = {}
        for stage, passes in self.passes.items():
            if not passes:  # Of a branch that this step did not take.
                continue
            low, high, mean, zeros = np.stack(passes).T
            values = low.min(), high.max(), mean.mean(), zeros.mean()
            found[stage] = dict(zip(("min", "max", "mean_absolute", "zeros"), map(float, values), strict=True))
        return found

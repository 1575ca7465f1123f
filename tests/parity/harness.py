"""Runs a network here and its reference on the same weights and inputs, and measures how far apart they are."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch
from jax import numpy as jnp
from torch import nn

from vision_jax import models
from vision_jax.pretrained import port

from . import references
from .cases import Case

LOGITS, STAGES, GRADIENTS, STATISTICS = 1e-4, 1e-4, 1e-3, 1e-5


@dataclass(frozen=True)
class Row:
    """What one comparison found; differences are relative, see each function. None: not looked at."""

    name: str
    parameters: int
    logits: tuple[float, ...]
    stages: float | None
    gradients: float | None
    statistics: float | None

    def problems(self) -> list[str]:
        """Each measure that is over its bound."""
        found = {
            "logits": (max(self.logits), LOGITS),
            "stages": (self.stages, STAGES),
            "gradients": (self.gradients, GRADIENTS),
            "running statistics": (self.statistics, STATISTICS),
        }
        # Written so that NaN is a problem.
        return [
            f"{what} differ by {value:.1e}, allowed {bound:.0e}"
            for what, (value, bound) in found.items()
            if value is not None and not value <= bound
        ]


def compare(name: str, case: Case) -> Row:
    """Evaluation mode at the case's sizes, then one training step if it has one, for network `name`."""
    net = references.on_no_device(case.reference)
    randomize(net, seed=sum(map(ord, name)))
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    variables = port.load_state_dict(name, state, **case.options)
    _assert_same(port.to_state_dict(name, variables, **case.options), state)
    variables = jax.tree.map(jnp.asarray, variables)
    logits, stages = [], []
    for size in case.sizes or (case.train or ())[:1]:
        logit, stage = _evaluation(name, case, net, variables, size)
        logits.append(logit)
        stages += stage
    gradients, statistics = _training_step(name, case, net, variables) if case.train else (None, None)
    return Row(name, models.entry(name).parameters, tuple(logits), max(stages, default=None), gradients, statistics)


def randomize(net: nn.Module, seed: int) -> None:
    """Random weights that keep activations alive, and random BatchNorm affine values and statistics.

    BatchNorm's outputs lie four deviations or more to either side of zero, the same side in all layers of a channel:
    at ReLU's kink a difference in the last bit switches a part of the gradient on or off, which says nothing about
    the networks. Channels that a depthwise convolution sees stay alive: the variance of a dead one is zero.
    Convolutions answer differences in their input, not its offset, beside which float32 would lose the differences.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    with torch.no_grad():
        for parameter in net.parameters(recurse=False):  # Of no layer: the learned bases of R3GAN.
            parameter.normal_(0.0, 0.5, generator=generator)
        for module in net.modules():
            if module is not net and all(
                module is not layer for layer in layers
            ):  # Slopes of PReLU, branches of collapsible convolutions.
                for parameter in module.parameters(recurse=False):
                    parameter.normal_(0.0, 0.2, generator=generator)
        for module, following in zip(layers, [*layers[1:], None][: len(layers)], strict=True):
            if isinstance(module, nn.BatchNorm2d):
                if module.weight is not None:
                    module.weight.uniform_(0.3, 0.5, generator=generator)
                module.bias.uniform_(2.0, 3.0, generator=generator)
                if getattr(following, "groups", 1) != module.num_features:
                    module.bias[1::2] *= -1.0
                module.running_mean.normal_(0.0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.num_batches_tracked.zero_()
            else:
                fan_in = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    fan_in = module.weight[:, 0].numel() / np.prod(module.stride)
                bound = (6.0 / fan_in) ** 0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                _answer_zero_to_constants(module)
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1, generator=generator)


def _answer_zero_to_constants(layer: nn.Module) -> None:
    """Takes the mean off a convolution's weights, over the live channels and over the others (or over its window)."""
    if isinstance(layer, nn.Conv2d) and layer.weight.shape[1] >= 4:
        for side in (layer.weight[:, 0::2], layer.weight[:, 1::2]):
            side -= side.mean(1, keepdim=True)
    elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
        layer.weight -= layer.weight.mean((2, 3), keepdim=True)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the expected values' standard deviation (their spread)."""
    return float(np.abs(found - expected).max() / max(expected.std(), 1e-30))


def inputs(name: str, size: int, batch: int) -> np.ndarray:
    """Random images [batch,size,size,C] of mean 0 and deviation 1, or noise [batch,latent] for a generator."""
    shape = models.entry(name).input_shape
    shape = shape if len(shape) == 1 else (size, size, shape[2])
    return np.random.default_rng(size).normal(size=(batch, *shape)).astype(np.float32)


def to_nchw(x: np.ndarray) -> torch.Tensor:
    """As PyTorch takes it."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))


def to_nhwc(x: torch.Tensor) -> np.ndarray:
    """As it is laid out here."""
    array = x.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _evaluation(name: str, case: Case, net: nn.Module, variables: Any, size: int) -> tuple[float, list[float]]:
    """Relative difference of the output, and of each stage's output."""
    x = inputs(name, size, 2)
    expected: dict[str, np.ndarray] = {}

    def keep(stage: str, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        expected[stage] = to_nhwc(output).copy()

    modules = dict(net.named_modules())
    hooks = [modules[path].register_forward_hook(functools.partial(keep, s)) for s, path in case.stages.items()]
    net.eval()
    with torch.no_grad():
        output = to_nhwc(net(to_nchw(x)))
    for hook in hooks:
        hook.remove()
    model = models.build(name, **case.options)

    @jax.jit
    def forward(variables, x):
        return model.apply(variables, x, train=False, mutable=["intermediates"])

    found, kept = forward(variables, x)
    stages = [relative(np.asarray(kept["intermediates"][stage][0]), value) for stage, value in expected.items()]
    return relative(np.asarray(found), output), stages


def _training_step(name: str, case: Case, net: nn.Module, variables: Any) -> tuple[float, float | None]:
    """Largest relative difference of the gradients, and of the running statistics after the step.

    In float64: in float32 some ReLU among a million has an input that is zero to rounding, and on which side it falls
    decides about a part of the gradient. A gradient tensor's difference is its norm relative to the norm of the
    expected tensor, or to a thousandth of the largest of all tensors where that is more: a bias before BatchNorm has no
    gradient but rounding.
    """
    x = inputs(name, *case.train).astype(np.float64)
    labels = np.arange(len(x)) % 10
    net.double().train()
    outputs = net(to_nchw(x))
    main, *aux = outputs if isinstance(outputs, tuple) else (outputs,)
    model = models.build(name, dtype=jnp.float64, **case.options)
    weights = list(getattr(model, "aux_weights", {}).items())
    target = np.random.default_rng(1).normal(size=to_nhwc(main).shape)
    if isinstance(model, models.Classifier):
        cross_entropy = nn.CrossEntropyLoss()
        loss = cross_entropy(main, torch.from_numpy(labels))
        # torchvision's GoogLeNet returns (logits, aux2, aux1).
        for (_, weight), logits in zip(reversed(weights), aux, strict=True):
            loss = loss + weight * cross_entropy(logits, torch.from_numpy(labels))
    else:
        loss = ((main - to_nchw(target)) ** 2).mean()
    loss.backward()

    def loss_here(params, batch_stats):
        variables = {"params": params, "batch_stats": batch_stats}
        output, state = model.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats", "aux_logits"])
        if isinstance(model, models.Classifier):
            total = _cross_entropy(output, labels)
            for head, weight in weights:
                total += weight * _cross_entropy(state["aux_logits"][head], labels)
        else:
            total = ((output - target) ** 2).mean()
        return total, state.get("batch_stats", {})

    step = jax.jit(jax.grad(loss_here, has_aux=True))
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), variables)
        gradients, statistics = jax.device_get(step(variables["params"], variables["batch_stats"]))
    gradients = port.to_state_dict(name, {"params": gradients}, **case.options)
    expected = {key: value.grad.numpy() for key, value in net.named_parameters()}
    norm = np.linalg.norm
    floor = 1e-3 * max(norm(value) for value in expected.values())
    by_name = {key: float(norm(gradients[key] - value) / max(norm(value), floor)) for key, value in expected.items()}
    statistics = port.to_state_dict(name, {"batch_stats": statistics}, **case.options)
    buffers = {key: value.numpy() for key, value in net.named_buffers() if "running" in key}
    moved = [float(np.abs(statistics[key] - value).max() / np.abs(value).max()) for key, value in buffers.items()]
    return max(by_name.values()), max(moved, default=None)


def _cross_entropy(logits: jax.Array, labels: np.ndarray) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Porting there and back gives the very state dict, names and bits."""
    assert set(found) == set(expected), set(found) ^ set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and np.array_equal(found[key], value), key

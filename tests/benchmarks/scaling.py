"""No cliffs: time per image against batch, image side and width, plain XLA against ours against PyTorch, as a picture.

    python -m tests.benchmarks.scaling [--rounds 12] [--picture configs/results/cpu_scaling.png] [--json FILE]

Value and gradient of the mean square of the output, without an optimizer, for ResNet-18 and for the DCGAN's
discriminator of its generator. The points of a panel are measured in turn, so that a slow minute of the machine meets
all of them; each is the shortest step of all rounds. Plain XLA takes part in the first rounds only, and a plain step of
more than 10 s ends its curve. The work of a step is the floating-point operations that XLA counts in the plain one.
Picture and JSON are written after each panel; `doubling` in the JSON is the largest factor of time for twice the work
from one point to the next one. Nothing else may run on the machine.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax import numpy as jnp
from torch import nn

from tests.benchmarks.plain import plain_formulations
from tests.parity import references
from vision_jax import allocator, memory, models

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WIDTHS = (8, 16, 32, 64, 128)
PLAIN_ROUNDS = 3
PLAIN_LIMIT = 10.0  # Seconds
BURST = 0.1  # Seconds

Step = Callable[[], Any]
Curves = dict[str, dict[int, float]]  # Side -> point -> seconds


@dataclasses.dataclass(frozen=True)
class Panel:
    """One axis along which the work of a step grows.

    Attributes:
      title: of the panel; what follows the colon names the axis.
      points: on the axis.
      build: from a point to its steps.
      images: of a point's step.
    """

    title: str
    points: tuple[int, ...]
    build: Callable[[int], "Point"]
    images: Callable[[int], int]


@dataclasses.dataclass(frozen=True)
class Point:
    """What one point of a panel compares: the step of each side, and its floating-point operations."""

    steps: dict[str, Step]
    operations: float


def _burst(step: Step) -> float:
    """Shortest of the steps that fit into a burst, one at least."""
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < BURST or best == float("inf"):
        start = time.perf_counter()
        jax.block_until_ready(step())
        best = min(best, time.perf_counter() - start)
    return best


def _ours(networks: tuple[str, ...], x: np.ndarray, **options: Any) -> Point:
    """Compiled value and gradient of the networks one after the other, in both formulations."""
    built = [models.build(name, **options) for name in networks]
    x = jnp.asarray(x)

    def initialize(key: jax.Array) -> list[Any]:
        variables, y = [], x[:1]
        for model in built:
            variables.append(model.init(key, y, train=False))
            y = model.apply(variables[-1], y, train=False)
        return variables

    def loss(params: list[Any], rest: list[Any], x: jax.Array) -> jax.Array:
        for model, own, others in zip(built, params, rest, strict=True):
            x, _ = model.apply({"params": own, **others}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(x**2)

    variables = jax.jit(initialize)(jax.random.key(0))
    params = [v["params"] for v in variables]
    rest = [{key: value for key, value in v.items() if key != "params"} for v in variables]
    steps = {}
    for side, formulations in (("ours", contextlib.nullcontext), ("plain XLA", plain_formulations)):
        with formulations():
            jax.clear_caches()
            lowered = jax.jit(jax.value_and_grad(loss)).lower(params, rest, x)
            steps[side] = functools.partial(lowered.compile(), params, rest, x)
    return Point(steps, lowered.cost_analysis()["flops"])


def _torch(net: nn.Module, x: np.ndarray, layout: torch.memory_format) -> Step:
    net = net.train().to(memory_format=layout)
    images = torch.from_numpy(x)
    if x.ndim == 4:
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        (net(images) ** 2).mean().backward()

    return step


def _point(networks: tuple[str, ...], make: Callable[[], nn.Module], shape: tuple[int, ...], **options: Any) -> Point:
    """Steps on an input of the shape."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours = _ours(networks, x, **options)
    layouts = {"PyTorch": torch.contiguous_format, "PyTorch, channels last": torch.channels_last}
    return Point({side: _torch(make(), x, layout) for side, layout in layouts.items()} | ours.steps, ours.operations)


def _resnet(batch: int = 8, side: int = 64, width: int = 64) -> Point:
    return _point(
        ("resnet18",), lambda: references.resnet18_of_width(width), (batch, side, side, 3), num_classes=10, width=width
    )


def _dcgan(batch: int = 64, side: int = 32, width: int = 32) -> Point:
    ups = int(np.log2(side)) - 2

    def make() -> nn.Module:
        return nn.Sequential(references.DCGANGenerator(ups, width), references.DCGANDiscriminator(ups, width))

    networks = ("dcgan_generator", "dcgan_discriminator")
    return _point(networks, make, (batch, 100), image_size=side, width=width)


PANELS = (
    Panel("ResNet-18, 64 px: batch", BATCHES, lambda n: _resnet(batch=n), lambda n: n),
    Panel("ResNet-18, batch 8: image side", (8, 16, 32, 64, 128, 256), lambda n: _resnet(side=n), lambda n: 8),
    Panel("ResNet-18, batch 8, 64 px: width", WIDTHS, lambda n: _resnet(width=n), lambda n: 8),
    Panel("DCGAN, 32 px: batch", BATCHES, lambda n: _dcgan(batch=n), lambda n: n),
    Panel("DCGAN, batch 64: image side", (8, 16, 32), lambda n: _dcgan(side=n), lambda n: 64),
    Panel("DCGAN, batch 64, 32 px: width", WIDTHS, lambda n: _dcgan(width=n), lambda n: 64),
)


def measure(points: dict[int, Point], rounds: int) -> Curves:
    """Seconds of a step of each side at each point; of PyTorch's layouts the better one at each point."""
    curves: Curves = {side: {} for side in next(iter(points.values())).steps}
    for point in points.values():  # Not counted: first runs allocate.
        for side, step in point.steps.items():
            if side != "plain XLA":
                jax.block_until_ready(step())
    for number in range(rounds):
        for at, point in points.items():
            for side, step in point.steps.items():
                curve = curves[side]
                if side == "plain XLA" and (number >= PLAIN_ROUNDS or max(curve.values(), default=0) > PLAIN_LIMIT):
                    continue
                curve[at] = min(curve.get(at, float("inf")), _burst(step))
    last = curves.pop("PyTorch, channels last")
    curves["PyTorch"] = {at: min(seconds, last[at]) for at, seconds in curves["PyTorch"].items()}
    return curves


def largest_doubling(curve: dict[int, float], operations: dict[int, float]) -> float:
    """The largest factor of time that twice the work costs from one point to the next one."""
    return max(
        float((curve[high] / curve[low]) ** (1 / np.log2(operations[high] / operations[low])))
        for low, high in itertools.pairwise(curve)
    )


def draw(results: list[tuple[Panel, Curves]], path: pathlib.Path) -> None:
    """A row of three panels for each network, logarithmic on both axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10, 6.2), layout="constrained")
    styles = {"plain XLA": ("tab:orange", "s--"), "PyTorch": ("tab:gray", "^:"), "ours": ("tab:blue", "o-")}
    for axis, (panel, curves) in zip(axes.flat, results, strict=False):
        for side, (color, marker) in styles.items():
            per_image = [seconds * 1e3 / panel.images(at) for at, seconds in curves[side].items()]
            axis.plot(list(curves[side]), per_image, marker, color=color, label=side, markersize=4)
        axis.set(xscale="log", yscale="log", title=panel.title, xlabel=panel.title.split(": ")[1])
        axis.set_xticks(panel.points, [str(at) for at in panel.points])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.title.set_fontsize(9)
    for axis in axes[:, 0]:
        axis.set_ylabel("ms per image, value and gradient")
    axes[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    """Measures, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--picture", type=pathlib.Path, default=pathlib.Path("configs/results/cpu_scaling.png"))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    allocator.start("tests.benchmarks.scaling")  # As `vision_jax.main` does; PyTorch's buffers are kept too.
    memory.keep_freed_memory()
    results, record = [], {}
    for panel in PANELS:
        points = {at: panel.build(at) for at in panel.points}
        operations = {at: point.operations for at, point in points.items()}
        curves = measure(points, options.rounds)
        results.append((panel, curves))
        record[panel.title] = {"operations": operations, "seconds": curves, "doubling": {}}
        print(panel.title)
        for side, curve in curves.items():
            doubling = record[panel.title]["doubling"][side] = largest_doubling(curve, operations)
            print(f"  {side}, ms per step:", {at: round(seconds * 1e3, 2) for at, seconds in curve.items()})
            print(f"  {side}, largest factor for twice the work: {doubling:.2f}", flush=True)
        draw(results, options.picture)
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""No cliffs: time per image against batch, image size and width, plain XLA against ours against PyTorch, as a picture.

    python -m tests.benchmarks.scaling [--picture configs/results/cpu_scaling.png] [--json FILE] [--seconds 0.6]

Value and gradient of the mean square of the output, without an optimiser, for ResNet-18 and for the DCGAN's
discriminator of its generator. Each point is the best of the repetitions within `--seconds`; a plain point that takes
longer than 10 s ends its curve. `steps` in the JSON holds the largest factor of a doubling.
"""

import argparse
import contextlib
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
from vision_jax import memory, models

LIMIT = 10.0
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = (8, 16, 32, 64, 128, 256)
WIDTHS = (8, 16, 32, 64, 128)


_DCGAN = ("dcgan_generator", "dcgan_discriminator")


def _dcgan(width: int) -> nn.Module:
    return nn.Sequential(references.DCGANGenerator(3, width), references.DCGANDiscriminator(3, width))


def _best(step: Callable[[], Any], seconds: float) -> float:
    """Shortest of the repetitions that fit, after one that is not counted unless it is slow by itself."""
    began = time.perf_counter()
    jax.block_until_ready(step())
    best = time.perf_counter() - began
    if best > LIMIT:
        return best
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds or best == float("inf"):
        start = time.perf_counter()
        jax.block_until_ready(step())
        best = min(best, time.perf_counter() - start)
    return best


def _ours(networks: tuple[str, ...], x: np.ndarray, plain: bool, **options: Any) -> Callable[[], Any]:
    """Compiled value and gradient of the networks one after the other."""
    built = [models.build(name, **options) for name in networks]
    x = jnp.asarray(x)

    def initialise(key: jax.Array) -> list[Any]:
        variables, y = [], x[:1]
        for model in built:
            variables.append(model.init(key, y, train=False))
            y = model.apply(variables[-1], y, train=False)
        return variables

    def loss(params: list[Any], rest: list[Any], x: jax.Array) -> jax.Array:
        for model, own, others in zip(built, params, rest, strict=True):
            x, _ = model.apply({"params": own, **others}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(x**2)

    variables = jax.jit(initialise)(jax.random.key(0))
    params = [v["params"] for v in variables]
    rest = [{key: value for key, value in v.items() if key != "params"} for v in variables]
    with plain_formulations() if plain else contextlib.nullcontext():
        jax.clear_caches()
        program = jax.jit(jax.value_and_grad(loss)).lower(params, rest, x).compile()
    return lambda: program(params, rest, x)


def _torch(net: nn.Module, x: np.ndarray) -> Callable[[], Any]:
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))

    def step() -> None:
        net.zero_grad(set_to_none=True)
        (net(x) ** 2).mean().backward()

    return step


def _point(
    networks: tuple[str, ...], make: Callable[[], nn.Module], batch: int, size: int, seconds: float, **options: Any
) -> dict[str, float]:
    """Seconds of plain, ours and PyTorch at one point."""
    shape = (batch, 100) if networks[0].endswith("generator") else (batch, size, size, 3)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layouts = (torch.contiguous_format, torch.channels_last)
    return {
        "PyTorch": min(_best(_torch(make().train().to(memory_format=layout), x), seconds) for layout in layouts),
        "ours": _best(_ours(networks, x, False, **options), seconds),
        "plain XLA": _best(_ours(networks, x, True, **options), seconds),
    }


def curves(seconds: float) -> dict[str, dict[int, dict[str, float]]]:
    """Title of each panel -> point -> side -> seconds per image."""
    resnet = references.from_torchvision("resnet18")
    result: dict[str, dict[int, dict[str, float]]] = {}

    def panel(title: str, points: tuple[int, ...], measure: Callable[[int], tuple[dict, int]]) -> None:
        result[title] = {}
        ended: set[str] = set()
        for point in points:
            times, batch = measure(point)
            result[title][point] = {k: v / batch for k, v in times.items() if k not in ended}
            ended |= {k for k, v in times.items() if v > LIMIT}
            print(title, point, {k: f"{v * 1e3:.2f} ms" for k, v in result[title][point].items()}, flush=True)

    panel("ResNet-18, 64 px: batch", BATCHES,
          lambda n: (_point(("resnet18",), resnet, n, 64, seconds, num_classes=10), n))
    panel("ResNet-18, batch 8: image side", SIZES,
          lambda s: (_point(("resnet18",), resnet, 8, s, seconds, num_classes=10), 8))
    panel("DCGAN: batch", BATCHES, lambda n: (_point(_DCGAN, lambda: _dcgan(32), n, 32, seconds), n))
    panel("DCGAN, batch 64: width", WIDTHS,
          lambda w: (_point(_DCGAN, lambda: _dcgan(w), 64, 32, seconds, width=w), 64))
    return result


def doublings(result: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Panel -> side -> the largest factor that doubling the work of an image or batch costs, per doubling."""
    steps: dict[str, dict[str, float]] = {}
    for title, points in result.items():
        steps[title] = {}
        pairs = list(zip(sorted(points), sorted(points)[1:], strict=False))
        for side in ("ours", "plain XLA", "PyTorch"):
            factors = []
            for low, high in pairs:
                if side not in points[high]:
                    continue
                total = points[high][side] / points[low][side]
                work = high / low
                if "batch" in title.split(":")[-1]:
                    total *= work
                elif "side" in title:
                    work **= 2
                elif "width" in title:
                    work **= 2
                factors.append(total ** (1 / np.log2(work)))
            steps[title][side] = float(max(factors, default=float("nan")))
    return steps


def draw(result: dict[str, dict[int, dict[str, float]]], path: pathlib.Path) -> None:
    """Four panels, logarithmic on both axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(result), figsize=(3.3 * len(result), 3.1), layout="constrained")
    styles = {"plain XLA": ("tab:orange", "s--"), "PyTorch": ("tab:gray", "^:"), "ours": ("tab:blue", "o-")}
    for axis, (title, points) in zip(axes, result.items(), strict=True):
        for side, (color, marker) in styles.items():
            xs = [point for point in points if side in points[point]]
            axis.plot(xs, [points[p][side] * 1e3 for p in xs], marker, color=color, label=side, markersize=4)
        axis.set(xscale="log", yscale="log", title=title, xlabel=title.split(": ")[1])
        axis.set_xticks(list(points), [str(p) for p in points])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.title.set_fontsize(9)
    axes[0].set_ylabel("ms per image, value and gradient")
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measures, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=pathlib.Path, default=pathlib.Path("configs/results/cpu_scaling.png"))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=0.6)
    options = parser.parse_args()
    memory.keep_freed()  # As `vision_jax.main` does; PyTorch's buffers are kept too.
    result = curves(options.seconds)
    steps = doublings(result)
    for title, sides in steps.items():
        print(title, "largest factor per doubling of the work:", {k: f"{v:.2f}" for k, v in sides.items()})
    draw(result, options.picture)
    if options.json:
        options.json.write_text(json.dumps({"seconds_per_image": result, "steps": steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()

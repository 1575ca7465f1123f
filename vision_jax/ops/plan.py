"""Which formulation computes which convolution on a CPU, from the shapes alone.

`choose_beside_onednn` is the whole policy where oneDNN may be called; its figures are milliseconds on two cores of an
AVX-512 machine (Zen 4), oneDNN first. `choose` is the one elsewhere; its figures are CPU milliseconds on one core of an
AVX2 machine (Zen 3), XLA's own convolution first. README.md tells what was tried and left out.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import numpy as jnp

from vision_jax.ops import bands, chunks, onednn, winograd
from vision_jax.ops import formulas as f
from vision_jax.ops.geometry import Geometry

Formulation = Callable[[Geometry, jax.Array, jax.Array], jax.Array]

# What a formulation may spread out in memory at a time: a quarter of a common last-level cache.
CHUNK_BYTES = 8 << 20

FORWARD: dict[str, Formulation] = {
    "plain": f.forward_plain,
    "onednn": partial(onednn.convolve, "forward"),
    "dense": f.forward_dense,
    "taps": f.forward_taps,
    "rows": f.forward_rows,
    "band": bands.forward_band,
    "winograd": winograd.forward_winograd,
    "depthwise": f.forward_depthwise,
}
INPUT: dict[str, Formulation] = {
    "plain": f.input_plain,
    "onednn": partial(onednn.convolve, "input"),
    "dense": f.input_dense,
    "taps": f.input_taps,
    "by_plain": partial(f.input_by, f.forward_plain),
    "by_band": partial(f.input_by, bands.forward_band),
    "by_winograd": partial(f.input_by, winograd.forward_winograd),
    "by_depthwise": partial(f.input_by, f.forward_depthwise),
    "phases_taps": partial(f.input_phases, f.forward_taps),
    "phases_band": partial(f.input_phases, bands.forward_band),
}
WEIGHT: dict[str, Formulation] = {
    "plain": f.weight_plain,
    "onednn": partial(onednn.convolve, "weight"),
    "dense": f.weight_dense,
    "taps": f.weight_taps,
    "rows": f.weight_rows,
    "band": bands.weight_band,
    "swapped_band": partial(f.weight_swapped, bands.weight_band),
    "winograd": winograd.weight_winograd,
    "depthwise": f.weight_depthwise,
}
FORMULATIONS = {"forward": FORWARD, "input": INPUT, "weight": WEIGHT}


def applies(kind: str, name: str, g: Geometry, c: int, o: int) -> bool:
    """Whether formulation `name` of `kind` can compute convolutions of geometry `g` from c to o channels."""
    if name == "plain":
        return True
    if name == "onednn":
        return onednn.available()
    prefix, _, base = name.rpartition("_")
    if prefix in ("by", "swapped") and g.transposed() is None:
        return False
    if prefix == "swapped" and g.strides != (1, 1):
        return False
    if prefix == "phases":
        return max(g.strides) > 1 and f.phases(g) is not None
    if base == "plain":
        return True
    if base == "depthwise":
        return g.groups == c == o
    if g.groups != 1:
        return False
    if base == "dense":
        return g.kernel == g.image and g.dilation == (1, 1) and g.pads == ((0, 0), (0, 0))
    if base == "band":
        return g.dilation == (1, 1)
    if base == "winograd":
        return g.kernel == (3, 3) and g.dilation == (1, 1) and g.strides == (1, 1)
    return True


def choose_beside_onednn(kind: str, g: Geometry, c: int, o: int) -> str:
    """The formulation of `kind` where oneDNN may be called: oneDNN, but for these few."""
    can = partial(applies, kind, g=g, c=c, o=o)
    if g.groups > 1:
        return "onednn"
    if can("dense"):
        return "dense"
    taps = g.kernel[0] * g.kernel[1]
    pixels = min(g.image[0] * g.image[1], g.out[0] * g.out[1])
    # Little more than the kernel to read: 8.1 -> 4.6 (3x3, 512 channels on 2x2), 0.7 -> 0.6 (1x1, 256 to 512 on 4x4).
    if pixels <= (16 if taps == 1 else 4) and min(c, o) >= 32:
        return "taps"
    # Few outputs leave oneDNN's vectors empty, XLA's not: 7.2 -> 5.5 (5x5, 32 to 3), 46 -> 17 (9x9, back to 3).
    if kind == "forward" and o <= 4 and c >= 16:
        return "plain"
    if kind == "input" and c <= 4 and o >= 16:
        if can("phases_taps") and all(k % s == 0 for k, s in zip(g.kernel, g.strides, strict=True)):
            return "phases_taps"  # 1.6 -> 0.8 (4x4, stride 2, 3 channels).
        if g.strides == (1, 1) and can("by_plain"):
            return "by_plain"
    return "onednn"


def choose(kind: str, g: Geometry, c: int, o: int) -> str:
    """The formulation of `kind` for a convolution of geometry `g` from c to o channels."""
    can = partial(applies, kind, g=g, c=c, o=o)
    taps = g.kernel[0] * g.kernel[1]
    if g.groups > 1:
        # Depthwise: 87 -> 2.4 forward, 105 -> 2.1 for the input gradient (96 channels, 48 px). Other grouped
        # convolutions stay with XLA: batched products are slower still.
        name = "by_depthwise" if kind == "input" else "depthwise"
        return name if can(name) else "plain"
    if can("dense"):
        return "dense"
    if taps == 1:
        return "taps"  # A matrix product as it stands; weight gradient 6.2 -> 1.0.
    # On maps hardly larger than the kernel XLA swaps image and kernel and falls off its fast path (800 -> 8 with 512
    # channels on 2x2), and most products would be with padding.
    if min(g.image[0] * g.image[1], g.out[0] * g.out[1]) <= 2 * taps <= 50 and min(c, o) >= 16:
        return "taps"
    pays = min(c, o) >= 32  # The transforms' additions against the products saved.
    if kind == "forward":
        if can("winograd") and pays:
            return "winograd"  # 16.2 -> 5.7 (64 channels, 16 px).
        return "band" if c <= 4 and o <= 16 and can("band") else "plain"  # 10.8 -> 3.5 (3 to 8 channels).
    if kind == "input":
        if can("by_winograd") and pays:
            return "by_winograd"  # 17.7 -> 5.4.
        if can("phases_taps") and all(k % s == 0 for k, s in zip(g.kernel, g.strides, strict=True)):
            return "phases_taps"  # 15.7 -> 3.7 (4x4, stride 2), where no phase lacks a tap.
        return "by_plain" if max(g.strides) == 1 and can("by_plain") else "plain"
    if can("winograd") and pays:
        return "winograd"  # 178 -> 35 (32 channels, 32 px).
    if o <= 8 and o < c and can("swapped_band"):
        return "swapped_band"  # 125 -> 1.9 (5x5, 32 to 3 channels).
    if c <= 8 and can("band"):
        return "band"  # 151 -> 42 as rows, then 9.4 -> 8.2 (7x7 of 3 channels, half the size).
    return "taps" if taps <= 9 else "plain"  # 10.3 -> 6.8 (3x3, stride 2); 7.0 against 9.4 the other way for 4x4.


def _spread_bytes(kind: str, name: str, g: Geometry, c: int, o: int) -> int:
    """Bytes per image that the formulation writes besides its result (4 a value); 0 where it is not worth a loop."""
    base = name.rpartition("_")[2]
    if base == "winograd":
        height, width = g.image if kind == "input" else g.out
        return 4 * 16 * -(-height // 2) * -(-width // 2) * (c + o)
    if base == "band" and kind == "weight":
        return 4 * g.out[0] * g.out[1] * (o if name.startswith("swapped") else c) * g.kernel[0] * g.kernel[1]
    if base == "depthwise" and kind == "weight":
        return 8 * g.out[0] * g.out[1] * c * g.kernel[0] * g.kernel[1]  # 66 -> 12 (96 channels, 48 px).
    return 0


def compute(kind: str, g: Geometry, a: jax.Array, b: jax.Array, one_device: bool = False) -> jax.Array:
    """`kind` of the convolution of geometry `g` by the chosen formulation; `one_device` if the program runs on one."""
    plain = FORMULATIONS[kind]["plain"]
    if a.dtype not in (jnp.float32, jnp.float64, jnp.bfloat16) or 0 in (*a.shape, *b.shape, *g.out):
        return plain(g, a, b)
    c, o = (b.shape[2] * g.groups, a.shape[3]) if kind == "input" else (a.shape[3], b.shape[3])
    beside_onednn = one_device and a.dtype != jnp.float64 and onednn.available()
    name = (choose_beside_onednn if beside_onednn else choose)(kind, g, c, o)
    if a.dtype == jnp.bfloat16 and not (name == "onednn" and onednn.takes_bfloat16()):
        wide = compute(kind, g, a.astype(jnp.float32), b.astype(jnp.float32), one_device)
        return wide.astype(jnp.bfloat16)
    formulation = FORMULATIONS[kind][name]
    spread, n = _spread_bytes(kind, name, g, c, o), a.shape[0]
    if n * spread > 2 * CHUNK_BYTES:
        images = chunks.divisor(n, CHUNK_BYTES // spread)
        if images < n:
            in_chunks = chunks.sum_over_images if kind == "weight" else chunks.images_at_a_time
            return in_chunks(formulation, images, g, a, b)
    return formulation(g, a, b)

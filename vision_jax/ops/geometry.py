"""The static description of a two-dimensional convolution, and the padding arithmetic of its two gradients."""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from jax import lax

Pair = tuple[int, int]
T = TypeVar("T")


def pair(items: Iterable[T]) -> tuple[T, T]:
    """The two items, one for height and one for width."""
    first, second = items
    return first, second


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Everything about a convolution [N,H,W,C] * [h,w,C/groups,O] -> [N,H',W',O] that is not in the operands' values.

    `pads` are ((top, bottom), (left, right)) and may not be negative; `dilation` spreads the kernel's taps.
    """

    image: Pair
    kernel: Pair
    strides: Pair
    pads: tuple[Pair, Pair]
    dilation: Pair = (1, 1)
    groups: int = 1
    precision: lax.PrecisionLike = None

    @property
    def span(self) -> Pair:
        """Pixels from a kernel's first tap to its last, both included."""
        (h, w), (dh, dw) = self.kernel, self.dilation
        return (h - 1) * dh + 1, (w - 1) * dw + 1

    @property
    def out(self) -> Pair:
        """Height and width of the result."""
        h, w = (
            max((n + lo + hi - span) // s + 1, 0)
            for n, (lo, hi), span, s in zip(self.image, self.pads, self.span, self.strides, strict=True)
        )
        return h, w

    @property
    def taps(self) -> list[Pair]:
        """Indices of the kernel's positions, row by row."""
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    def transposed(self) -> "Geometry | None":
        """The stride-1 convolution that takes the spread output gradient to the input gradient.

        Its image is the output with stride - 1 zeros between neighbors. None where it would need negative padding.
        """
        spread, pads = [], []
        for n, (lo, _), span, s, out in zip(self.image, self.pads, self.span, self.strides, self.out, strict=True):
            length = (out - 1) * s + 1
            before = span - 1 - lo
            after = n + span - 1 - length - before
            if before < 0 or after < 0:
                return None
            spread.append(length)
            pads.append((before, after))
        return dataclasses.replace(self, image=pair(spread), strides=(1, 1), pads=pair(pads))

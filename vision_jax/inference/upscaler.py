"""The super-resolution network of a run, ready to enlarge pictures of any size."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import models
from vision_jax.models import network_options
from vision_jax.models.upscaler import Upscaler
from vision_jax.ops import resize
from vision_jax.pretrained.runs import open_run
from vision_jax.tasks import base, upscaling

TILE = 256  # Side in low resolution; a tile of SRCNN's x4 takes about 300 MB in its first layer.


@dataclasses.dataclass(frozen=True)
class ImageUpscaler:
    """A network with what enlarging pictures takes.

    Attributes:
        name: what it is, for people.
        model: the network, in the form in which it is used.
        variables: its parameters (averaged where the run averages).
        luma: whether it restores the luma of RGB; gray pictures are then brought to luma's range and back.
    """

    name: str
    model: Upscaler
    variables: Mapping[str, Any]
    luma: bool = False

    @property
    def scale(self) -> int:
        """How many times as large the network makes pictures."""
        return self.model.scale

    def __call__(
        self,
        image: np.ndarray,
        scale: float | None = None,
        *,
        tile: int = TILE,
        seen: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Enlarges one picture, tile by tile where it is larger than one; the tiles leave no trace.

        A tile holds so much of the picture around what is kept of it that the network sees nothing else: the result is,
        but for the last digits of its sums, that of the whole picture at once.

        Args:
            image: uint8 [H, W, 1 or 3]: gray or RGB.
            scale: how many times as large the result is; None is the network's. For others the network is applied until
                the picture is large enough, which is then reduced by antialiased bicubic interpolation.
            tile: side of a tile in pixels, of what the network sees before it enlarges.
            seen: told after each tile how many are done, and of how many, at the present size.

        Returns:
            uint8 [round(H * scale), round(W * scale), the same channels].

        Raises:
            ValueError: another type or shape, a scale of 1 or less, or tiles too small for what the network looks at.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
            raise ValueError(f"A picture is uint8 [H, W, 1 or 3]; found {image.dtype} {list(image.shape)}.")
        wanted = self.scale if scale is None else scale
        if wanted <= 1:
            raise ValueError(f"The scale is {wanted:g}; it has to be above 1.")
        size = round(image.shape[0] * wanted), round(image.shape[1] * wanted)
        gray = image.shape[2] == 1
        result = image.repeat(3, axis=2) if gray and self.model.channels == 3 else image
        made = 1
        while made < wanted:
            result, made = self._enlarged(result, tile, seen), made * self.scale
        if result.shape[:2] != size:
            reduced = resize.resize_on_host(result, size, upscaling.METHOD)
            result = np.round(np.clip(reduced, 0.0, 255.0)).astype(np.uint8)
        if gray and result.shape[2] == 3:
            result = np.round(result.mean(2, keepdims=True)).astype(np.uint8)
        return result

    def _enlarged(self, image: np.ndarray, tile: int, seen: Callable[[int, int], None] | None) -> np.ndarray:
        margin, scale = upscaling.margin(self.model), self.scale
        spans = [list(_spans(n, tile, margin)) for n in image.shape[:2]]
        whole = np.empty((image.shape[0] * scale, image.shape[1] * scale, image.shape[2]), np.uint8)
        tiles = list(itertools.product(*spans))
        for number, (rows, columns) in enumerate(tiles, 1):
            part = image[rows.start : rows.end, columns.start : columns.end]
            restored = np.asarray(self._program(part[None]))[0]
            inside = restored[rows.inside(scale), columns.inside(scale)]
            whole[rows.kept(scale), columns.kept(scale)] = inside
            if seen is not None:
                seen(number, len(tiles))
        return whole

    @functools.cached_property
    def _program(self) -> Callable[[np.ndarray], jax.Array]:
        """uint8 [1, h, w, C] -> uint8 [1, h * scale, w * scale, C]; compiled once for each size."""

        @jax.jit
        def enlarge(variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
            low = base.to_unit(images)
            if low.shape[-1] == 3:
                return base.to_bytes(upscaling.restore_rgb(self.model, variables, low))
            if self.luma:  # Gray is luma but for its range.
                luma = upscaling.restore(self.model, variables, (16.0 + 219.0 * low) / 255.0)
                return base.to_bytes((255.0 * luma - 16.0) / 219.0)
            return base.to_bytes(upscaling.restore(self.model, variables, low))

        return functools.partial(enlarge, jax.device_put(self.variables))


@dataclasses.dataclass(frozen=True)
class _Span:
    """A tile along one axis, in pixels of the low resolution.

    Attributes:
        start, end: what the network sees.
        first, last: what of its result is kept.
    """

    start: int
    end: int
    first: int
    last: int

    def inside(self, scale: int) -> slice:
        """What is kept, in the tile's result."""
        return slice((self.first - self.start) * scale, (self.last - self.start) * scale)

    def kept(self, scale: int) -> slice:
        """What is kept, in the whole result."""
        return slice(self.first * scale, self.last * scale)


def _spans(n: int, tile: int, margin: int) -> Iterator[_Span]:
    """Yields tiles of one size that cover `n` pixels, each keeping what lies `margin` pixels from its inner sides."""
    size = min(tile, n)
    if size < n and size <= 2 * margin:
        raise ValueError(
            f"Tiles of {tile} pixels are too small, since the network looks {margin} pixels around; make them "
            f"{4 * margin} or more."
        )
    step = size - 2 * margin
    starts = [*range(0, n - size, max(step, 1)), n - size]
    ends = [start + margin for start in starts[1:]] + [n]
    first = 0
    for start, last in zip(starts, ends, strict=True):
        yield _Span(start, start + size, first, last)
        first = last


def upscaler_of_run(workdir: pathlib.Path, step: int | str = "best") -> ImageUpscaler:
    """Returns the network that a run has trained; see `open_run`.

    Raises:
        CheckpointError: as `open_run`.
        ValueError: the run trained something else.
    """
    trained = open_run(workdir, step, "super_resolution")
    config = trained.config
    options, channels = config.super_resolution, trained.image_shape[2]
    luma = options.channels == "y" and channels == 3
    name = config.model.name
    model = models.build(
        name,
        channels=1 if luma else channels,
        scale=options.scale,
        dtype=jnp.dtype(config.train.dtype),
        **network_options.given(config.model, name),
    )
    assert isinstance(model, Upscaler)  # Or it had not trained.
    deployed, variables = model.deployed(trained.variables["model"])
    variables = jax.tree.map(np.asarray, variables)
    described = f"{name} of {workdir}, step {trained.step}, x{options.scale}"
    return ImageUpscaler(described, deployed, variables, luma=luma)

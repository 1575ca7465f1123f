"""What the networks of super-resolution share: what they see, how far they look, and the last step of most of them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Array, Float

from vision_jax.models.network import Network


class Upscaler(Network):
    """Base of networks that restore images: [N,h,w,channels] in [0, 1] → float32 images, `scale` times as large.

    Convolutions keep the size by zero padding, so that the outermost `context` pixels of an input are restored from
    less than the others; whoever wants them like the others surrounds the image first.

    Those that `sees_enlarged` take images that bicubic interpolation has enlarged already, and keep their size.
    """

    set_by_task: ClassVar[tuple[str, ...]] = ("channels", "scale")
    sees_enlarged: ClassVar[bool] = False

    channels: int = 3
    scale: int = 2

    @property
    def context(self) -> int:
        """Pixels of the input on each side that the restoration of a pixel depends on."""
        raise NotImplementedError

    def deployed(self, variables: Mapping[str, Any]) -> "tuple[Upscaler, Mapping[str, Any]]":
        """The network in the form in which it is used, with its variables: the same unless it trains in another."""
        return self, variables


def pixel_shuffle(x: Float[Array, "n h w c"], scale: int) -> Float[Array, "n h2 w2 c2"]:
    """[N,h,w,C·scale²] → [N,h·scale,w·scale,C], channels in the order of `torch.nn.PixelShuffle`: (C, row, column)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, c // scale**2, scale, scale)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, h * scale, w * scale, c // scale**2)

"""What a step does with every parameter once its gradient is known, in one pass over memory.

XLA's CPU compiler makes three functions of Adam's three results, each of which reads its operands anew, and writes the
squares of a gradient to memory before it sums them. In float32 programs for one CPU device `native/updates.cc` does
both.
"""

import jax
from jax import numpy as jnp
from jax.extend.core import Primitive
from jaxtyping import Array, Float

from vision_jax.ops import native
from vision_jax.ops.foreign import Foreign, define, promoted


def available() -> bool:
    """Whether the compiled functions can be used; the first call compiles, loads and registers them."""
    return native.available("Adam and norms", _load)


def _load() -> None:
    native.register(["VisionJaxAdam", "VisionJaxSquareSum"], native.FOLDER / "updates.cc")


def adam(
    gradient: Float[Array, "*shape"],
    mean: Float[Array, "*shape"],
    square: Float[Array, "*shape"],
    corrections: Float[Array, " 2"],
    *,
    b1: float,
    b2: float,
    eps: float,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Adam's update of one parameter before the learning rate, and its new moments (Kingma & Ba 2015, algorithm 1).

    Args:
        gradient: of the parameter.
        mean: first moment.
        square: second moment.
        corrections: 1 - b1^t and 1 - b2^t at step t, of the moments' type.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
    """
    update, mean, square = _adam_p.bind(gradient, mean, square, corrections, b1=b1, b2=b2, eps=eps)
    return update, mean, square


def square_sum(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Sum of the squares of all elements."""
    return _square_sum_p.bind(x)


def _adam(
    gradient: jax.Array, mean: jax.Array, square: jax.Array, corrections: jax.Array, *, b1: float, b2: float, eps: float
) -> list[jax.Array]:
    mean = b1 * mean + (1.0 - b1) * gradient
    square = b2 * square + (1.0 - b2) * gradient * gradient
    return [mean / corrections[0] / (jnp.sqrt(square / corrections[1]) + eps), mean, square]


def _square_sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x * x)


_adam_p = Primitive("adam")
_adam_p.multiple_results = True
_square_sum_p = Primitive("square_sum")

define(
    _adam_p,
    _adam,
    lambda gradient, mean, square, corrections, **decays: [
        promoted(gradient.shape, gradient, mean, square, corrections),
        promoted(gradient.shape, gradient, mean),
        promoted(gradient.shape, gradient, square),
    ],
    Foreign("VisionJaxAdam", available, aliases={1: 1, 2: 2}),
)
define(_square_sum_p, _square_sum, lambda x: promoted((), x), Foreign("VisionJaxSquareSum", available))

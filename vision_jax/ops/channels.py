"""What BatchNorm does over [..., C] and per channel [C], with sums that XLA's CPU compiler would make slowly.

Three sums (`native/channels.cc` in float32 programs for one CPU device, plain JAX everywhere else) and the two
elementwise maps that they are the transposes of. As primitives they are closed under differentiation, in any order and
mode, and what they sum is never written to memory: a BatchNorm keeps its input for the backward pass and nothing else.
`materialize` is for what should be written to memory.
"""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad
from jaxtyping import Array, Float, Shaped

from vision_jax.ops import native
from vision_jax.ops.foreign import Foreign, define, promoted

PerChannel = Float[Array | np.ndarray, " c"]  # Statistics and parameters may lie on the host.


def available() -> bool:
    """Whether the compiled sums can be used; the first call compiles, loads and registers them."""
    return native.available("BatchNorm's sums", _load)


def _load() -> None:
    symbols = ["VisionJaxMoments", "VisionJaxCenteredDot", "VisionJaxChannelSum", "VisionJaxSame"]
    native.register(symbols, native.FOLDER / "channels.cc")


def moments(x: Float[Array, "... c"], shift: Float[Array, " c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of each channel, in one pass.

    `shift`, a guess at the mean that gets no gradient, keeps E[x²] - E[x]² from canceling when a channel's mean is
    far from zero.
    """
    mean, variance = _moments_p.bind(x, lax.stop_gradient(shift))
    return mean, variance


def normalize(x: Float[Array, "*n c"], mean: PerChannel, scale: PerChannel, bias: PerChannel) -> Float[Array, "*n c"]:
    """(x - mean) * scale + bias, per channel."""
    # The sum of the gradient is made once for mean and bias.
    fixed = lax.stop_gradient(mean)
    shift = bias + _vanishing_shift_p.bind(mean, scale)
    return _centered_scale_p.bind(x, fixed, scale) + _spread_p.bind(shift, shape=x.shape)


def materialize(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """X as it is; on a CPU x, and its cotangent, are written to memory instead of computed again in every use.

    For values that XLA's CPU compiler would fuse into too much (an optimization barrier it takes out before it fuses).
    """
    return _materialize_p.bind(x)


# Plain JAX.


def _moments(x: jax.Array, shift: jax.Array) -> list[jax.Array]:
    axes = tuple(range(x.ndim - 1))
    shifted = x - shift
    mean = shifted.mean(axes)
    return [mean + shift, jnp.maximum((shifted * shifted).mean(axes) - mean * mean, 0.0)]


def _centered_scale(x: jax.Array, mean: jax.Array, scale: jax.Array) -> jax.Array:
    return (x - mean) * scale


def _centered_dot(x: jax.Array, mean: jax.Array, y: jax.Array) -> jax.Array:
    return ((x - mean) * y).sum(tuple(range(x.ndim - 1)))


def _sum(x: jax.Array) -> jax.Array:
    return x.sum(tuple(range(x.ndim - 1)))


def _spread(x: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(x, shape)


def _vanishing_shift(mean: jax.Array, scale: jax.Array) -> jax.Array:
    del mean
    return jnp.zeros_like(scale)


def _same(x: jax.Array) -> jax.Array:
    return x


# Primitives.

_moments_p = Primitive("channel_moments")
_moments_p.multiple_results = True
_centered_scale_p = Primitive("centered_scale")
_centered_dot_p = Primitive("centered_dot")
_sum_p = Primitive("channel_sum")
_spread_p = Primitive("channel_spread")
# (stop_gradient(mean) - mean) * scale, whose derivatives do not vanish; XLA would compute it.
_vanishing_shift_p = Primitive("vanishing_shift")
_materialize_p = Primitive("materialize")


define(
    _moments_p, _moments, lambda x, shift: [promoted(shift.shape, x, shift)] * 2, Foreign("VisionJaxMoments", available)
)
define(_centered_scale_p, _centered_scale, lambda x, mean, scale: promoted(x.shape, x, mean, scale))
define(
    _centered_dot_p,
    _centered_dot,
    lambda x, mean, y: promoted(mean.shape, x, mean, y),
    Foreign("VisionJaxCenteredDot", available),
)
define(_sum_p, _sum, lambda x: promoted(x.shape[-1:], x), Foreign("VisionJaxChannelSum", available))
define(_spread_p, _spread, lambda x, shape: promoted(shape, x))
define(_vanishing_shift_p, _vanishing_shift, lambda mean, scale: promoted(scale.shape, scale))
define(
    _materialize_p, _same, lambda x: promoted(x.shape, x), Foreign("VisionJaxSame", available, {0: 0}, any_type=True)
)


def _moments_jvp(primals, tangents):
    x, shift = primals
    mean, variance = _moments_p.bind(x, shift)
    t = ad.instantiate_zeros(tangents[0])
    n = x.size // x.shape[-1]
    return [mean, variance], [_sum_p.bind(t) / n, _centered_dot_p.bind(x, mean, t) * (2.0 / n)]


ad.primitive_jvps[_moments_p] = _moments_jvp

# (x - m) * s and sum((x - m) * y): of first degree in each operand.
ad.defjvp(
    _centered_scale_p,
    lambda t, x, m, s: _centered_scale_p.bind(t, jnp.zeros_like(m), s),
    lambda t, x, m, s: _spread_p.bind(-t * s, shape=x.shape),
    lambda t, x, m, s: _centered_scale_p.bind(x, m, t),
)
ad.defjvp(
    _centered_dot_p,
    lambda t, x, m, y: _centered_dot_p.bind(t, jnp.zeros_like(m), y),
    lambda t, x, m, y: -t * _sum_p.bind(y),
    lambda t, x, m, y: _centered_dot_p.bind(x, m, t),
)


ad.defjvp(_vanishing_shift_p, lambda t, m, s: -t * s, lambda t, m, s: _vanishing_shift_p.bind(m, t))
ad.primitive_transposes[_vanishing_shift_p] = lambda ct, m, s: (None, _vanishing_shift_p.bind(m, ct))


def _centered_scale_transpose(ct, x, m, s):
    if ad.is_undefined_primal(x):  # here m is zero
        return _centered_scale_p.bind(ct, m, s), None, None
    return None, None, _centered_dot_p.bind(x, m, ct)


def _centered_dot_transpose(ct, x, m, y):
    if ad.is_undefined_primal(x):
        return _centered_scale_p.bind(y, m, ct), None, None
    return None, None, _centered_scale_p.bind(x, m, ct)


ad.primitive_transposes[_centered_scale_p] = _centered_scale_transpose
ad.primitive_transposes[_centered_dot_p] = _centered_dot_transpose
ad.deflinear2(_sum_p, lambda ct, x: [_spread_p.bind(ct, shape=x.aval.shape)])
ad.deflinear2(_spread_p, lambda ct, x, *, shape: [_sum_p.bind(ct)])
ad.deflinear2(_materialize_p, lambda ct, x: [_materialize_p.bind(ct)])

"""Convolutions equal XLA's plain ones to rounding: every formulation, every transformation."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax import ops
from vision_jax.ops import plan
from vision_jax.ops.geometry import Geometry

NHWC = ("NHWC", "HWIO", "NHWC")


def arrays(seed, *shapes, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def assert_close(found, expected, tolerance=2e-5):
    """Within rounding of sums of products of unit variance: relative to the largest value."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.abs(a - b).max(initial=0.0) <= tolerance * max(np.abs(b).max(initial=0.0), 1.0)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution and the shapes of its operands."""

    geometry: Geometry
    batch: int
    inputs: int
    outputs: int

    @property
    def x(self):
        return (self.batch, *self.geometry.image, self.inputs)

    @property
    def w(self):
        return (*self.geometry.kernel, self.inputs // self.geometry.groups, self.outputs)

    @property
    def y(self):
        return (self.batch, *self.geometry.out, self.outputs)

    def operands(self, kind, seed=0):
        x, w, dy = arrays(seed, self.x, self.w, self.y)
        return {"forward": (x, w), "input": (dy, w), "weight": (x, dy)}[kind]

    def call(self, convolution):
        g = self.geometry
        return lambda x, w: convolution(
            x, w, g.strides, g.pads, rhs_dilation=g.dilation, dimension_numbers=NHWC, feature_group_count=g.groups
        )


@st.composite
def layers(draw):
    pair = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (1, 1), (2, 2), (4, 4), (5, 5), (1, 3), (3, 2), (7, 7)]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 4]))
    per_group, outputs_per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    geometry = Geometry(
        pair(1, 9),
        kernel,
        draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1)])),
        (pair(0, 3), pair(0, 3)),
        draw(st.sampled_from([(1, 1), (1, 1), (2, 1)])),
        groups,
    )
    assume(min(geometry.out) >= 1)
    return Layer(geometry, draw(st.integers(1, 3)), groups * per_group, groups * outputs_per_group)


@settings(max_examples=40)
@given(layers())
def test_every_formulation_equals_the_plain_one(layer):
    for kind, formulations in plan.FORMULATIONS.items():
        operands = layer.operands(kind)
        names = [n for n in formulations if plan.applies(kind, n, layer.geometry, layer.inputs, layer.outputs)]
        chosen = [functools.partial(formulations[n], layer.geometry) for n in names]
        found = jax.jit(lambda a, b, chosen=chosen: [f(a, b) for f in chosen])(*operands)
        plain = found[names.index("plain")]
        for name, value in zip(names, found, strict=True):
            try:
                assert_close(value, plain)
            except AssertionError as error:
                raise AssertionError(f"{kind} by {name}: {error}") from error


@settings(max_examples=20)
@given(layers(), st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]))
def test_value_and_both_gradients_equal_the_plain_convolution(layer, dtype):
    x, w, dy = arrays(1, layer.x, layer.w, layer.y, dtype=dtype)

    def both(convolution):
        y, vjp = jax.vjp(layer.call(convolution), x, w)
        return y, *vjp(dy)

    found, expected = jax.jit(lambda: (both(ops.conv_general_dilated), both(lax.conv_general_dilated)))()
    assert_close(found, expected, 2e-5 if dtype == jnp.float32 else 8 * float(jnp.finfo(dtype).eps))


LAYERS = {
    "3x3": Layer(Geometry((6, 5), (3, 3), (1, 1), ((1, 1), (1, 1))), 2, 3, 4),
    "winograd": Layer(Geometry((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1))), 4, 32, 32),
    "map smaller than kernel": Layer(Geometry((2, 2), (3, 3), (1, 1), ((1, 1), (1, 1))), 2, 16, 16),
    "strided": Layer(Geometry((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1))), 2, 3, 16),
    "grouped": Layer(Geometry((6, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), groups=2), 2, 4, 6),
    "depthwise": Layer(Geometry((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), groups=4), 2, 4, 4),
    "1x1": Layer(Geometry((4, 4), (1, 1), (1, 1), ((0, 0), (0, 0))), 2, 3, 4),
}
TRANSFORMATIONS = {
    "second reverse derivative": lambda f, x, w: jax.grad(
        lambda x, w: sum(jnp.sum(g**2) for g in jax.grad(f, (0, 1))(x, w)), (0, 1)
    )(x, w),
    "gradient penalty": lambda f, x, w: jax.grad(lambda w: jnp.sum(jax.grad(f)(x, w) ** 2))(w),
    "forward over reverse": lambda f, x, w: jax.jvp(jax.grad(f, (0, 1)), (x, w), (w.sum() * x, x.sum() * w))[1],
    "reverse over forward": lambda f, x, w: jax.grad(lambda w: jax.jvp(lambda x: f(x, w), (x,), (x,))[1])(w),
    "vmap over images": lambda f, x, w: jax.vmap(jax.grad(f, (0, 1)), (0, None))(jnp.stack([x, -x]), w),
    "vmap over kernels": lambda f, x, w: jax.vmap(jax.grad(f, (0, 1)), (None, 1))(x, jnp.stack([w, 2 * w], 1)),
    "vmap over both, twice": lambda f, x, w: jax.vmap(jax.vmap(jax.grad(f, (0, 1)), (0, None)))(
        jnp.stack([jnp.stack([x, -x])] * 2), jnp.stack([w, 2 * w])
    ),
    "scan": lambda f, x, w: lax.scan(lambda w, _: (w - 0.1 * jax.grad(f, 1)(x, w), f(x, w)), w, None, length=2),
    "checkpoint": lambda f, x, w: jax.grad(jax.checkpoint(f), (0, 1))(x, w),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("layer", LAYERS)
def test_transformations_equal_those_of_the_plain_convolution(layer, transformation):
    layer, transform = LAYERS[layer], TRANSFORMATIONS[transformation]
    x, w = arrays(2, layer.x, layer.w)
    w = w / np.sqrt(w[..., 0].size).astype(np.float32)

    def through(convolution):
        call = layer.call(convolution)
        return transform(lambda x, w: jnp.mean(jnp.sin(call(x, w))), x, w)

    found, expected = jax.jit(lambda: (through(ops.conv_general_dilated), through(lax.conv_general_dilated)))()
    assert_close(found, expected)


@pytest.mark.parametrize("layer", ["winograd", "map smaller than kernel", "strided"])
def test_sharded_over_the_batch_equals_one_device(layer):
    layer = dataclasses.replace(LAYERS[layer], batch=8)
    x, w = arrays(3, layer.x, layer.w)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    assert mesh.size == 4
    call = layer.call(ops.conv_general_dilated)
    value = jax.value_and_grad(lambda x, w: jnp.mean(jnp.sin(call(x, w))), (0, 1))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    found = jax.jit(value)(split, jax.device_put(w, NamedSharding(mesh, PartitionSpec())))
    assert found[1][0].sharding.is_equivalent_to(split.sharding, 4)
    assert_close(jax.device_get(found), jax.device_get(jax.jit(value)(x, w)))
    mapped = jax.shard_map(
        call, mesh=mesh, in_specs=(PartitionSpec("data"), PartitionSpec()), out_specs=PartitionSpec("data")
    )
    assert_close(jax.device_get(jax.jit(mapped)(split, w)), jax.device_get(jax.jit(call)(x, w)))


def test_eager_call_equals_jit():
    layer = LAYERS["3x3"]
    x, w = arrays(4, layer.x, layer.w)
    assert_close(layer.call(ops.conv_general_dilated)(x, w), layer.call(lax.conv_general_dilated)(x, w))


def test_other_platforms_get_xla_convolutions_and_the_cpu_does_not():
    layer = LAYERS["winograd"]
    x, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (layer.x, layer.w))
    f = jax.jit(jax.grad(lambda x, w: jnp.sum(layer.call(ops.conv_general_dilated)(x, w) ** 2), (0, 1)))
    assert f.trace(x, w).lower(lowering_platforms=("cpu",)).as_text().count("stablehlo.convolution") == 0
    for platform in ("cuda", "tpu"):
        text = f.trace(x, w).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 3 and "dot_general" not in text


def test_only_the_operands_are_kept_for_the_backward_pass():
    layer = LAYERS["winograd"]
    x, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (layer.x, layer.w))
    _, vjp = jax.eval_shape(lambda x, w: jax.vjp(layer.call(ops.conv_general_dilated), x, w), x, w)
    assert sorted(leaf.size for leaf in jax.tree.leaves(vjp)) == sorted([np.prod(layer.x), np.prod(layer.w)])


@pytest.mark.parametrize(
    "arguments",
    [
        dict(padding="SAME"),
        dict(padding="VALID"),
        dict(padding=[(-1, 1), (0, 0)]),
        dict(padding=[(1, 1), (2, 0)], lhs_dilation=(2, 2)),
        dict(padding="SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")),
        dict(padding="SAME", preferred_element_type=jnp.float32, dtype=jnp.bfloat16),
        dict(padding=[(9, 9), (0, 5)]),
        dict(padding="SAME", dtype=jnp.int32),
    ],
    ids=str,
)
def test_what_is_not_reformulated_is_passed_on(arguments):
    arguments = {"dimension_numbers": NHWC, **arguments}
    dtype = arguments.pop("dtype", jnp.float32)
    shapes = ((2, 6, 5, 3), (3, 3, 3, 4)) if arguments["dimension_numbers"] == NHWC else ((2, 3, 6, 5), (4, 3, 3, 3))
    x, w = (a.astype(dtype) for a in arrays(5, *shapes))
    found = ops.conv_general_dilated(x, w, (2, 1), **arguments)
    assert_close(found, lax.conv_general_dilated(x, w, (2, 1), **arguments), 1e-2 if dtype == jnp.bfloat16 else 2e-5)


def test_mistakes_raise_the_errors_of_jax():
    x, w = arrays(6, (2, 6, 6, 3), (3, 3, 4, 5))
    with pytest.raises(ValueError, match="feature"):
        ops.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC)
    with pytest.raises(TypeError, match=r"same dtype|requires"):
        ops.conv_general_dilated(x, w[:, :, :3].astype(jnp.bfloat16), (1, 1), "SAME", dimension_numbers=NHWC)


@settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from(["SAME", "VALID", ((1, 1), (1, 1)), ((2, 3), (0, 1))]),
)
def test_transposed_convolution_equals_the_plain_one(size, k, s, padding):
    x, w = arrays(7, (2, *size, 3), (k, k, 3, 4))
    if not isinstance(padding, str):
        assume(min((n - 1) * s + 1 + lo + hi - k + 1 for n, (lo, hi) in zip(size, padding, strict=True)) >= 1)

    def both(f):
        y, vjp = jax.vjp(lambda x, w: f(x, w, (s, s), padding), x, w)
        return y, *vjp(y)

    plain = functools.partial(lax.conv_transpose, dimension_numbers=NHWC)
    found, expected = jax.jit(lambda: (both(ops.conv_transpose), both(plain)))()
    assert_close(found, expected)

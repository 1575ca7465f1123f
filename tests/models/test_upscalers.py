"""Networks of super-resolution: published sizes, how far they look, and the light network's two forms."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax import models
from vision_jax.models import upscaler

NAMES = ("srcnn", "fsrcnn", "espcn", "light_sr")


def parameters(name, **options):
    model = models.build(name, **options)
    return models.parameter_count(models.shapes(model, (16, 16, model.channels)))


# Dong et al. 2015; with the biases, which the paper does not count.
@pytest.mark.parametrize(("kernels", "luma", "rgb"), [((9, 1, 5), 8_032, 20_000), ((9, 3, 5), 24_416, 36_384)])
def test_srcnn_has_the_published_sizes(kernels, luma, rgb):
    assert parameters("srcnn", kernel_sizes=kernels, channels=1) == luma + 64 + 32 + 1
    assert parameters("srcnn", kernel_sizes=kernels, channels=3) == rgb + 64 + 32 + 3


def test_others_have_the_published_sizes():
    assert parameters("srcnn", channels=1) == 57_184 + 64 + 32 + 1
    # 12,464 weights (Dong et al. 2016, table 1, "12464"), biases, and a slope per channel.
    channels = 56 + 12 + 4 * 12 + 56
    assert parameters("fsrcnn") == 12_464 + (channels + 1) + channels
    assert parameters("espcn") == 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4 + 64 + 32 + 4


@pytest.mark.parametrize(("scale", "depth"), [(2, 10), (3, 10), (4, 9)])
def test_the_light_network_is_deployed_with_25000_parameters_at_most(scale, depth):
    deployed = parameters("light_sr", scale=scale, depth=depth, collapsed=True)
    layers = [(1, 16), *[(16, 16)] * depth, (16, scale**2)]
    assert deployed == sum(9 * a * b + b for a, b in layers) + 16 * (depth + 1) <= 25_000


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("expansion", [0, 2])
def test_the_collapsed_network_is_the_same_function(channels, expansion):
    model = models.build("light_sr", channels=channels, features=4, depth=1, expansion=expansion)
    x = jax.random.uniform(jax.random.key(0), (2, 9, 12, channels))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    shaken = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), variables)
    deployed, params = model.deployed(shaken)
    assert {leaf for layer in params["params"].values() for leaf in layer} == {"kernel", "bias", "slope"}
    expected = model.apply(shaken, x, train=False)
    np.testing.assert_allclose(deployed.apply(params, x, train=False), expected, rtol=1e-5, atol=1e-5)
    assert deployed.deployed(params) == (deployed, params)
    assert models.build("srcnn").deployed(params)[1] is params


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_pixel_changes_what_lies_within_the_context_and_nothing_beyond(name, scale):
    options = dict(light_sr=dict(features=4, depth=3, expansion=0), fsrcnn=dict(features=4, mappings=1)).get(name, {})
    model = models.build(name, channels=1, scale=scale, **options)
    side = 2 * model.context + 5
    x = jax.random.uniform(jax.random.key(0), (1, side, side, 1))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    variables = jax.tree.map(lambda p: p + 0.05 * jax.random.normal(jax.random.key(p.size), p.shape), variables)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    middle = side // 2
    changed = np.asarray(apply(x) != apply(x.at[0, middle, middle].add(1.0)))[0, ..., 0]
    factor = 1 if model.sees_enlarged else scale
    assert changed.shape == (side * factor,) * 2
    rows = np.flatnonzero(changed.any(1)) // factor
    assert max(middle - rows.min(), rows.max() - middle) == model.context


def test_pixels_are_shuffled_as_pytorch_does():
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2 * 9)).astype(np.float32)
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(x.transpose(0, 3, 1, 2)), 3).numpy()
    np.testing.assert_array_equal(upscaler.pixel_shuffle(jnp.asarray(x), 3), expected.transpose(0, 2, 3, 1))


def test_the_light_network_starts_near_the_repeated_input():
    model = models.build("light_sr", channels=3)
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    output = jax.jit(lambda x: model.init_with_output(jax.random.key(1), x, train=False)[0])(x)
    assert float(jnp.std(output - x.repeat(2, 1).repeat(2, 2))) < 0.05

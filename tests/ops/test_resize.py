"""Resizing against the libraries that it stands for, on images smaller, larger and of another shape."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests.metrics.references import torch_fidelity
from vision_jax.ops import resize

SIZES = [(32, 32), (28, 40), (350, 310), (299, 299), (1, 600)]


def images(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, channels)).astype(np.float32)


def resized(x, method, size=299):
    """On the device and on the host, which have to agree to rounding."""
    found = np.asarray(jax.jit(lambda x: resize.resize(x, size, method))(x))
    assert found.shape == (len(x), size, size, x.shape[-1]) and found.dtype == np.float32
    on_host = np.stack([resize.resize_on_host(image, size, method) for image in x.astype(np.uint8)])
    assert on_host.dtype == np.float32
    np.testing.assert_allclose(on_host, found, atol=1e-3)
    return found


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bilinear_is_pytorch_s(height, width):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    x = images(height, width)
    there = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    expected = torch.nn.functional.interpolate(there, size=(299, 299), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resized(x, "torch_bilinear"), expected.numpy().transpose(0, 2, 3, 1), atol=2e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bilinear_without_half_pixels_is_that_of_tensorflow_1(height, width):
    reference = torch_fidelity("interpolate_compat_tensorflow")
    import torch

    x = images(height, width)
    there = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    expected = reference.interpolate_bilinear_2d_like_tensorflow1x(there, size=(299, 299), align_corners=False)
    np.testing.assert_allclose(resized(x, "tensorflow_bilinear"), expected.numpy().transpose(0, 2, 3, 1), atol=2e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_antialiased_filters_are_pillow_s_on_floats(height, width, name):
    x = images(height, width)
    filter_ = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[name]
    expected = np.stack(
        [
            np.stack([np.asarray(Image.fromarray(x[i, ..., c]).resize((299, 299), filter_)) for c in range(3)], -1)
            for i in range(2)
        ]
    )
    np.testing.assert_allclose(resized(x, f"pillow_{name}"), expected, atol=1e-3)


def test_nearest_takes_pixels_as_they_are():
    x = images(4, 8, 1)
    np.testing.assert_array_equal(resized(x, "nearest", 8), np.repeat(x, 2, 1))
    np.testing.assert_array_equal(resized(x, "nearest", 4), x[:, :, 1::2])


@pytest.mark.parametrize("method", resize.METHODS)
def test_a_plain_image_stays_as_it_is(method):
    x = np.full((2, 7, 500, 1), 200.0, np.float32)
    np.testing.assert_allclose(resized(x, method, 30), 200.0, rtol=1e-5)


def test_the_same_size_changes_nothing_and_other_ways_are_refused():
    x = images(9, 9)
    assert resize.resize(x, 9, "pillow_bicubic") is x
    with pytest.raises(ValueError, match="no way of resizing called 'lanczos'; there are nearest"):
        resize.matrix(3, 4, "lanczos")
    with pytest.raises(ValueError, match="read-only"):
        resize.matrix(3, 4, "nearest")[0, 0] = 1.0

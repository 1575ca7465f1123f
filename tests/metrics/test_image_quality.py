"""Luma against the standard, PSNR by hand, SSIM against scikit-image, bicubic interpolation on Set5 as published."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax.data import decode
from vision_jax.metrics import image_quality
from vision_jax.ops import resize


def test_luma_of_the_primaries_is_that_of_the_standard():
    colors = jnp.asarray([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], jnp.float32)
    np.testing.assert_allclose(image_quality.luma(colors), [16, 81.481, 144.553, 40.966, 235], atol=1e-4)
    np.testing.assert_allclose(image_quality.luma(jnp.asarray([[0.0], [0.5], [1.0]])), [16, 125.5, 235], atol=1e-4)


def test_psnr_of_a_constant_difference():
    references = np.zeros((3, 6, 8, 1), np.float32)
    images = np.zeros_like(references)
    images[0] += 10 / 255
    images[1, :, :4] += 1.0  # Half of the pixels by all of the range.
    found = image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 0)
    expected = [20 * np.log10(255 / (219 * 10 / 255)), 20 * np.log10(255 / 219) + 10 * np.log10(2), np.inf]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    green = jnp.broadcast_to(jnp.asarray([0.2, 0.4, 0.6]), (1, 6, 8, 3))
    found = image_quality.psnr_y(green, green.at[..., 1].add(0.2), 2)
    assert float(found[0]) == pytest.approx(20 * np.log10(255 / (0.2 * 128.553)), rel=1e-5)


@pytest.mark.parametrize(("place", "inside"), [((0, 3), 0), ((1, 3), 1), ((5, 3), 0), ((4, 3), 1), ((3, 0), 0)])
def test_the_border_is_shaved_on_all_sides(place, inside):
    references = np.zeros((1, 6, 8, 1), np.float32)
    images = references.copy()
    images[0, *place] = 1.0
    (found,) = image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 1)
    # One pixel in the 4 x 6 that are left.
    assert float(found) == (pytest.approx(20 * np.log10(255 / 219) + 10 * np.log10(24)) if inside else np.inf)
    assert np.isfinite(image_quality.psnr_y(jnp.asarray(images), jnp.asarray(references), 0))


def test_images_are_compared_as_they_would_be_written_to_files():
    references = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 5, 5, 3)), jnp.float32) / 255.0
    assert np.isposinf(image_quality.psnr_y(references + 0.4 / 255, references, 0))
    assert np.isfinite(image_quality.psnr_y(references + 0.6 / 255, references, 0))
    ends = jnp.asarray([0.0, 1.0]).reshape(1, 1, 2, 1)
    assert np.isposinf(image_quality.psnr_y(ends * 3 - 1, ends, 0))  # -1 and 2.


def test_psnr_on_luma_with_shaved_borders():
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 256, (2, 12, 14, 3)).astype(np.float64) for _ in range(2))
    ys = [16 + (x / 255) @ np.array([65.481, 128.553, 24.966]) for x in (a, b)]
    error = ((ys[0] - ys[1])[:, 2:-2, 2:-2] ** 2).mean((1, 2))
    found = image_quality.psnr_y(*(jnp.asarray(x / 255, jnp.float32) for x in (a, b)), shave=2)
    np.testing.assert_allclose(found, 10 * np.log10(255**2 / error), rtol=1e-5)
    assert np.isinf(image_quality.psnr_y(jnp.ones((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1)), shave=1)[0])


def noisy(channels, seed=0):
    """Smooth pictures and the same with noise, uint8 [2, 40, 32, C]."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (2, 10, 8, channels)).astype(np.float32)
    smooth = np.stack([resize.resize_on_host(image, (40, 32), "pillow_bicubic") for image in small])
    a, b = (np.clip(smooth + generator.normal(0, s, smooth.shape), 0, 255).round().astype(np.uint8) for s in (0, 12))
    return a, b


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_and_psnr_are_those_of_scikit_image(channels):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = noisy(channels)
    x, y = (jnp.asarray(images, jnp.float32) / 255.0 for images in (a, b))
    found, decibels = image_quality.ssim(x, y, 2), image_quality.psnr(x, y, 2)
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    for first, second, similarity, psnr in zip(a[:, 2:-2, 2:-2], b[:, 2:-2, 2:-2], found, decibels, strict=True):
        expected = metrics.structural_similarity(first, second, channel_axis=2, **options)
        assert 0.3 < expected < 0.98
        assert float(similarity) == pytest.approx(expected, abs=1e-4)
        assert float(psnr) == pytest.approx(metrics.peak_signal_noise_ratio(first, second, data_range=255), rel=1e-5)


def test_ssim_of_luma_is_that_of_its_plane():
    a, b = noisy(3)
    x, y = (jnp.asarray(images, jnp.float32) / 255.0 for images in (a, b))
    metrics = pytest.importorskip("skimage.metrics")
    planes = [16.0 + images / 255.0 @ np.array([65.481, 128.553, 24.966]) for images in (a, b)]
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    expected = [metrics.structural_similarity(*pair, **options) for pair in zip(*planes, strict=True)]
    np.testing.assert_allclose(image_quality.ssim_y(x, y, 0), expected, atol=1e-4)
    np.testing.assert_allclose(image_quality.ssim_y(x, x, 0), 1.0, atol=1e-6)


def test_ssim_of_constant_images_is_their_luminance_term():
    a, b = jnp.full((1, 12, 12, 1), 100 / 255), jnp.full((1, 12, 12, 1), 140 / 255)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1)
    assert float(image_quality.ssim(a, b, 0)[0]) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=r"windows of 11×11 pixels; 10×10 are left"):
        image_quality.ssim(a, b, 1)


def test_ycbcr_is_pillow_s_but_for_the_range_and_comes_back():
    rgb = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3)).astype(np.uint8)
    unit = jnp.asarray(rgb, jnp.float32) / 255.0
    planes = image_quality.rgb_to_ycbcr(unit)
    np.testing.assert_allclose(255.0 * planes[..., 0], image_quality.luma(unit), atol=1e-3)
    full = np.asarray(Image.fromarray(rgb[0]).convert("YCbCr")).astype(np.float32)  # JPEG's: all of [0, 255].
    studio = [16 + 219 / 255 * full[..., 0], *(128 + 224 / 255 * (full[..., k] - 128) for k in (1, 2))]
    np.testing.assert_allclose(255.0 * planes[0], np.stack(studio, -1), atol=1.0)  # Pillow rounds down.
    np.testing.assert_allclose(image_quality.ycbcr_to_rgb(planes), unit, atol=1e-5)


def test_distance_of_features_is_that_of_their_directions():
    a = {"one": jnp.asarray([[[[3.0, 0.0]]], [[[0.0, 1.0]]]]), "two": jnp.ones((2, 2, 2, 4))}
    b = {"one": jnp.asarray([[[[0.0, 7.0]]], [[[0.0, 9.0]]]]), "two": 5.0 * jnp.ones((2, 2, 2, 4))}
    b["two"] = b["two"].at[1, 0, 0].multiply(-1.0)  # At one position of four, the opposite direction.
    np.testing.assert_allclose(image_quality.feature_distance(a, b), [2.0, 1.0], atol=1e-5)


def test_names_and_receipts_say_how_it_was_measured():
    protocol = image_quality.Protocol(3, 3, "y", planes=True, rounded=False)
    assert protocol.metric("psnr") == "psnr_y_x3_shave3"
    receipt = protocol.receipt("psnr_y_x3_shave3", 32.5, 5)
    assert receipt["value"] == 32.5 and receipt["protocol"]["rounded"] is False


@pytest.mark.parametrize(
    ("scale", "psnr", "ssim"),
    [
        (2, 33.66, 0.9299),
        pytest.param(3, 30.39, 0.8682, marks=pytest.mark.full),
        pytest.param(4, 28.42, 0.8104, marks=pytest.mark.full),
    ],
    ids=lambda value: str(value),
)
def test_bicubic_interpolation_on_set5_has_the_published_figures(test_data, scale, psnr, ssim):
    found = []
    for path in sorted((test_data / "sr" / "Set5").glob("*.png")):
        image = decode.decode_image(path) / np.float32(255)
        height, width = (n - n % scale for n in image.shape[:2])
        luma = np.round(16.0 + image[:height, :width] @ np.array([[65.481], [128.553], [24.966]], np.float32)) / 255.0
        luma = luma.astype(np.float32)
        low = resize.resize_on_host(luma, (height // scale, width // scale), "pillow_bicubic")
        again = resize.resize_on_host(low, (height, width), "pillow_bicubic")
        pair = jnp.asarray(again)[None], jnp.asarray(luma)[None]
        found.append([float(image_quality.psnr(*pair, scale)[0]), float(image_quality.ssim(*pair, scale)[0])])
    assert len(found) == 5
    assert np.mean(found, 0) == pytest.approx([psnr, ssim], abs=0.006)

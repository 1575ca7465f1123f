"""Every operation at fixed parameters against NumPy, SciPy and Pillow, and torchvision where it is installed."""

import colorsys
import functools

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

from tests.torchvision_import import import_torchvision
from vision_jax.data import augment
from vision_jax.data.augment import color, geometry, mix, policy

BYTES = np.random.default_rng(5).integers(20, 230, (15, 18, 3), np.uint8)
IMAGE = BYTES.astype(np.float32) / 255


def apply(spec: str, drawn, image=IMAGE) -> np.ndarray:
    """Applies one operation to one image with fixed parameters."""
    drawn = jax.tree.map(np.asarray, drawn)
    return np.asarray(jax.jit(augment.parse(spec).apply)(image, drawn))


@functools.cache
def functional():
    """torchvision.transforms.functional."""
    return import_torchvision("torchvision.transforms.functional")


def torch_image(image=IMAGE):
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def back(tensor) -> np.ndarray:
    return tensor.numpy().transpose(1, 2, 0)


def test_mirrors_and_turns():
    square = IMAGE[:, :15]
    np.testing.assert_array_equal(apply("horizontal_flip", True), np.fliplr(IMAGE))
    np.testing.assert_array_equal(apply("vertical_flip", True), np.flipud(IMAGE))
    np.testing.assert_array_equal(apply("transpose", True, square), square.swapaxes(0, 1))
    np.testing.assert_array_equal(apply("horizontal_flip", False), IMAGE)
    for turns in range(4):
        np.testing.assert_array_equal(apply("rot90", turns, square), np.rot90(square, turns))


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_random_crop(mode, numpy_mode):
    padded = np.pad(IMAGE, ((3, 3), (3, 3), (0, 0)), mode=numpy_mode)
    for top, left in ((0, 0), (6, 6), (2, 5), (3, 3)):
        made = apply(f"random_crop(padding=3, mode='{mode}')", np.array([top, left]))
        np.testing.assert_array_equal(made, padded[top : top + 15, left : left + 18])


def test_translate():
    spec = "translate(x=0.2, y=0.2, fill=(0.1, 0.2, 0.3))"
    for down, right in ((0, 0), (3, -4), (-3, 4), (-1, -2)):
        expected = np.broadcast_to(np.float32([0.1, 0.2, 0.3]), IMAGE.shape).copy()
        rows, columns = np.arange(15) - down, np.arange(18) - right
        inside = np.ix_((rows >= 0) & (rows < 15), (columns >= 0) & (columns < 18))
        expected[inside] = IMAGE[np.ix_(rows[(rows >= 0) & (rows < 15)], columns[(columns >= 0) & (columns < 18)])]
        np.testing.assert_array_equal(apply(spec, np.array([down, right])), expected)


BOXES = [(0, 0, 15, 18), (2, 3, 9, 7), (5, 1, 3, 16), (14, 17, 1, 1)]


@pytest.mark.parametrize("size", [(6, 5), (15, 18), (24, 31)])
def test_random_resized_crop_against_pillow(size):
    for top, left, height, width in BOXES:
        made = apply(f"random_resized_crop(size={size})", geometry.Box(*np.float32([top, left, height, width])))
        for channel in range(3):
            plane = Image.fromarray(IMAGE[top : top + height, left : left + width, channel])
            resized = plane.resize(size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_allclose(made[..., channel], resized, atol=2e-6)


def test_random_resized_crop_against_torchvision():
    F = functional()
    for top, left, height, width in BOXES:
        expected = back(F.resized_crop(torch_image(), top, left, height, width, [10, 20], antialias=True))
        made = apply("random_resized_crop(size=(10, 20))", geometry.Box(*np.float32([top, left, height, width])))
        np.testing.assert_allclose(made, expected, atol=2e-6)


# Angles without pixels exactly between two others, where 'nearest' is a matter of rounding.
MAPS = [
    {"angle": 17.3, "translate": (0.0, 0.0), "scale": 1.0, "shear": 0.0},
    {"angle": -41.7, "translate": (3.0, -2.0), "scale": 1.3, "shear": 0.0},
    {"angle": 5.1, "translate": (-1.0, 2.0), "scale": 0.77, "shear": 13.3},
    {"angle": 181.9, "translate": (0.0, 9.0), "scale": 2.1, "shear": -33.1},
]


def forward_matrix(angle, translate, scale, shear):
    """The map written out: shear along x, scale, turn clockwise (y down), shift; inverted by NumPy."""
    turn, slant = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = scale * rotation @ np.array([[1, -slant], [0, 1]])
    return np.linalg.inv(np.block([[linear, np.array(translate)[:, None]], [np.zeros((1, 2)), np.ones((1, 1))]]))


@pytest.mark.parametrize(("interpolation", "order"), [("nearest", 0), ("bilinear", 1)])
def test_affine_against_scipy(interpolation, order):
    spec = f"affine(fill=(0.2, 0.5, 0.9), interpolation='{interpolation}')"
    y, x = np.mgrid[:15, :18]
    centered = np.stack([x - 8.5, y - 7.0, np.ones_like(x)])
    for drawn in MAPS:
        position = np.tensordot(forward_matrix(**drawn), centered, 1)
        # A frame of fill, continued without end, is the image on an endless plane of fill.
        framed = [np.pad(IMAGE[..., c], 1, constant_values=level) for c, level in enumerate((0.2, 0.5, 0.9))]
        where = [position[1] + 7.0 + 1, position[0] + 8.5 + 1]
        expected = np.stack([ndimage.map_coordinates(p, where, order=order, mode="nearest") for p in framed], -1)
        np.testing.assert_allclose(apply(spec, drawn), expected, atol=3e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_affine_and_rotation_against_torchvision(interpolation):
    F = functional()
    mode = F.InterpolationMode(interpolation)
    for drawn in MAPS:
        expected = F.affine(torch_image(), drawn["angle"], drawn["translate"], drawn["scale"], drawn["shear"], mode)
        np.testing.assert_allclose(apply(f"affine(interpolation='{interpolation}')", drawn), back(expected), atol=3e-5)
    for angle in (-77.7, 12.1, 160.3):
        expected = back(F.rotate(torch_image(), angle, mode))
        np.testing.assert_allclose(apply(f"rotation(interpolation='{interpolation}')", angle), expected, atol=3e-5)


def test_rotation_by_quarter_turns_is_exact():
    square = IMAGE[:, :15]
    for turns in (1, 2, 3):
        np.testing.assert_allclose(apply("rotation", 90.0 * turns, square), np.rot90(square, turns), atol=2e-5)
    np.testing.assert_array_equal(apply("rotation", 0.0), IMAGE)


GRAY = IMAGE @ np.float32([0.2989, 0.587, 0.114])
FACTORS = (0.0, 0.4, 1.0, 1.7)


def blend(partner, factor):
    return np.clip(factor * IMAGE + (1 - factor) * partner, 0, 1)


def smoothed():
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    result = IMAGE.copy()
    for channel in range(3):
        result[1:-1, 1:-1, channel] = ndimage.correlate(IMAGE[..., channel], kernel)[1:-1, 1:-1]
    return result


@pytest.mark.parametrize(
    ("name", "partner"),
    [
        ("brightness", lambda: 0.0),
        ("contrast", lambda: GRAY.mean()),
        ("saturation", lambda: GRAY[..., None]),
        ("sharpness", smoothed),
    ],
)
def test_blends(name, partner):
    function = jax.jit(getattr(color, name))
    for factor in FACTORS:
        made = function(IMAGE, factor)
        np.testing.assert_allclose(made, blend(partner(), factor), atol=2e-6)
    F = functional()
    for factor in FACTORS:
        expected = back(getattr(F, f"adjust_{name}")(torch_image(), factor))
        np.testing.assert_allclose(function(IMAGE, factor), expected, atol=2e-6)


def test_hue():
    function = jax.jit(color.hue)
    image = np.concatenate([IMAGE, np.zeros_like(IMAGE[:1]), np.full_like(IMAGE[:1], 0.5)])  # black and gray, too
    for turn in (-0.5, -0.13, 0.0, 0.31):
        made = function(image, turn)
        for pixel in [(0, 0), (3, 4), (14, 17), (15, 2), (16, 2)]:
            h, s, v = colorsys.rgb_to_hsv(*image[pixel].astype(float))
            np.testing.assert_allclose(made[pixel], colorsys.hsv_to_rgb((h + turn) % 1, s, v), atol=3e-6)
    F = functional()
    for turn in (-0.5, -0.13, 0.31):
        np.testing.assert_allclose(function(image, turn), back(F.adjust_hue(torch_image(image), turn)), atol=3e-6)


def test_point_operations_against_pillow():
    """Pillow knows whole levels only, so results agree to half a level, and exactly where levels stay whole."""
    picture = Image.fromarray(BYTES)
    for bits in range(1, 9):
        made = jax.jit(color.posterize)(IMAGE, np.float32(bits))
        np.testing.assert_allclose(made, np.asarray(ImageOps.posterize(picture, bits)) / 255, atol=1e-6)
    for threshold in (0, 100, 255):
        made = jax.jit(color.solarize)(IMAGE, np.float32(threshold) / np.float32(255))
        np.testing.assert_allclose(made, np.asarray(ImageOps.solarize(picture, threshold)) / 255, atol=1e-6)
    made = jax.jit(color.autocontrast)(IMAGE)
    np.testing.assert_allclose(made, np.asarray(ImageOps.autocontrast(picture)) / 255, atol=1.01 / 255)
    flat = np.full((4, 4, 3), 0.3, np.float32)
    np.testing.assert_array_equal(jax.jit(color.autocontrast)(flat), flat)


def test_equalize_against_pillow():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dark = (np.random.default_rng(1).random((40, 40)) ** 4 * 255).astype(np.uint8)
    for plane in (ramp, dark, np.full((20, 20), 77, np.uint8), dark[:12, :12]):
        image = np.stack([plane, plane[::-1], 255 - plane], -1)
        made = jax.jit(color.equalize)(image.astype(np.float32) / 255)
        np.testing.assert_allclose(made, np.asarray(ImageOps.equalize(Image.fromarray(image))) / 255, atol=1e-6)


def test_grayscale():
    np.testing.assert_allclose(apply("grayscale", True), np.repeat(GRAY[..., None], 3, -1), atol=1e-6)
    np.testing.assert_array_equal(apply("grayscale", False), IMAGE)
    one = IMAGE[..., :1]
    np.testing.assert_array_equal(apply("grayscale", True, one), one)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_jitter_applies_its_steps_in_the_drawn_order(order):
    values = {0: 1.3, 1: 0.6, 2: 1.6, 3: 0.2}
    drawn = color.Jitter(np.array(order), np.float32([values[step] for step in order]))
    made = apply("color_jitter(brightness=0.5, contrast=0.5, saturation=0.7, hue=0.3)", drawn)
    expected = IMAGE
    for step in order:
        function = (color.brightness, color.contrast, color.saturation, color.hue)[step]
        expected = np.asarray(jax.jit(function)(expected, np.float32(values[step])))
    np.testing.assert_allclose(made, expected, atol=5e-6)


def test_jitter_of_gray_images_leaves_color_out():
    one = IMAGE[..., :1]
    spec = "color_jitter(brightness=0.5, saturation=0.7, hue=0.3)"
    made = apply(spec, color.Jitter(np.array([0]), np.float32([0.5])), one)
    np.testing.assert_allclose(made, one / 2, atol=1e-6)


def test_cutout_and_erasing_cover_exactly_their_rectangle():
    expected = IMAGE.copy()
    expected[2:6, 5:9] = (0.1, 0.2, 0.3)
    box = geometry.Box(*np.float32([2, 5, 4, 4]))
    np.testing.assert_array_equal(apply("cutout(size=4, value=(0.1, 0.2, 0.3))", box), expected)
    outside = apply("cutout(size=4)", geometry.Box(*np.float32([-2, 16, 4, 4])))
    assert (outside[:2, 16:] == 0).all() and (outside == 0).all(-1).sum() == 4
    for happens, result in ((True, expected), (False, IMAGE)):
        drawn = mix.Erasure(box, np.array(happens), None)
        np.testing.assert_array_equal(apply("random_erasing(value=(0.1, 0.2, 0.3))", drawn), result)


def test_mixtures():
    other = IMAGE[::-1]
    made, share = jax.jit(augment.parse("mixup").mix)(IMAGE, other, np.float32(0.3))
    np.testing.assert_allclose(made, 0.3 * IMAGE + 0.7 * other, atol=1e-6)
    assert share == np.float32(0.3)
    made, share = jax.jit(augment.parse("cutmix").mix)(IMAGE, other, geometry.Box(*np.float32([1, 2, 5, 6])))
    expected = IMAGE.copy()
    expected[1:6, 2:8] = other[1:6, 2:8]
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_allclose(share, 1 - 30 / 270, atol=1e-6)


STEPS = [
    ("Identity", 0.0),
    ("ShearX", 0.27),
    ("ShearY", -0.31),
    ("TranslateX", 4.7),
    ("TranslateY", -3.2),
    ("Rotate", 21.7),
    ("Brightness", 0.4),
    ("Color", -0.6),
    ("Contrast", 0.7),
    ("Sharpness", -0.8),
    ("Posterize", 3.0),
    ("Solarize", 0.5),
    ("AutoContrast", 0.0),
    ("Equalize", 0.0),
]


@functools.cache
def policy_step(interpolation: str):
    return jax.jit(lambda image, step: policy.apply_step(image, step, 0.0, interpolation))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_policy_steps_against_torchvision(interpolation):
    F = functional()
    from torchvision.transforms.autoaugment import _apply_op

    for index, (name, magnitude) in enumerate(STEPS):
        made = policy_step(interpolation)(IMAGE, policy.Step(np.int32(index), np.float32(magnitude)))
        on_bytes = name in ("Posterize", "Equalize")
        source = torch_image(BYTES if on_bytes else IMAGE)
        expected = back(_apply_op(source, name, magnitude, F.InterpolationMode(interpolation), None))
        expected = expected / 255 if on_bytes else expected
        np.testing.assert_allclose(made, expected, atol=3e-5, err_msg=name)


def test_policy_steps_are_the_operations_they_name():
    """The same without torchvision: selects and the shared warp must pick what the index says."""
    y, x = np.mgrid[:15, :18].astype(float)
    slope = 0.27
    sources = {
        "shear_x": (slope, y, x + slope * (y + 0.5)),
        "shear_y": (slope, y + slope * (x + 0.5), x),
        "translate_x": (4.7, y, x - 4),
        "translate_y": (-3.2, y + 3, x),
    }
    for name, (magnitude, rows, columns) in sources.items():
        step = policy.Step(np.int32(policy.OPERATIONS.index(name)), np.float32(magnitude))
        framed = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
        expected = framed[
            np.clip(np.rint(rows), -1, 15).astype(int) + 1, np.clip(np.rint(columns), -1, 18).astype(int) + 1
        ]
        np.testing.assert_allclose(policy_step("nearest")(IMAGE, step), expected, atol=1e-6, err_msg=name)
    for name, function, magnitude in (
        ("brightness", color.brightness, 0.4),
        ("color", color.saturation, -0.6),
        ("contrast", color.contrast, 0.7),
        ("sharpness", color.sharpness, -0.8),
    ):
        step = policy.Step(np.int32(policy.OPERATIONS.index(name)), np.float32(magnitude))
        expected = jax.jit(function)(IMAGE, np.float32(1 + magnitude))
        np.testing.assert_allclose(policy_step("nearest")(IMAGE, step), expected, atol=2e-6, err_msg=name)
    identity = policy_step("nearest")(IMAGE, policy.Step(np.int32(0), np.float32(0)))
    np.testing.assert_array_equal(identity, IMAGE)

"""What is drawn: rates, ranges, both ends reached, uniformity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.data import augment
from vision_jax.data.augment import geometry, policy
from vision_jax.data.augment.mix import Erasure

pytestmark = pytest.mark.compiled_quickly

SHAPE = (16, 20, 3)
SQUARE = (16, 16, 3)


def draws(spec: str, count: int = 4000, shape=SHAPE):
    operation = augment.parse(spec)
    keys = jax.vmap(jax.random.key)(np.arange(count))
    drawn = jax.jit(jax.vmap(lambda key: operation.sample(key, shape)))(keys)
    return drawn._replace(noise=None) if isinstance(drawn, Erasure) else jax.device_get(drawn)


def assert_uniform(values: np.ndarray, expected: list[int]):
    """Every expected value occurs, nothing else does, and the counts differ by chance only (5 sigma)."""
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == expected
    mean = len(values) / len(expected)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


@pytest.mark.parametrize(
    "spec", ["horizontal_flip(p=0.3)", "vertical_flip(p=0.3)", "transpose(p=0.3)", "grayscale(p=0.3)"]
)
def test_rates(spec):
    assert abs(draws(spec).mean() - 0.3) < 5 * np.sqrt(0.21 / 4000)


def test_probability_zero_and_one():
    image = np.random.default_rng(0).random((32, *SQUARE), np.float32)
    names = ("horizontal_flip", "vertical_flip", "transpose", "grayscale", "random_erasing")
    never = jax.jit(augment.build([f"{name}(p=0)" for name in names]))
    np.testing.assert_array_equal(never(jax.random.key(1), {"image": image})["image"], image)
    for name in names:
        drawn = draws(f"{name}(p=1)")
        assert np.all(drawn.happens if name == "random_erasing" else drawn), name


def test_quarter_turns():
    assert_uniform(draws("rot90"), [0, 1, 2, 3])


def test_crop_offsets():
    offsets = draws("random_crop(padding=3)")
    assert_uniform(offsets[:, 0], list(range(7)))
    assert_uniform(offsets[:, 1], list(range(7)))
    assert abs(np.corrcoef(offsets.T)[0, 1]) < 5 / np.sqrt(4000)


def test_translations():
    moves = draws("translate(x=0.1, y=0.25)")
    assert_uniform(moves[:, 0], list(range(-4, 5)))  # down: a quarter of 16 pixels
    assert_uniform(moves[:, 1], list(range(-2, 3)))  # right: a tenth of 20 pixels


@pytest.mark.parametrize(
    ("spec", "get", "low", "high"),
    [
        ("rotation(degrees=(-20, 40))", lambda d: d, -20, 40),
        ("affine(degrees=30)", lambda d: d["angle"], -30, 30),
        ("affine(scale=(0.8, 1.4))", lambda d: d["scale"], 0.8, 1.4),
        ("affine(shear=10)", lambda d: d["shear"], -10, 10),
        ("color_jitter(hue=0.2)", lambda d: d.factor[:, 0], -0.2, 0.2),
        ("color_jitter(brightness=2)", lambda d: d.factor[:, 0], 0, 3),
    ],
)
def test_ranges_are_uniform_and_reach_both_ends(spec, get, low, high):
    unit = (np.sort(get(draws(spec))) - low) / (high - low)
    assert unit[0] >= 0 and unit[0] < 0.01 and unit[-1] <= 1 and unit[-1] > 0.99
    assert np.abs(unit - np.linspace(0, 1, len(unit))).max() < 1.95 / np.sqrt(len(unit))  # Kolmogorov-Smirnov, 0.1 %


def test_affine_shifts_are_whole_pixels_up_to_the_fraction():
    right, down = draws("affine(translate=(0.25, 0.125))")["translate"]
    assert sorted(set(right)) == list(range(-5, 6)) and sorted(set(down)) == [-2, -1, 0, 1, 2]


def test_jitter_orders_are_equally_likely_and_factors_follow_their_step():
    drawn = draws("color_jitter(brightness=(0.1, 0.2), contrast=(0.3, 0.4), saturation=(0.5, 0.6), hue=0.05)")
    assert_uniform(drawn.step @ np.array([64, 16, 4, 1]), sorted_orders())
    lows, highs = np.array([0.1, 0.3, 0.5, -0.05]), np.array([0.2, 0.4, 0.6, 0.05])
    assert (drawn.factor >= lows[drawn.step] - 1e-6).all() and (drawn.factor <= highs[drawn.step] + 1e-6).all()


def sorted_orders() -> list[int]:
    from itertools import permutations

    return sorted(int(np.dot(order, [64, 16, 4, 1])) for order in permutations(range(4)))


@pytest.mark.parametrize(
    "spec", ["random_resized_crop(scale=(0.2, 0.7), ratio=(0.5, 2))", "random_erasing(p=1, scale=(0.2, 0.7))"]
)
def test_boxes_fit_and_follow_scale_and_ratio(spec):
    drawn = draws(spec)
    erasing = spec.startswith("random_erasing")
    box = drawn.box if erasing else drawn
    height, width = SHAPE[:2]
    for start, length, size in ((box.top, box.height, height), (box.left, box.width, width)):
        assert (start >= 0).all() and (length >= 1).all() and (start + length <= size).all()
        assert (start == np.round(start)).all() and (length == np.round(length)).all()
        assert (start == 0).any() and (start + length == size).any()
    share = box.height * box.width / (height * width)
    assert 0.15 <= share.min() and share.max() <= 0.75  # rounded to whole pixels
    assert share.min() < 0.25 and share.max() > 0.65
    if erasing:
        assert drawn.happens.all() and (box.height < height).all() and (box.width < width).all()


def test_crop_falls_back_to_the_center_when_nothing_fits():
    box = draws("random_resized_crop(scale=(1, 1), ratio=(4, 4))", count=8)
    assert (box.top == 5.0).all() or (box.top == 6.0).all()  # 20 wide at a ratio of 4: 5 of 16 rows, in the middle
    assert (box.height == 5).all() and (box.left == 0).all() and (box.width == 20).all()


def test_erasing_happens_at_its_rate_with_fresh_noise():
    assert abs(draws("random_erasing(p=0.25)").happens.mean() - 0.25) < 5 * np.sqrt(0.1875 / 4000)
    black = np.zeros((64, *SQUARE), np.float32)
    run = jax.jit(augment.build(("random_erasing(p=1, value='random')",)))
    noise = np.asarray(run(jax.random.key(0), {"image": black})["image"])
    covered = noise[noise > 0]
    assert abs(covered.mean() - 0.5) < 0.05 and len(np.unique(covered)) > 0.99 * len(covered)


def test_cutout_centers_are_all_pixels():
    box = draws("cutout(size=4)")
    assert_uniform(box.top, list(range(-2, 14)))
    assert_uniform(box.left, list(range(-2, 18)))


def test_mixup_shares_follow_the_beta_distribution():
    share = draws("mixup(alpha=0.4)")
    assert abs(share.mean() - 0.5) < 0.03
    assert abs(share.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01  # variance of Beta(a, a)
    assert (draws("mixup(alpha=0.4, p=0.25)") == 1).mean() > 0.7


def test_cutmix_boxes_fit_and_share_is_their_area():
    box = draws("cutmix")
    assert (box.top >= 0).all() and (box.top + box.height <= 16).all() and (box.left + box.width <= 20).all()
    share = 1 - box.height * box.width / 320
    assert share.min() < 0.25 and share.max() == 1 and share.mean() > 0.5


def test_mixing_weighs_labels_like_images():
    label = np.arange(6, dtype=np.int32)
    images = np.broadcast_to(label[:, None, None, None] / 8, (6, 10, 10, 1)).astype(np.float32)
    mask = np.array([1, 1, 1, 1, 1, 0], np.int32)
    for spec in ("mixup(alpha=1)", "cutmix", "cutmix(alpha=5, p=0.5)"):
        run = jax.jit(augment.build((spec,), num_classes=6))
        made = jax.device_get(run(jax.random.key(2), {"image": images, "label": label, "mask": mask}))
        # A constant image carries its label as its level, so the mixture's mean level is the mean label.
        mean = made["image"].mean(axis=(1, 2, 3)) * 8
        np.testing.assert_allclose(made["target"] @ np.arange(6.0), mean, atol=1e-5)
        np.testing.assert_allclose(made["target"].sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(made["target"][0], np.eye(6)[0])  # its partner is padding
        assert np.abs(made["target"] - np.eye(6)[label]).max() > 0.1


def test_mixing_twice_keeps_a_distribution():
    run = jax.jit(augment.build(("mixup(alpha=1)", "cutmix"), num_classes=3))
    images = np.broadcast_to(np.eye(3, dtype=np.float32)[:, None, None], (3, 8, 8, 3))
    made = jax.device_get(run(jax.random.key(5), {"image": images, "label": np.arange(3, dtype=np.int32)}))
    np.testing.assert_allclose(made["image"].mean(axis=(1, 2)), made["target"], atol=1e-5)
    assert (np.asarray(made["target"]) > 0).sum() > 6


@pytest.mark.parametrize("name", ["rand_augment(num_ops=1)", "trivial_augment"])
def test_policies_draw_all_operations_with_both_signs(name):
    drawn = jax.tree.map(np.ravel, draws(name, count=8000))
    assert_uniform(drawn.operation, list(range(len(policy.OPERATIONS))))
    for index, operation in enumerate(policy.OPERATIONS):
        magnitude = drawn.magnitude[drawn.operation == index]
        if operation in ("identity", "autocontrast", "equalize"):
            assert (magnitude == 0).all()
        elif operation == "posterize":
            assert set(magnitude) == ({7.0} if name.startswith("rand") else {2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0})
        elif operation == "solarize":
            assert magnitude.min() >= -1e-6 and magnitude.max() <= 1
        else:
            assert abs((magnitude < 0).mean() - (0.5 if name.startswith("rand") else 0.5 * 30 / 31)) < 0.11


def box_of(uniform, **options):
    settings = {"scale": (0.25, 1.0), "ratio": (0.25, 4.0), "tall": True, "strict": False, **options}
    box, fitted = geometry.sample_box(
        jnp.asarray(uniform, jnp.float32), SHAPE, *(settings.pop(name) for name in ("scale", "ratio")), **settings
    )
    return [float(side) for side in box], bool(fitted)


@pytest.mark.parametrize("attempt", range(10))
def test_the_first_of_ten_tries_that_fits_is_taken(attempt):
    """All of the area at four times the height of the width does not fit; half of it as a square does."""
    uniform = np.zeros(geometry.BOX_DRAWS)
    uniform[:10], uniform[10:20] = 0.999, 0.999
    uniform[attempt:10], uniform[10 + attempt : 20] = 0.2, 0.5
    uniform[attempt + 1 : 10] = 0.3  # Later tries would fit, too, and differ.
    box, fitted = box_of(uniform)
    assert fitted and box == [0, 0, 11, 11]  # 0.4 of 320 pixels.
    uniform[attempt:10] = 0.999
    uniform[10 + attempt : 20] = 0.999
    assert box_of(uniform) == ([0, 0, 16, 20], False)


def test_every_number_drawn_for_a_box_decides_something():
    rng = np.random.default_rng(0)
    for position in range(geometry.BOX_DRAWS):
        uniform = rng.random(geometry.BOX_DRAWS)
        if position < 20:
            uniform[: position % 10] = uniform[10 : 10 + position % 10] = 0.999  # The tries before do not fit.
            uniform[10 + position % 10], uniform[position % 10] = 0.5, 0.3
        else:
            uniform[:20] = 0.3
        changed = uniform.copy()
        changed[position] = 0.7 if position >= 20 and uniform[position] < 0.3 else 0.1
        assert box_of(uniform) != box_of(changed), position


def test_boxes_lie_anywhere_and_sides_as_long_as_the_image_s_are_refused_where_asked():
    uniform = np.full(geometry.BOX_DRAWS, 0.999)
    uniform[:10], uniform[10:20] = 1.0, 0.5
    whole = {"scale": (0.2, 0.8), "ratio": (0.25, 4.0)}
    assert box_of(uniform, **whole) == ([0, 4, 16, 16], True)  # 0.8 of 320: 16 x 16, as far right as it goes.
    assert box_of(uniform, **whole, strict=True)[1] is False
    uniform[:10] = 0.9
    assert box_of(uniform, **whole, strict=True) == ([1, 5, 15, 15], True)
    uniform[10:20], uniform[:10] = 0.25, 0.0  # Half as tall as wide: 64 pixels.
    assert box_of(uniform, **whole)[0][2:] == [6, 11] and box_of(uniform, **whole, tall=False)[0][2:] == [11, 6]


def test_cutmix_draws_a_share_and_a_center_for_each_image():
    """Sides are in the image's proportion, the center is any pixel, and without luck nothing is pasted."""
    box = draws("cutmix")
    inside = (box.top > 0) & (box.left > 0) & (box.top + box.height < 16) & (box.left + box.width < 20)
    assert inside.any()
    np.testing.assert_allclose(box.height[inside] / 16, box.width[inside] / 20, atol=0.125)
    assert (box.height == np.round(box.height)).all() and (box.width == np.round(box.width)).all()
    centers = [(box.top + box.height / 2)[inside], (box.left + box.width / 2)[inside]]
    assert abs(np.corrcoef(centers)[0, 1]) < 5 / np.sqrt(inside.sum())
    nothing = draws("cutmix(p=0.25)")
    assert abs((nothing.height * nothing.width == 0).mean() - 0.75) < 0.1


@pytest.mark.parametrize("spec", ["random_erasing(p=1)", "random_resized_crop"])
def test_where_a_box_lies_depends_on_nothing_else(spec):
    """Neither on the other direction nor on the box's area and shape; 5 sigma each."""
    drawn = draws(spec)
    box = drawn.box if spec.startswith("random_erasing") else drawn
    top, left, height, width = np.stack(box)[:, (box.height < 12) & (box.width < 15)]
    top, left = top / (16 - height), left / (20 - width)
    for place, others in ((top, (left, height, width, height / width)), (left, (height, width, height / width))):
        for other in others:
            assert abs(np.corrcoef(place, other)[0, 1]) < 5 / np.sqrt(len(place))


def test_boxes_have_at_least_a_pixel():
    uniform = np.full(geometry.BOX_DRAWS, 0.5)
    square = {"ratio": (1.0, 1.0)}
    assert box_of(uniform, scale=(0.001, 0.001), **square) == ([8, 10, 1, 1], True)  # 0.57 pixels, rounded.
    assert box_of(uniform, scale=(0.0005, 0.0005), **square)[1] is False
    assert box_of(uniform, scale=(0.01, 0.01), ratio=(4.0, 4.0))[0][2:] == [4, 1]
    assert box_of(uniform, scale=(0.01, 0.01), ratio=(0.25, 0.25))[0][2:] == [1, 4]


def test_the_five_numbers_of_an_affine_map_are_independent():
    drawn = draws("affine(degrees=30, translate=0.5, scale=(0.5, 2), shear=20)")
    numbers = [drawn["angle"], *drawn["translate"], drawn["scale"], drawn["shear"]]
    correlations = np.corrcoef(numbers)[np.triu_indices(5, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_cutmix_reaches_every_edge():
    box = draws("cutmix")
    assert box.top.min() == box.left.min() == 0
    assert (box.top + box.height).max() == 16 and (box.left + box.width).max() == 20


# At the highest level; torchvision's ranges. Posterize keeps bits, solarize is a threshold.
STRONGEST = {
    "rand_augment(num_ops=1, magnitude=30)": {
        **dict.fromkeys(("shear_x", "shear_y"), 0.3),
        "translate_x": 150 / 331 * 20,
        "translate_y": 150 / 331 * 16,
        "rotate": 30.0,
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9),
        "posterize": 4.0,
        "solarize": 0.0,
    },
    "trivial_augment": {
        **dict.fromkeys(("shear_x", "shear_y"), 0.99),
        **dict.fromkeys(("translate_x", "translate_y"), 32.0),
        "rotate": 135.0,
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.99),
        "posterize": 2.0,
        "solarize": 0.0,
    },
}


@pytest.mark.parametrize("spec", STRONGEST)
def test_policies_go_as_far_as_torchvision_s(spec):
    drawn = jax.tree.map(np.ravel, draws(spec, count=8000))
    for name, strongest in STRONGEST[spec].items():
        found = np.abs(drawn.magnitude[drawn.operation == policy.OPERATIONS.index(name)])
        end = found.min() if name in ("posterize", "solarize") else found.max()
        assert end == pytest.approx(strongest, abs=1e-5), name
        if spec == "trivial_augment":
            levels = np.unique(np.round(found / (1.0 if name in ("posterize", "solarize") else strongest) * 30, 3))
            assert len(levels) == (7 if name == "posterize" else 31), name
        else:
            assert np.ptp(found) < 1e-5, name


def test_rand_augment_s_magnitude_is_a_level_of_its_bins():
    drawn = jax.tree.map(np.ravel, draws("rand_augment(magnitude=3, num_bins=11)", count=1000))
    found = np.abs(drawn.magnitude[drawn.operation == policy.OPERATIONS.index("rotate")])
    np.testing.assert_allclose(found, 9.0, rtol=1e-5)  # 3 of the ten steps to 30 degrees.


def test_a_ratio_is_width_to_height_of_a_crop_and_height_to_width_of_an_erasure():
    crop = draws("random_resized_crop(scale=(0.1, 0.2), ratio=(2, 2))")
    erased = draws("random_erasing(p=1, scale=(0.1, 0.2), ratio=(2, 2))").box
    for long, short in ((crop.width, crop.height), (erased.height, erased.width)):
        assert (np.abs(long - 2 * short) <= 1.5).all()  # Each is rounded.

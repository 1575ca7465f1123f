"""Specifications, contracts and the independence of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax.data import augment

PER_EXAMPLE = (
    "random_crop(padding=2, mode='reflect')",
    "rotation(degrees=20)",
    "color_jitter(brightness=0.4, contrast=0.4)",
    "random_erasing(p=0.8, value='random')",
)
# Matrix products, gathers, scatters and reductions, all within one example.
HEAVY = ("random_resized_crop(scale=(0.3, 0.9))", "trivial_augment(interpolation='bilinear')", "cutout")
MIXING = ("horizontal_flip", "mixup(alpha=0.4, p=0.5)", "cutmix(p=0.5)")


def photos(count: int = 8, side: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).random((count, side, side, channels), np.float32)


def batch(count: int = 8, **kwargs) -> dict[str, np.ndarray]:
    return {"image": photos(count, **kwargs), "label": np.arange(count, dtype=np.int32) % 5}


def compiled(specs=PER_EXAMPLE):
    """One jitted function per list of operations, so that the tests share its compilations."""
    return jax.jit(augment.build(specs, num_classes=5))


per_example = compiled()


def test_every_operation_keeps_shape_type_and_range():
    for name in augment.OPERATIONS:
        given = batch(4, side=9, channels=1)
        made = jax.eval_shape(augment.build((name,), num_classes=5), jax.random.key(0), given)
        assert made["image"].shape == given["image"].shape, name
        assert made["image"].dtype == jnp.float32, name
    specs = ("rotation(fill=1)", "color_jitter(brightness=1, contrast=1, saturation=1, hue=0.5)", "cutmix")
    made = jax.device_get(compiled(specs)(jax.random.key(0), batch(64)))
    assert np.isfinite(made["image"]).all()
    assert made["image"].min() >= 0 and made["image"].max() <= 1 + 1e-6
    np.testing.assert_allclose(made["target"].sum(axis=1), 1, atol=1e-6)


def test_no_operations_change_nothing():
    given = batch()
    made = augment.build(())(jax.random.key(0), given)
    assert all(made[name] is given[name] for name in given)


def test_the_key_decides_and_images_differ():
    same = {"image": np.broadcast_to(photos(1), (8, 12, 12, 3))}
    first, again, other = (np.asarray(per_example(jax.random.key(seed), same)["image"]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(again, first)
    assert np.abs(first - other).max() > 0.1
    for i in range(8):
        for j in range(i):
            assert np.abs(first[i] - first[j]).max() > 1e-3


def test_repeated_operations_draw_anew():
    marks = {"image": np.broadcast_to(photos(1), (64, 12, 12, 3))}
    once = np.asarray(compiled(("horizontal_flip",))(jax.random.key(0), marks)["image"])
    twice = np.asarray(compiled(("horizontal_flip", "horizontal_flip"))(jax.random.key(0), marks)["image"])
    turned_again = (once != twice).any(axis=(1, 2, 3)).sum()
    assert 16 < turned_again < 48


def test_an_example_does_not_depend_on_the_batch_size():
    half = per_example(jax.random.key(3), {"image": photos(8)[:4]})["image"]
    whole = per_example(jax.random.key(3), {"image": photos(8)})["image"]
    np.testing.assert_allclose(whole[:4], half, atol=1e-6)


@pytest.mark.parametrize("specs", [PER_EXAMPLE, HEAVY, MIXING])
def test_sharding_changes_nothing_and_gathers_nothing(specs):
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices: XLA_FLAGS=--xla_force_host_platform_device_count=4")
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    given = batch() if specs is MIXING else {"image": photos(8)}
    expected = (per_example if specs is PER_EXAMPLE else compiled(specs))(jax.random.key(3), given)
    key = jax.device_put(jax.random.key(3), NamedSharding(mesh, PartitionSpec()))
    given = jax.device_put(given, sharded)
    function = jax.jit(augment.build(specs, num_classes=5), out_shardings=sharded)
    program = function.lower(key, given).compile()
    made = program(key, given)
    for name, value in expected.items():
        np.testing.assert_allclose(made[name], value, atol=1e-6, err_msg=name)
    text = program.as_text()
    assert "all-gather" not in text and "all-reduce" not in text
    # Mixing looks at one neighbor; everything else stays where it is.
    assert ("collective-permute" in text) == (specs is MIXING)


def test_compiles_once_and_runs_in_scan():
    traces = []
    function = augment.build(("random_crop(padding=2)", "mixup"), num_classes=5)

    @jax.jit
    def step(key, given):
        traces.append(None)
        return function(key, given)

    given = jax.tree.map(jnp.asarray, batch())
    images = [step(jax.random.key(seed), given)["image"] for seed in range(3)]
    assert len(traces) == 1

    @jax.jit
    def run(keys):
        return jax.lax.scan(lambda carry, key: (carry, function(key, given)["image"]), 0, keys)[1]

    np.testing.assert_allclose(run(jax.vmap(jax.random.key)(np.arange(3))), np.stack(images), atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("horizontl_flip", ("'horizontl_flip'", "did you mean 'horizontal_flip'", "random_crop", "mixup")),
        ("random_crop(pading=4)", ("random_crop", "'pading'", "did you mean 'padding'", "mode")),
        ("random_crop(padding=-1)", ("padding=-1", "a whole number from 0")),
        ("random_crop(padding=1.5)", ("padding=1.5", "a whole number")),
        ("random_crop(padding=True)", ("padding=True", "a whole number")),
        ("random_crop(mode='mirror')", ("'mirror'", "'zero' or 'reflect'")),
        ("horizontal_flip(p=1.5)", ("p=1.5", "a number from 0 to 1")),
        ("horizontal_flip(p='often')", ("p='often'", "a number from 0 to 1")),
        ("rot90(k=1)", ("rot90", "'k'", "(valid: share)")),
        ("mixup(alpha=0)", ("alpha=0", "a number above 0")),
        ("color_jitter(hue=0.7)", ("hue=0.7", "<= 0.5")),
        ("color_jitter(contrast=(2, 1))", ("contrast=(2, 1)", "low <= high")),
        ("color_jitter(brightness=-1)", ("brightness=-1",)),
        ("random_resized_crop(scale=(0, 1))", ("scale=(0, 1)", "0 < low")),
        ("random_resized_crop(size=(8, 8, 8))", ("size=(8, 8, 8)", "height, width")),
        ("rotation(fill=255)", ("fill=255", "from 0 to 1")),
        ("rotation(degrees=1e999)", ("degrees",)),
        ("random_erasing(value='noise')", ("'noise'", "'random'")),
        ("rand_augment(magnitude=31)", ("magnitude=31", "num_bins=31")),
        ("random_crop(4)", ("random_crop(padding=…, mode=…)",)),
        ("random_crop(padding=4, padding=5)", ("padding", "twice")),
        ("random_crop(padding=__import__('os').getpid())", ("padding", "plain number")),
        ("random_crop(padding=4", ("does not read",)),
        ("os.system('ls')", ("does not read",)),
        ("random_crop(**{'padding': 4})", ("does not read",)),
        ("3", ("does not read",)),
        ("", ("does not read",)),
    ],
)
def test_wrong_specifications_are_refused_with_the_valid_ones(spec, words):
    with pytest.raises(ValueError) as caught:
        augment.build((spec,), num_classes=5)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_wrong_uses_are_refused():
    with pytest.raises(ValueError, match="num_classes"):
        augment.build(("cutmix",))
    with pytest.raises(ValueError, match="single text"):
        augment.build("horizontal_flip")
    flip = augment.build(("horizontal_flip",))
    with pytest.raises(ValueError, match="divide bytes by 255"):
        flip(jax.random.key(0), {"image": np.zeros((2, 4, 4, 3), np.uint8)})
    with pytest.raises(ValueError, match="'image', found \\['x'\\]"):
        flip(jax.random.key(0), {"x": np.zeros((2, 4, 4, 3), np.float32)})
    for spec, shape, words in (
        ("rot90", (2, 4, 5, 3), "square"),
        ("random_crop(mode='reflect')", (2, 4, 4, 3), "larger than the padding"),
        ("grayscale", (2, 4, 4, 4), "1 or 3 channels"),
        ("rotation(fill=(0, 0, 0))", (2, 4, 4, 1), "3 levels"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(augment.build((spec,)), jax.random.key(0), {"image": np.zeros(shape, np.float32)})


def test_options_are_read_as_torchvision_reads_them():
    jitter = augment.parse("color_jitter(brightness=1.5, contrast=(0.5, 2), hue=0.1)")
    assert (jitter.brightness, jitter.contrast) == ((0, 2.5), (0.5, 2))
    assert (jitter.saturation, jitter.hue) == ((1, 1), (-0.1, 0.1))
    assert augment.parse(" rotation(degrees=-90) ".replace("-90", "(-90, 0)")).degrees == (-90, 0)
    assert augment.parse("random_resized_crop(size=8)").size == (8, 8)


def test_description_is_complete():
    described = {entry["name"]: entry for entry in augment.describe()}
    assert list(described) == list(augment.OPERATIONS)
    for name, entry in described.items():
        assert entry["summary"].endswith("."), name
        for option in entry["options"]:  # every default is itself a valid specification
            augment.parse(f"{name}({option['name']}={option['default']!r})")
    assert {"name": "p", "default": 0.5, "valid": "a number from 0 to 1"} in described["vertical_flip"]["options"]


PAIRED = ("horizontal_flip", "vertical_flip", "transpose", "rot90", "grayscale(p=0.5)")


def mean_pool(images: np.ndarray) -> np.ndarray:
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def test_pairs_stay_aligned():
    # Mean pooling commutes with all these, clipping aside: the low image must stay the pooled high one.
    high = 0.3 + 0.4 * photos(8)
    jitter = "color_jitter(brightness=0.2, contrast=0.3, saturation=0.3)"
    run = jax.jit(augment.build_paired((*PAIRED, jitter)))
    made = jax.device_get(run(jax.random.key(0), {"low": mean_pool(high), "high": high}))
    assert np.abs(made["high"] - high).max(axis=(1, 2, 3)).min() > 0.01
    np.testing.assert_allclose(made["low"], mean_pool(made["high"]), atol=1e-5)


def test_pairs_get_the_same_hue():
    low = photos(8, side=6)
    high = np.repeat(np.repeat(low, 2, axis=1), 2, axis=2)
    run = jax.jit(augment.build_paired(("color_jitter(hue=0.5)", "horizontal_flip")))
    made = jax.device_get(run(jax.random.key(0), {"low": low, "high": high}))
    np.testing.assert_allclose(made["high"][:, ::2, ::2], made["low"], atol=1e-6)
    assert np.abs(made["low"] - low).max() > 0.2


def test_pairs_refuse_what_breaks_them():
    unpaired = [name for name, cls in augment.OPERATIONS.items() if not cls.paired]
    assert {"random_crop", "mixup", "rotation", "cutout"} <= set(unpaired)
    for name in unpaired:
        with pytest.raises(ValueError, match=f"{name} would not keep .* rot90"):
            augment.build_paired((name,))
    with pytest.raises(ValueError, match="horizontal_flip: the option share is not for super-resolution"):
        augment.build_paired(("horizontal_flip(share=0.5)",))
    with pytest.raises(ValueError, match="cutout would not keep"):
        augment.build_paired(("cutout(share=0.5)",))
    with pytest.raises(ValueError, match="Paired images"):
        given = {"low": np.zeros((2, 4, 4, 3), np.float32), "high": np.zeros((2, 6, 6, 3), np.float32)}
        augment.build_paired(("horizontal_flip",))(jax.random.key(0), given)


PROBABILITY = "a number from 0 to 1"
LEVEL = "a level from 0 to 1, a tuple of one level per channel"
ANGLE = "a number d >= 0 for (0 - d, 0 + d), or a pair (low, high) with"
FACTOR = "a number d >= 0 for (1 - d, 1 + d), or a pair (low, high) with 0 <= low <= high"
FILTER = "'nearest' or 'bilinear'"
OPTIONS = {
    "horizontal_flip": {"p": (0.5, PROBABILITY)},
    "alternating_flip": {},
    "vertical_flip": {"p": (0.5, PROBABILITY)},
    "transpose": {"p": (0.5, PROBABILITY)},
    "rot90": {},
    "random_crop": {"padding": (4, "a whole number from 0"), "mode": ("zero", "'zero' or 'reflect'")},
    "random_resized_crop": {
        "size": (None, "None (the image's own size), a side in pixels, or (height, width)"),
        "scale": ((0.08, 1.0), "a pair (low, high) with 0 < low <= high <= 1"),
        "ratio": ((3 / 4, 4 / 3), "a pair (low, high) with 0 < low <= high"),
    },
    "translate": {"x": (0.125, PROBABILITY), "y": (0.125, PROBABILITY), "fill": (0.0, LEVEL)},
    "rotation": {
        "degrees": (15.0, f"{ANGLE} -360 <= low <= high <= 360"),
        "fill": (0.0, LEVEL),
        "interpolation": ("bilinear", FILTER),
    },
    "affine": {
        "degrees": (10.0, f"{ANGLE} -360 <= low <= high <= 360"),
        "translate": ((0.1, 0.1), "a fraction from 0 to 1, or two of them (of the width, of the height)"),
        "scale": ((0.9, 1.1), "a pair (low, high) with 0 < low <= high"),
        "shear": (0.0, f"{ANGLE} -89 <= low <= high <= 89"),
        "fill": (0.0, LEVEL),
        "interpolation": ("bilinear", FILTER),
    },
    "color_jitter": {
        "brightness": (0.0, FACTOR),
        "contrast": (0.0, FACTOR),
        "saturation": (0.0, FACTOR),
        "hue": (0.0, f"{ANGLE} -0.5 <= low <= high <= 0.5"),
    },
    "grayscale": {"p": (0.1, PROBABILITY)},
    "cutout": {"size": (8, "a whole number from 1"), "value": (0.0, LEVEL)},
    "random_erasing": {
        "p": (0.5, PROBABILITY),
        "scale": ((0.02, 0.33), "a pair (low, high) with 0 < low <= high <= 1"),
        "ratio": ((0.3, 3.3), "a pair (low, high) with 0 < low <= high"),
        "value": (0.0, f"{LEVEL}, or 'random'"),
    },
    "mixup": {"alpha": (0.2, "a number above 0"), "p": (1.0, PROBABILITY)},
    "cutmix": {"alpha": (1.0, "a number above 0"), "p": (1.0, PROBABILITY)},
    "rand_augment": {
        "num_ops": (2, "a whole number from 1 to 10"),
        "magnitude": (9, "a whole number from 0"),
        "num_bins": (31, "a whole number from 2"),
        "fill": (0.0, LEVEL),
        "interpolation": ("nearest", FILTER),
    },
    "trivial_augment": {
        "num_bins": (31, "a whole number from 2"),
        "fill": (0.0, LEVEL),
        "interpolation": ("nearest", FILTER),
    },
}


def test_defaults_and_ranges_stay():
    """A config that leaves an option out means the value written here, today and when its run is repeated."""
    described = {
        entry["name"]: {option["name"]: (option["default"], option["valid"]) for option in entry["options"]}
        for entry in augment.describe()
    }
    assert described == OPTIONS


@pytest.mark.parametrize(
    ("valid", "wrong"),
    [
        (("random_crop(padding=0)",), ("random_crop(padding=-1)", "random_crop(padding=True)")),
        (("cutout(size=1)",), ("cutout(size=0)", "cutout(size=1.5)", "cutout(size=False)")),
        (("rand_augment(num_ops=1)", "rand_augment(num_ops=10)"), ("rand_augment(num_ops=0)",)),
        (("rand_augment(magnitude=30)",), ("rand_augment(num_ops=11)", "rand_augment(magnitude=31)")),
        (("grayscale(p=0)", "grayscale(p=1)"), ("grayscale(p=1.01)", "grayscale(p=-0.01)", "grayscale(p=True)")),
        (("mixup(alpha=0.001)",), ("mixup(alpha=0)", "mixup(alpha='1')", "mixup(alpha=1e999)")),
        (
            ("cutout(value=1)", "cutout(value=(0, 1))"),
            ("cutout(value=1.5)", "cutout(value=(0, 1.5))", "cutout(value=())"),
        ),
        (("random_erasing(value='random')",), ("cutout(value='random')", "random_erasing(value='noise')")),
        (
            ("affine(translate=0)", "affine(translate=(0, 1))"),
            ("affine(translate=(0, 2))", "affine(translate=(0, 0, 0))"),
        ),
        (("affine(scale=(1, 1))",), ("affine(scale=(0, 1))", "affine(scale=1)", "affine(scale=(2, 1))")),
        (("random_erasing(scale=(1, 1))",), ("random_erasing(scale=(0.5, 1.5))", "random_erasing(scale=(1, 1, 1))")),
        (("color_jitter(hue=0.5)",), ("color_jitter(hue=0.6)", "color_jitter(hue=-0.1)", "color_jitter(hue=(0, 'x'))")),
        (("color_jitter(contrast=(0, 0))",), ("color_jitter(contrast=-1)", "color_jitter(contrast=(-1, 1))")),
        (
            ("random_resized_crop(size=(1, 2))",),
            ("random_resized_crop(size=0)", "random_resized_crop(size=(1, 2, 3))", "random_resized_crop(size=1.5)"),
        ),
    ],
)
def test_ranges_include_their_ends_and_nothing_beyond(valid, wrong):
    for spec in valid:
        augment.parse(spec)
    for spec in wrong:
        with pytest.raises(ValueError, match="is out of range"):
            augment.parse(spec)


def test_numbers_stand_for_pairs():
    assert augment.parse("affine(translate=0.25)").translate == (0.25, 0.25)
    assert augment.parse("random_resized_crop(size=(3, 5))").size == (3, 5)
    assert augment.parse("color_jitter(brightness=0.25)").brightness == (0.75, 1.25)
    assert augment.parse("rotation(degrees=30)").degrees == (-30, 30)


def test_pairs_need_not_be_square():
    low = jnp.asarray(photos(4)[:, :8, :12])
    high = low.repeat(2, axis=1).repeat(2, axis=2)
    run = augment.build_paired(("horizontal_flip(p=1)",))
    made = run(jax.random.key(0), {"low": low, "high": high})
    np.testing.assert_array_equal(made["high"], high[:, :, ::-1])
    np.testing.assert_array_equal(made["low"], low[:, :, ::-1])
    for wrong in (high[:, :-1], high[:, :, :-1], high[:, :, :, :1], high[:-1]):
        with pytest.raises(ValueError, match="Paired images"):
            run(jax.random.key(0), {"low": low, "high": wrong})


def test_flips_alternate_between_epochs():
    given = batch(64)
    given["index"] = np.arange(100, 164, dtype=np.int32)
    flip = compiled(("alternating_flip",))
    epochs = [
        np.asarray(flip(jax.random.key(epoch), {**given, "epoch": np.full(64, epoch, np.int32)})["image"])
        for epoch in range(3)
    ]
    mirrored = (epochs[0] == given["image"][:, :, ::-1]).all(axis=(1, 2, 3))
    assert 16 < mirrored.sum() < 48
    np.testing.assert_array_equal(epochs[0][~mirrored], given["image"][~mirrored])
    np.testing.assert_array_equal(epochs[1], epochs[0][:, :, ::-1])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    # The side belongs to the image, not to its place in the batch.
    rolled = {name: np.roll(value, 5, axis=0) for name, value in given.items()} | {"epoch": np.zeros(64, np.int32)}
    np.testing.assert_array_equal(flip(jax.random.key(9), rolled)["image"], np.roll(epochs[0], 5, axis=0))
    with pytest.raises(ValueError, match="does not tell augmentations the epoch"):
        compiled(("alternating_flip",))(jax.random.key(0), given)


def test_every_operation_has_a_share_that_may_change_during_training():
    given = batch(256)
    for share, at, expected in ((0.25, 0.5, 0.25), ((0, 1), 0.0, 0.0), ((0, 1), 0.75, 0.75), ((1, 0), 1.0, 0.0)):
        made = compiled((f"cutout(size=30, share={share})",))(jax.random.key(0), {**given, "progress": at})
        covered = (np.asarray(made["image"]) == 0).all(axis=(1, 2, 3)).mean()
        assert covered == pytest.approx(expected, abs=0.09), (share, at)
    made = compiled(("mixup(alpha=5, share=(0.5, 0.5))",))(jax.random.key(0), {**given, "progress": 0.3})
    same = (np.asarray(made["image"]) == given["image"]).all(axis=(1, 2, 3))
    assert 0.4 < same.mean() < 0.6
    np.testing.assert_array_equal(np.asarray(made["target"])[same], np.eye(5)[given["label"]][same])
    assert augment.mixes("mixup(share=0.5)") and not augment.mixes("cutout(share=0.5)")
    assert augment.name_of(augment.parse("cutout(share=0.5)")) == "cutout"
    with pytest.raises(ValueError, match="share must be a fraction from 0 to 1, or two of them"):
        augment.parse("cutout(share=2)")
    with pytest.raises(ValueError, match="does not tell augmentations the progress"):
        compiled(("cutout(share=(0, 1))",))(jax.random.key(0), {**given, "index": given["label"]})
    # A share that does not change needs none.
    made = compiled(("cutout(size=30, share=0.25)",))(jax.random.key(0), {**given, "index": given["label"]})
    assert (np.asarray(made["image"]) == 0).all(axis=(1, 2, 3)).mean() == pytest.approx(0.25, abs=0.09)

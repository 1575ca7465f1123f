"""Reduction and PSNR against Pillow and NumPy, aligned pairs, and the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import config as config_lib
from vision_jax.data import datasets
from vision_jax.metrics import image_quality
from vision_jax.tasks import base
from vision_jax.tasks.super_resolution import SuperResolution

pytestmark = pytest.mark.compiled_quickly

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)


def make(**options):
    config = config_lib.default("super_resolution")
    config.data.name, config.model.name = "photo_tiles", "srcnn"
    config.model.srcnn = dict(features=(4, 4))
    for name, value in options.items():
        config.super_resolution[name] = value
    return SuperResolution(config, datasets.load(config.data), DURATIONS)


@pytest.mark.parametrize("scale", [2, 4])
def test_reduction_and_enlargement_are_pillow_s_bicubic(scale):
    task = make(scale=scale)
    high = task.dataset.splits["test"][3]["image"]
    low = np.asarray(base.to_bytes(task.reduce(base.to_unit(jnp.asarray(high)[None]))))[0]
    side = high.shape[0]
    expected = np.asarray(Image.fromarray(high).resize((side // scale, side // scale), Image.Resampling.BICUBIC))
    assert np.abs(low.astype(int) - expected.astype(int)).max() <= 1
    up = np.asarray(base.to_bytes(task.enlarge(base.to_unit(jnp.asarray(expected)[None]))))[0]
    again = np.asarray(Image.fromarray(expected).resize((side, side), Image.Resampling.BICUBIC))
    assert np.abs(up.astype(int) - again.astype(int)).max() <= 1


def test_crops_are_windows_of_their_image():
    task = make(patch_size=16)
    images = jnp.asarray(np.stack([task.dataset.splits["train"][i]["image"] for i in range(5)]))
    crops = np.asarray(task._crop(jax.random.key(0), images))
    for image, crop in zip(np.asarray(images), crops, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16), (0, 1)).transpose(0, 1, 3, 4, 2)
        assert (windows == crop).all((2, 3, 4)).any()


def test_a_step_lowers_the_loss_of_its_batch():
    task = make()
    state = jax.jit(task.init)(jax.random.key(0))
    batch = {"image": jnp.asarray(np.stack([task.dataset.splits["train"][i]["image"] for i in range(8)]))}
    step = jax.jit(task.train_step)
    losses = []
    for _ in range(5):
        state, metrics = step(state, {}, batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"patch_size 33 is not a multiple of config\.super_resolution\.scale=2"):
        make(patch_size=33)
    with pytest.raises(ValueError, match="larger than the images of photo_tiles, 64x64"):
        make(patch_size=128)


@pytest.fixture(scope="module")
def evaluated():
    """A task, its first state, a batch whose last row is padding, and what an evaluation makes of it."""
    task = make(scale=2)
    state = jax.jit(task.init)(jax.random.key(0))
    images = np.stack([task.dataset.splits["test"][i]["image"] for i in range(3)])
    batch = {"image": jnp.asarray(images), "mask": jnp.asarray([1.0, 1.0, 0.0])}
    return task, state, batch, jax.device_get(jax.jit(task.eval_step)(state, {}, batch, jax.random.key(0)))


def test_evaluation_measures_the_network_and_bicubic_interpolation_on_every_image(evaluated):
    task, state, batch, (sums, outputs) = evaluated
    psnr = "psnr_y_x2_shave2"
    assert task.metrics == {psnr: True, f"bicubic_{psnr}": True, f"gain_{psnr}": True}
    high = base.to_unit(batch["image"])
    low = task.reduce(high)
    for name, found in ((psnr, task.restore(state, low)), (f"bicubic_{psnr}", task.enlarge(low))):
        expected = np.minimum(image_quality.psnr_y(found, high, shave=2), 100.0)
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4)
        assert sums[name] == pytest.approx(outputs[name][:2].sum(), rel=1e-6)
    summary = task.summarize({name: np.float32(value) for name, value in sums.items()} | {"count": np.int32(2)})
    assert summary[psnr] == pytest.approx(sums[psnr] / 2)
    assert summary[f"gain_{psnr}"] == pytest.approx((sums[psnr] - sums[f"bicubic_{psnr}"]) / 2, abs=1e-5)


def test_a_flat_image_counts_a_hundred_decibels():
    task = make(scale=2)
    state = jax.jit(task.init)(jax.random.key(0))
    batch = {"image": jnp.full((1, 64, 64, 3), 128, jnp.uint8), "mask": jnp.ones(1)}
    _, outputs = task.eval_step(state, {}, batch, jax.random.key(0))
    assert float(outputs["bicubic_psnr_y_x2_shave2"][0]) == 100.0


def test_pictures_are_four_versions_of_the_same_images(evaluated):
    task, state, batch, _ = evaluated
    pictures = jax.device_get(task.pictures(state, {}, batch))
    low = np.asarray(base.to_bytes(task.reduce(base.to_unit(batch["image"]))))
    assert set(pictures) == {"low_resolution", "bicubic", "restored", "original"}
    np.testing.assert_array_equal(pictures["low_resolution"], low.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(pictures["bicubic"], base.to_bytes(task.enlarge(base.to_unit(jnp.asarray(low)))))
    np.testing.assert_array_equal(
        pictures["restored"], base.to_bytes(task.restore(state, base.to_unit(jnp.asarray(low))))
    )
    np.testing.assert_array_equal(pictures["original"], batch["image"])
    assert all(x.dtype == np.uint8 and x.shape == (3, 64, 64, 3) for x in pictures.values())


def test_the_loss_is_the_mean_squared_error_of_the_crops(evaluated):
    task, state, batch, _ = evaluated
    _, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(5))
    crop_key, _ = jax.random.split(jax.random.key(5))
    high = base.to_unit(task._crop(crop_key, batch["image"]))
    output = task.model.apply(state.networks["model"].variables(), task.enlarge(task.reduce(high)), train=True)
    assert high.shape == (3, 32, 32, 3)
    assert float(metrics["loss"]) == pytest.approx(float(jnp.mean((output - high) ** 2)), rel=1e-4)
    assert float(metrics["learning_rate"]) == pytest.approx(task.config.optimizer.learning_rate)


def test_crops_lie_anywhere_equally_often():
    task = make(patch_size=16)
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    images = np.broadcast_to(np.stack([rows, columns, rows], -1).astype(np.uint8), (600, 64, 64, 3))
    corners = np.asarray(task._crop(jax.random.key(1), jnp.asarray(images)))[:, 0, 0, :2]
    for axis in (0, 1):
        counts = np.bincount(corners[:, axis], minlength=49)
        assert len(counts) == 49 and counts.min() > 0 and counts.max() < 40  # Of 600 on 49 places.


@pytest.mark.parametrize(("bias", "expected"), [(5.0, 1.0), (-5.0, 0.0)])
def test_restored_images_stay_in_range(bias, expected):
    task = make(scale=2)
    state = jax.jit(task.init)(jax.random.key(0))
    network = state.networks["model"]
    head = {**network.params["conv3"], "bias": jnp.full(3, bias)}
    network = network.replace(params={**network.params, "conv3": head})
    restored = task.restore(state.replace(networks={"model": network}), jnp.full((1, 8, 8, 3), 0.5))
    np.testing.assert_array_equal(restored, np.full((1, 16, 16, 3), expected, np.float32))

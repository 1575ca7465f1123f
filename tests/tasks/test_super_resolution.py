"""Reduction and PSNR against Pillow and NumPy, aligned pairs, and the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import config as config_lib
from vision_jax.data import datasets
from vision_jax.tasks import base
from vision_jax.tasks.super_resolution import SuperResolution

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

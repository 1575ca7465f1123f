"""Reduction against Pillow, pairs that stay aligned, what is measured, and the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import config as config_lib
from vision_jax import parallel, train
from vision_jax import run as run_lib
from vision_jax.data import datasets
from vision_jax.data.pipeline import Loader
from vision_jax.metrics import image_quality
from vision_jax.tasks import base, upscaling
from vision_jax.tasks.super_resolution import SuperResolution
from vision_jax.utils.options import ConfigError

DURATIONS = base.Durations(total=10, warmup=0, log=1, evaluate=1, save=0)
NETWORKS = {
    "srcnn": dict(features=(4, 4), kernel_sizes=(3, 1, 3)),
    "light_sr": dict(features=2, depth=0, expansion=0),
}


def make(network="srcnn", model=None, **options):
    config = config_lib.default("super_resolution")
    config.data.name, config.model.name = "photo_tiles", network
    config.model[network] = dict(NETWORKS[network]) | (model or {})
    for name, value in options.items():
        section, _, option = name.rpartition("__")
        (config.super_resolution[section] if section else config.super_resolution)[option] = value
    return SuperResolution(config, datasets.load(config.data), DURATIONS)


def loader(task, split="train"):
    return task.loader(None, Loader(task.dataset.splits[split], parallel.make_mesh(), on_device="never"))


def batch_of(task, size=8):
    return {name: jnp.asarray(x) for name, x in next(loader(task).train(size, seed=0)).items()}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reduction_and_enlargement_are_pillow_s_bicubic(scale):
    high = make().dataset.splits["test"][3]["image"][:60, :48]
    low = np.asarray(base.to_bytes(upscaling.reduce(base.to_unit(jnp.asarray(high)[None]), scale)))[0]
    expected = np.asarray(Image.fromarray(high).resize((48 // scale, 60 // scale), Image.Resampling.BICUBIC))
    assert np.abs(low.astype(int) - expected.astype(int)).max() <= 1
    up = np.asarray(base.to_bytes(upscaling.enlarge(base.to_unit(jnp.asarray(expected)[None]), scale)))[0]
    again = np.asarray(Image.fromarray(expected).resize((48, 60), Image.Resampling.BICUBIC))
    assert np.abs(up.astype(int) - again.astype(int)).max() <= 1


@pytest.mark.parametrize("channels", ["rgb", "y"])
def test_host_and_device_make_the_same_low_resolution(channels):
    task = make(channels=channels, scale=3, patch_size=24)
    image = task.dataset.splits["train"][7]["image"][:, :50]
    ((low, high),) = task.pairs(image)
    planes = task.planes(jnp.asarray(image)[None])
    assert low.dtype == np.uint8 and high.shape == (63, 48, 1 if channels == "y" else 3)
    np.testing.assert_array_equal(high, base.to_bytes(planes)[0])
    difference = np.abs(low - 255.0 * np.asarray(task.reduce(planes))[0])
    assert difference.max() < 1.01 and np.mean(difference > 0.5) < 0.01  # Halves, rounded either way.


def test_low_resolution_that_is_not_rounded():
    rounded, exact = make(), make(rounded=False)
    high = base.to_unit(jnp.asarray(rounded.dataset.splits["train"][7]["image"])[None])
    assert set(np.unique(np.asarray(rounded.reduce(high) * 255.0) % 1.0).round(3)) <= {0.0, 1.0}
    difference = np.abs(np.asarray(rounded.reduce(high) - exact.reduce(high))) * 255.0
    assert 0.1 < difference.mean() < 0.5 + 1e-3
    ((low, _),) = exact.pairs(rounded.dataset.splits["train"][7]["image"])
    np.testing.assert_allclose(low, exact.reduce(high)[0], atol=1e-6)


def test_shrunk_copies_are_added_unless_they_are_smaller_than_a_patch():
    task = make(shrink=(0.75, 0.25))
    pairs = task.pairs(task.dataset.splits["train"][0]["image"])
    assert [high.shape[:2] for _, high in pairs] == [(64, 64), (48, 48)]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_lowers_the_loss_of_its_batch(network):
    task = make(network)
    state = jax.jit(task.init)(jax.random.key(0))
    batch = batch_of(task)
    step = jax.jit(task.train_step)
    losses = []
    for _ in range(5):
        state, metrics = step(state, {}, batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("network", "inexact"), [("srcnn", 4), ("light_sr", 0)])
def test_the_loss_is_that_of_the_patches_without_their_border(network, inexact):
    losses = dict(losses__mse=2.0, losses__l1=0.5)
    task = make(network, border=3, **losses)
    state = jax.jit(task.init)(jax.random.key(0))
    batch = batch_of(task, 3)
    _, metrics = jax.jit(task.train_step)(state, {}, batch, jax.random.key(5))
    low, high = (base.to_unit(batch[name]) for name in ("low", "high"))
    seen = low
    if network == "srcnn":
        seen = upscaling.enlarge(low, 2)[:, 4:-4, 4:-4]
    restored = task.model.apply(state.networks["model"].variables(), seen, train=True)
    cut = inexact + 3
    error = np.asarray(restored[:, 3:-3, 3:-3] - high[:, cut:-cut, cut:-cut])
    assert float(metrics["mse_loss"]) == pytest.approx((error**2).mean(), rel=1e-4)
    assert float(metrics["l1_loss"]) == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(2.0 * (error**2).mean() + 0.5 * np.abs(error).mean(), rel=1e-4)
    assert float(metrics["learning_rate"]) == pytest.approx(task.config.optimizer.learning_rate)


def test_what_bicubic_interpolation_makes_of_a_patch_is_what_it_makes_of_the_picture():
    task = make(rounded=False)
    ((low, _),) = task.pairs(task.dataset.splits["train"][2]["image"])
    whole = upscaling.enlarge(jnp.asarray(low)[None], 2)
    part = upscaling.enlarge(jnp.asarray(low)[None, 5:21, 6:22], 2)
    cut = task.inexact
    np.testing.assert_allclose(
        part[:, cut:-cut, cut:-cut], whole[:, 10 + cut : 42 - cut, 12 + cut : 44 - cut], atol=1e-6
    )
    assert not np.allclose(part, whole[:, 10:42, 12:44], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(patch_size=33), r"patch_size=33 is not a multiple of config\.super_resolution\.scale=2"),
        (dict(patch_size=128), "larger than the images of photo_tiles, 64x64"),
        (dict(border=12), "Nothing is left of patches .* and the 4 pixels that bicubic interpolation needs"),
        (dict(losses__mse=0.0), r"All weights of config\.super_resolution\.losses are 0"),
        (dict(channels="y", losses__perceptual=1.0), "compares RGB images"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_a_network_that_restores_nothing_is_refused():
    config = config_lib.default("super_resolution")
    config.data.name, config.model.name = "photo_tiles", "cnn"
    with pytest.raises((ConfigError, ValueError), match="cnn"):
        SuperResolution(config, datasets.load(config.data), DURATIONS)


@pytest.fixture(scope="module", params=["rgb", "y"])
def evaluated(request):
    """A task, its first state, a batch whose last row is padding, and what an evaluation makes of it."""
    task = make(scale=2, channels=request.param, model=dict(residual=True))
    state = jax.jit(task.init)(jax.random.key(0))
    images = np.stack([task.dataset.splits["test"][i]["image"] for i in range(3)])
    batch = {"image": jnp.asarray(images), "mask": jnp.asarray([1.0, 1.0, 0.0])}
    return task, state, batch, jax.device_get(jax.jit(task.eval_step)(state, {}, batch, jax.random.key(0)))


def test_evaluation_measures_the_network_and_bicubic_interpolation_on_every_image(evaluated):
    task, state, batch, (sums, outputs) = evaluated
    psnr, ssim = "psnr_y_x2_shave2", "ssim_y_x2_shave2"
    names = [psnr, f"bicubic_{psnr}", f"gain_{psnr}", ssim, f"bicubic_{ssim}"]
    if not task.luma:
        names += ["psnr_rgb_x2_shave2", "bicubic_psnr_rgb_x2_shave2"]
        enlarged = np.round(np.asarray(upscaling.enlarge(task.reduce(task.planes(batch["image"])), 2)) * 255.0)
        errors = ((enlarged - np.asarray(batch["image"], np.float64))[:, 2:-2, 2:-2] ** 2).mean((1, 2, 3))
        np.testing.assert_allclose(outputs[names[-1]], 10.0 * np.log10(255.0**2 / errors), rtol=1e-3)
    assert task.metrics == dict.fromkeys(names, True) and list(task.metrics) == names
    luma = np.asarray(image_quality.luma(base.to_unit(batch["image"])))
    if task.luma:
        luma = np.round(luma)
    low = task.reduce(task.planes(batch["image"]))
    for prefix, found in (("", task.restore(state, low)), ("bicubic_", upscaling.enlarge(low, 2))):
        found = np.round(np.asarray(found) * 255.0) / 255.0
        found = 255.0 * found[..., 0] if task.luma else np.asarray(image_quality.luma(jnp.asarray(found)))
        errors = ((found - luma)[:, 2:-2, 2:-2] ** 2).mean((1, 2))
        np.testing.assert_allclose(outputs[prefix + psnr], 10.0 * np.log10(255.0**2 / errors), rtol=1e-3)
        assert sums[prefix + psnr] == pytest.approx(outputs[prefix + psnr][:2].sum(), rel=1e-6)
        assert np.all((outputs[prefix + ssim] > 0.5) & (outputs[prefix + ssim] < 1.0))
    summary = task.summarize({name: np.float32(value) for name, value in sums.items()} | {"count": np.int32(2)})
    assert list(summary) == list(task.metrics)
    assert summary[psnr] == pytest.approx(sums[psnr] / 2)
    assert summary[f"gain_{psnr}"] == pytest.approx((sums[psnr] - sums[f"bicubic_{psnr}"]) / 2, abs=1e-5)


def test_figures_come_with_their_protocol(evaluated):
    task, _, _, (_, outputs) = evaluated
    (evaluator,) = (e for e in task.evaluators() if e.name == "test")
    collector = evaluator.collector()
    collector.add({name: values[:2] for name, values in outputs.items()})
    collector.add({name: values[2:] for name, values in outputs.items()})
    receipt = collector.final().receipts["psnr_y_x2_shave2"]
    assert receipt["value"] == pytest.approx(outputs["psnr_y_x2_shave2"].mean()) and receipt["examples"] == 3
    protocol = receipt["protocol"]
    assert (protocol["scale"], protocol["shave"], protocol["channel"]) == (2, 2, "y")
    assert protocol["planes"] == task.luma and protocol["rounded"] and "antialiased" in protocol["reduction"]


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
    error = pictures.pop("error")
    expected = 8.0 * np.abs(pictures["restored"].astype(float) - pictures["original"]).mean(-1, keepdims=True)
    np.testing.assert_allclose(error, np.minimum(expected, 255.0), atol=5.0)  # The restored is rounded.
    assert set(pictures) == {"low_resolution", "bicubic", "restored", "original"}
    np.testing.assert_array_equal(pictures["low_resolution"], low.repeat(2, axis=1).repeat(2, axis=2))
    enlarged = base.to_bytes(upscaling.enlarge(base.to_unit(jnp.asarray(low)), 2))
    np.testing.assert_array_equal(pictures["bicubic"], enlarged)
    np.testing.assert_array_equal(pictures["original"], batch["image"])
    assert all(x.dtype == np.uint8 and x.shape == (3, 64, 64, 3) for x in pictures.values())
    # The network starts as the identity, so that in color, too, it restores what bicubic interpolation does.
    assert np.abs(pictures["restored"].astype(int) - pictures["bicubic"]).max() <= 3


@pytest.mark.parametrize(("bias", "expected"), [(5.0, 1.0), (-5.0, 0.0)])
def test_restored_images_stay_in_range(bias, expected):
    task = make(scale=2)
    state = jax.jit(task.init)(jax.random.key(0))
    network = state.networks["model"]
    head = {**network.params["conv3"], "bias": jnp.full(3, bias)}
    network = network.replace(params={**network.params, "conv3": head})
    restored = task.restore(state.replace(networks={"model": network}), jnp.full((1, 8, 8, 3), 0.5))
    np.testing.assert_array_equal(restored, np.full((1, 16, 16, 3), expected, np.float32))


def test_a_border_is_restored_as_if_the_image_went_on():
    task = make("light_sr")
    state = jax.jit(task.init)(jax.random.key(0))
    flat = task.restore(state, jnp.full((1, 10, 10, 3), 0.4))
    inner = np.asarray(flat)[0].reshape(10, 2, 10, 2, 3)
    np.testing.assert_allclose(inner, np.broadcast_to(inner[5:6, :, 5:6], inner.shape), atol=1e-6)


def test_a_run_on_pictures_of_mixed_sizes_is_tested_on_the_sets_beside_them(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {"T91": [(40, 53), (61, 37), (36, 36), (48, 40), (44, 50)], "Set5": [(45, 38), (33, 52)]}
    for folder, shapes in sizes.items():
        (tmp_path / folder).mkdir()
        for number, (height, width) in enumerate(shapes):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((width, height))
            image.save(tmp_path / folder / f"{number}_HR.png")
    (tmp_path / "Set5" / "0_LR.png").write_bytes((tmp_path / "Set5" / "0_HR.png").read_bytes())
    config = config_lib.default("super_resolution")
    config.data.name, config.data.data_dir = "t91", str(tmp_path)
    config.data.val_fraction, config.data.test_fraction, config.data.batch_size = 0.2, 0.0, 2
    config.model.name, config.model.srcnn = "srcnn", dict(NETWORKS["srcnn"])
    config.super_resolution.channels, config.super_resolution.patch_size = "y", 24
    config.train.steps, config.eval.every_steps, config.log.tensorboard = 2, 1, False
    with run_lib.build(config, tmp_path / "run") as run:
        assert {name: len(source) for name, source in run.dataset.splits.items()} == {"train": 4, "val": 1, "Set5": 2}
        results = train.train(run)
    outputs = np.load(tmp_path / "run" / "outputs" / "Set5.npz")
    assert outputs["index"].tolist() == [0, 1]
    mean = results["metrics"]["Set5/bicubic_psnr_y_x2_shave2"]
    assert mean == pytest.approx(outputs["bicubic_psnr_y_x2_shave2"].mean(), rel=1e-6)
    # Each picture at its own size, as it is measured alone.
    for number in (0, 1):
        image = jnp.asarray(np.asarray(Image.open(tmp_path / "Set5" / f"{number}_HR.png")))[None]
        high = run.task.planes(image)
        expected = image_quality.psnr(upscaling.enlarge(run.task.reduce(high), 2), high, 2)
        np.testing.assert_allclose(outputs["bicubic_psnr_y_x2_shave2"][number], expected[0], rtol=1e-4)
    assert results["receipts"]["Set5/bicubic_psnr_y_x2_shave2"]["value"] == pytest.approx(mean, rel=1e-6)
    pictures = np.load(tmp_path / "run" / "outputs" / "Set5_pictures.npz")
    assert pictures["restored"].shape == (2, 32, 38, 3)  # The middle that both have.
    assert "Pictures: Set5" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_without_the_pictures_a_sentence_says_where_they_belong(tmp_path):
    config = config_lib.default("super_resolution")
    config.data.name, config.data.data_dir = "t91", str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*T91\. Put the 91 training pictures there"):
        datasets.load(config.data)

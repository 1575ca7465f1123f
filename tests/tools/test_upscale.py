"""Enlarging files: tiles leave no trace, transparency and color profile stay, folders, and what is refused."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageCms

import vision_jax
from tests import untrained_runs
from vision_jax import inference, models
from vision_jax import run as run_lib
from vision_jax.ops import resize
from vision_jax.tools import upscale

SMALL = {
    "srcnn": dict(features=(4, 2), kernel_sizes=(5, 1, 3)),
    "fsrcnn": dict(features=4, shrunk=2, mappings=1),
    "espcn": dict(features=(4, 2)),
    "light_sr": dict(features=2, depth=1, expansion=0, collapsed=True),
}


def network(name, channels=3, scale=2):
    """A small network with random weights large enough that each pixel matters."""
    model = models.build(name, channels=channels, scale=scale, **SMALL[name])
    rng = np.random.default_rng(0)
    shapes = models.shapes(model, (16, 16, channels))
    variables = jax.tree.map(lambda leaf: rng.normal(0.0, 0.2, leaf.shape).astype(np.float32), shapes)
    return inference.ImageUpscaler("a test", model, variables, luma=channels == 1)


def photo(height=61, width=75, channels=3):
    small = np.random.default_rng(1).integers(0, 256, (height // 4, width // 4, channels)).astype(np.float32)
    return np.clip(resize.resize_on_host(small, (height, width), "pillow_bicubic"), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_tiles_leave_no_trace(name, scale):
    upscaler, image, told = network(name, scale=scale), photo(), []
    whole = upscaler(image, tile=1000)
    tiled = upscaler(image, tile=30, seen=lambda done, total: told.append((done, total)))
    assert whole.shape == (61 * scale, 75 * scale, 3) and whole.std() > 5
    # Equal but for sums that are taken in another order, and whose last digit decides a rounding.
    different = whole != tiled
    assert np.abs(whole.astype(int) - tiled).max() <= 1 and different.mean() < 1e-3
    assert told[0][1] == len(told) >= 9 and told[-1] == (len(told), len(told))


def test_too_little_around_would_show():
    """The same with a margin that is one pixel too small: the test above can fail."""
    from vision_jax.tasks import upscaling

    upscaler, image = network("light_sr"), photo()
    whole, margin = upscaler(image, tile=1000), upscaling.margin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upscaling, "margin", lambda model: margin(model) - 1)
        assert (upscaler(image, tile=30) != whole).mean() > 1e-3


@pytest.mark.parametrize(("n", "tile", "margin"), [(100, 30, 4), (31, 30, 4), (30, 30, 14), (57, 9, 4), (5, 30, 7)])
def test_tiles_cover_every_pixel_once_with_their_margin(n, tile, margin):
    spans = list(inference.upscaler._spans(n, tile, margin))
    assert [k for span in spans for k in range(span.first, span.last)] == list(range(n))
    for span in spans:
        assert span.end - span.start == min(tile, n) and 0 <= span.start and span.end <= n
        assert span.start == 0 or span.first - span.start >= margin
        assert span.end == n or span.end - span.last >= margin


def test_scales_other_than_the_network_s():
    upscaler, image = network("espcn"), photo(20, 24)
    assert upscaler(image, 4).shape == (80, 96, 3)
    assert upscaler(image, 1.5).shape == (30, 36, 3)
    np.testing.assert_array_equal(upscaler(image, 4), upscaler(upscaler(image)))
    with pytest.raises(ValueError, match="has to be above 1"):
        upscaler(image, 1.0)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 1 or 3\]; found float32"):
        upscaler(image.astype(np.float32))
    with pytest.raises(ValueError, match="Tiles of 8 pixels are too small"):
        upscaler(image, tile=8)


def test_gray_is_restored_like_color_without_color():
    gray = photo(20, 24, 1)
    by_luma, by_color = network("light_sr", channels=1), network("espcn")
    for upscaler in (by_luma, by_color):
        large, color = upscaler(gray), upscaler(gray.repeat(3, 2))
        assert large.shape == (40, 48, 1)
        assert np.abs(large.astype(int) - color.mean(2, keepdims=True)).max() <= 1.5


@pytest.fixture(scope="module")
def sr_folder(tmp_path_factory, load_config):
    """The workdir of a run on luma with one checkpoint, of its first state."""
    return untrained_runs.write(load_config("light_sr_t91:smoke"), tmp_path_factory.mktemp("sr_run"), step=2)


def test_a_run_s_network_is_deployed_as_it_was_evaluated(sr_folder):
    upscaler = inference.upscaler_of_run(sr_folder)
    assert upscaler.model.collapsed and upscaler.luma and upscaler.scale == 2
    with run_lib.build(inference.open_run(sr_folder).config, sr_folder) as run:
        state = run.checkpoints.restore(2, run.abstract_state()).state
        image = run.dataset.splits["val"][0]["image"]
        pictures = run.task.pictures(state, {}, {"image": image[None]})
        low = np.asarray(pictures["low_resolution"])[0, ::2, ::2]
        assert np.abs(upscaler(low).astype(int) - np.asarray(pictures["restored"])[0]).max() <= 2


def test_from_python_it_is_three_lines(sr_folder, tmp_path):
    Image.fromarray(photo(20, 24)).save(tmp_path / "a.png")
    net = vision_jax.load(sr_folder)
    np.testing.assert_array_equal(net.upscale(tmp_path / "a.png"), net.upscale(photo(20, 24)))
    assert net.upscale(photo(20, 24), 1.5).shape == (30, 36, 3)


def test_transparency_and_color_profile_stay(sr_folder, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = photo(20, 24, 1)
    source, out = tmp_path / "a.png", tmp_path / "new" / "b.png"
    Image.fromarray(np.concatenate([photo(20, 24), alpha], 2)).save(source, icc_profile=profile)
    assert upscale.run([str(source), str(out)], workdir=str(sr_folder)) == 0
    with Image.open(out) as large:
        assert (large.mode, large.size) == ("RGBA", (48, 40)) and large.info["icc_profile"] == profile
        expected = np.asarray(Image.fromarray(alpha[..., 0]).resize((48, 40), Image.Resampling.BICUBIC))
        assert (
            np.abs(np.asarray(large)[..., 3].astype(int) - expected).max() <= 2
        )  # Pillow rounds to 8 bits in between.
    assert upscale.run([str(source), str(tmp_path / "b.jpg")], workdir=str(sr_folder)) == 2


def test_folders_are_enlarged_and_broken_files_reported(sr_folder, pictures, tmp_path, capsys):
    out = tmp_path / "large"
    assert upscale.run([str(pictures), str(out)], workdir=str(sr_folder), scale=1.5) == 1
    shown = capsys.readouterr()
    assert "broken.jpg" in shown.err and "1 of 6 pictures could not be enlarged" in shown.err
    sizes = {"a": (75, 60), "b": (60, 75), "more/c": (50, 50), "more/d": (48, 96), "more/e": (45, 90)}
    for name, size in sizes.items():
        with Image.open(out / f"{name}.png") as image:
            assert image.size == size and image.mode == ("L" if name == "more/c" else "RGB")
    assert f"{out}/more/e.png: 30x60 -> 45x90" in shown.out


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {}, "expected IN and OUT"),
        (["a", "b"], {}, "which network"),
        (["nowhere", "b.png"], {"workdir": "x"}, "there is no file or folder nowhere"),
    ],
)
def test_wrong_commands_are_sentences(arguments, options, message, capsys):
    assert upscale.run(arguments, **{"workdir": None} | options) == 2
    assert message in capsys.readouterr().err


def test_destinations(tmp_path):
    for name in ("in/a.jpg", "in/more/a.png", "in/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    folder, out = tmp_path / "in", tmp_path / "out"
    found = upscale.destinations(folder, out)
    assert found == [(folder / "a.jpg", out / "a.png"), (folder / "more" / "a.png", out / "more" / "a.png")]
    (folder / "a.webp").write_bytes(b"")
    with pytest.raises(ValueError, match="would both become"):
        upscale.destinations(folder, out)
    for source, target, message in (
        (folder, folder, "the folder of the pictures itself"),
        (folder, tmp_path / "out.png", "OUT has to be one, too"),
        (folder / "a.jpg", folder / "a.jpg", "the picture itself"),
        (folder / "a.jpg", out / "a.gif", "ends in '.gif'"),
        (folder / "more" / "..", tmp_path / "in", "itself"),
    ):
        with pytest.raises(ValueError, match=message):
            upscale.destinations(source, target)

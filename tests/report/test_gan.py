"""The page of a GAN from files alone: each picture is drawn of what the run kept, and left out where it kept none."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from PIL import Image

from vision_jax.analysis.record import Record
from vision_jax.metrics.receipt import Interval, Protocol, Receipt
from vision_jax.report import gan, page, run_page
from vision_jax.utils import files
from vision_jax.writers import pictures

RNG = np.random.default_rng(0)
EVIL = "<b>cat</b>"
STEPS = (1_000, 2_000, 30_000)


def images(count):
    return RNG.integers(0, 256, (count, 8, 8, 3), np.uint8)


PICTURES = {
    "samples": images(64),
    "real": images(64),
    "interpolation": images(16),
    "by_class": images(24),
    "nearest_samples": images(2),
    "nearest_training": images(6),
    "nearest_distance": np.array([[0.0, 12.5, 13.0], [101.25, 102.0, 103.0]]),
}


def receipt(metric, value, split="test", interval=None, **settings):
    protocol = Protocol("fid", "fid_inception, features", "ab12", 2048, "to 299", "toy", split, "cd34")
    return Receipt(metric, value, 10_000, 5_000, protocol, settings, interval).to_json()


RECEIPTS = {
    "test/fid10k": receipt("fid10k", 1.5, interval=Interval(1.25, 1.75, 50, 10_000)),
    "fid/fid5k": receipt("fid5k", 2.5, split="train"),
    "test/kid10k": receipt("kid10k", 0.25, subsets=100, size=1000),
}


@pytest.fixture
def workdir(tmp_path):
    """The files of a run that kept everything."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "report").mkdir()
    np.savez(tmp_path / "outputs" / "test_pictures.npz", fingerprint=np.array("x"), **PICTURES)
    results = {
        "task": "gan",
        "model": "dcgan",
        "data": "toy",
        "metrics": {"test/kid": 0.25},
        "parameters": 7,
        "checkpoint_step": 30_000,
        "training_seconds": 1.0,
        "evaluations": {"val": {}, "test": {}},
        "receipts": RECEIPTS,
    }
    files.write_json(tmp_path / "report" / "results.json", results)
    files.write_json(tmp_path / "dataset.json", {"class_names": [EVIL, "dog", "cow"]})
    files.write_json(tmp_path / "config.json", {"task": "gan"})
    files.write_json(tmp_path / "environment.json", {"command": "python", "folder": "/"})
    for step in STEPS:
        pictures.write(tmp_path / "pictures" / "val" / "samples" / f"{step:08d}.png", images(64))
    with open(tmp_path / "steps.jsonl", "w") as file:
        for step in range(1, 3001):
            row = {name: RNG.normal() for name in ("generator_loss", "discriminator_loss")}
            print(json.dumps({"step": step, **row}), file=file)
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for step in STEPS:
            names = ("real_accuracy", "fake_accuracy", "generator_gradient_norm", "discriminator_gradient_norm")
            print(json.dumps({"step": step, **{f"train/{name}": step / 7 for name in names}}), file=file)
    return tmp_path


def found(workdir):
    """Returns the sections by title."""
    return {section.title: section.blocks for section in gan.sections(Record(workdir), None)}


def pixels(workdir, name):
    with Image.open(workdir / "report" / f"{name}.png") as picture:
        return np.asarray(picture.convert("RGB"))


def enlarged(image, scale):
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


ALL = {
    "Losses": ["losses"],
    "Pictures": ["samples", "real", "samples_enlarged"],
    "Course of training": ["film_strip"],
    "Between samples": ["interpolation"],
    "Classes": ["by_class"],
    "Nearest training images": ["nearest"],
}


def test_everything_that_was_kept_is_shown_and_text_stays_text(workdir):
    sections = found(workdir)
    assert list(sections) == [*ALL, "Distances and how they were measured"]
    for title, names in ALL.items():
        assert [block.path for block in sections[title]] == [workdir / "report" / f"{name}.png" for name in names]
    text = run_page.of_run(Record(workdir), None).read_text()
    assert text.count("<figure") == 8 + 2 and EVIL not in text
    assert len(re.findall(r'alt="(real and fake accuracy|generator and discriminator gradient norm) over', text)) == 2


@pytest.mark.parametrize(
    ("missing", "title"),
    [
        ("interpolation", "Between samples"),
        ("by_class", "Classes"),
        ("nearest_samples", "Nearest training images"),
        ("nearest_training", "Nearest training images"),
    ],
)
def test_a_picture_that_a_run_did_not_keep_is_left_out(workdir, missing, title):
    kept = {name: array for name, array in PICTURES.items() if name != missing}
    np.savez(workdir / "outputs" / "test_pictures.npz", fingerprint=np.array("x"), **kept)
    assert list(found(workdir)) == [name for name in [*ALL, "Distances and how they were measured"] if name != title]


def test_an_older_run_has_no_page_of_nothing(workdir):
    (workdir / "outputs" / "test_pictures.npz").unlink()
    (workdir / "steps.jsonl").unlink()
    for path in (workdir / "pictures").rglob("*.png"):
        path.unlink()
    results = json.loads((workdir / "report" / "results.json").read_text())
    del results["receipts"]
    files.write_json(workdir / "report" / "results.json", results)
    assert found(workdir) == {}
    assert run_page.of_run(Record(workdir), None).exists()


def test_grids_hold_the_images_and_two_of_them_stand_side_by_side(workdir):
    found(workdir)
    for name in ("samples", "real"):
        canvas = pixels(workdir, name)
        assert canvas.shape == (8 * 66 + 2, 8 * 66 + 2, 3)
        np.testing.assert_array_equal(canvas[3 + 66 :][:64, 2 + 7 * 66 :][:, :64], enlarged(PICTURES[name][15], 8))
    canvas = pixels(workdir, "samples_enlarged")
    np.testing.assert_array_equal(canvas[3 + 130 :][:128, 2 + 130 :][:, :128], enlarged(PICTURES["samples"][5], 16))


def test_the_film_strip_has_a_row_per_noise_and_a_column_per_step(workdir):
    other = workdir / "pictures" / "val" / "samples" / "00000500.png"
    pictures.write(other, RNG.integers(0, 256, (64, 16, 16, 3), np.uint8))  # Of another config.
    found(workdir)
    canvas = pixels(workdir, "film_strip")
    assert canvas.shape[1] == 3 * 66 + 2
    heading = canvas.shape[0] - 8 * 66 - 2
    assert (canvas[:heading] < 128).any()  # The steps.
    for column, step in enumerate(STEPS):
        film = pictures.read(workdir / "pictures" / "val" / "samples" / f"{step:08d}.png")
        for row in range(8):
            tile = canvas[heading + 3 + row * 66 :, 2 + column * 66 :][:64, :64]
            np.testing.assert_array_equal(tile, enlarged(film[row], 8))


def test_one_step_is_no_film(workdir):
    for step in STEPS[1:]:
        (workdir / "pictures" / "val" / "samples" / f"{step:08d}.png").unlink()
    assert "Course of training" not in found(workdir)


def test_a_long_film_shows_first_and_last(workdir, monkeypatch):
    for step in range(40_000, 80_000, 1000):
        pictures.write(workdir / "pictures" / "val" / "samples" / f"{step:08d}.png", images(8))
    shown = []

    def draw(path, rows, *, scale, columns):
        shown.append((rows.shape, columns))
        Image.new("L", (9, 9)).save(path)

    monkeypatch.setattr(gan.image_plots, "image_table", draw)
    list(gan._film(Record(workdir)))
    ((shape, names),) = shown
    assert shape == (8, 12, 8, 8, 3) and names[:3] == ["1,000", "30,000", "43,000"] and names[-1] == "79,000"


def test_neighbors_stand_beside_their_sample_with_the_distance_below(workdir, monkeypatch):
    drawn = []
    real = gan.image_plots.image_table
    monkeypatch.setattr(gan.image_plots, "image_table", lambda *a, **k: (drawn.append((a, k)), real(*a, **k)))
    list(gan._nearest(Record(workdir), PICTURES))
    ((_, rows), options) = drawn[0]
    np.testing.assert_array_equal(rows[1, 0], PICTURES["nearest_samples"][1])
    np.testing.assert_array_equal(rows[1, 1:], PICTURES["nearest_training"][3:])
    assert options["captions"] == [["", "0", "12.5", "13"], ["", "101.2", "102", "103"]]
    without = {name: array for name, array in PICTURES.items() if name != "nearest_distance"}
    (block,) = gan._nearest(Record(workdir), without)
    assert "distance" not in block.caption


def test_receipts_are_a_table_per_protocol(workdir):
    test, protocol, train, other = found(workdir)["Distances and how they were measured"]
    assert test.header == ("measure", "value", "95 % interval", "generated", "real", "settings")
    assert test.rows == [
        ["test/fid10k", "1.5", "1.25 to 1.75", 10_000, 5_000, ""],
        ["test/kid10k", "0.25", "", 10_000, 5_000, "subsets 100, size 1,000"],
    ]
    assert train.rows == [["fid/fid5k", "2.5", "", 10_000, 5_000, ""]]
    assert (protocol.values["split"], other.values["split"]) == ("test", "train")
    assert protocol.values["weights"] == "ab12"


def test_the_headline_is_the_distance_from_the_test_images_though_another_chose_the_checkpoint(workdir):
    results = json.loads((workdir / "report" / "results.json").read_text())
    results |= {"chosen_by": "fid/fid5k", "metrics": {"fid/fid5k": 2.5, "test/kid10k": 0.25, "test/fid10k": 1.5}}
    results["evaluations"]["test"] = {"examples": 10_000}
    files.write_json(workdir / "report" / "results.json", results)
    headline = run_page._headline(Record(workdir))
    assert headline == "Test: FID (10k images) 1.5 (n = 10,000, 95 % interval 1.25–1.75)."


def test_only_the_classes_that_were_drawn_are_named(workdir, monkeypatch):
    drawn = []
    monkeypatch.setattr(gan.image_plots, "image_table", lambda path, images, **options: drawn.append((images, options)))
    list(gan._by_class(Record(workdir), {"by_class": PICTURES["by_class"][:16]}))
    ((images, options),) = drawn
    assert images.shape[:2] == (2, 8) and options["rows"] == [EVIL, "dog"]


def test_pairs_share_a_plot_where_both_were_measured():
    measured = {"generator_loss", "discriminator_loss", "real_score", "loss"}
    assert run_page._place("train", "generator_loss", measured) == ("generator_and_discriminator_loss", "generator")
    assert run_page._place("val", "discriminator_loss", measured) == (
        "generator_and_discriminator_loss",
        "discriminator, val",
    )
    assert run_page._place("train", "real_score", measured) == ("real_score", "train")
    assert run_page._place("", "loss", measured) == ("loss", "loss")
    assert run_page._place("val", "bicubic_psnr", {"psnr", "bicubic_psnr"}) == ("psnr", "bicubic, val")
    assert run_page._place("val", "bicubic_psnr", {"bicubic_psnr"}) == ("bicubic_psnr", "val")


def test_the_caption_states_the_window(workdir):
    (block,) = found(workdir)["Losses"]
    assert isinstance(block, page.Picture) and "the mean of 30 steps" in block.caption

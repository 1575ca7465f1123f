"""The page of super-resolution from files alone: figures beside bicubic, details where it errs, the slider."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


from vision_jax.analysis.record import Record
from vision_jax.metrics.image_quality import Protocol
from vision_jax.report import page, run_page, slider, super_resolution
from vision_jax.utils import files
from vision_jax.writers import pictures

PSNR, SSIM = "psnr_y_x2_shave2", "ssim_y_x2_shave2"


def versions(count=2, height=60, width=80):
    rng = np.random.default_rng(0)
    original = rng.integers(60, 180, (count, height, width, 3), np.uint8)
    bicubic, restored = original.copy(), original.copy()
    bicubic[:, 8:20, 25:40] += 40  # Where it errs.
    restored[:, 8:20, 25:40] += 10
    low = original[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
    return {"low_resolution": low, "bicubic": bicubic, "restored": restored, "original": original}


@pytest.fixture
def workdir(tmp_path):
    """The files of a run tested on two sets."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "report").mkdir()
    metrics, receipts, evaluations = {}, {}, {}
    protocol = Protocol(2, 2, "y", planes=True, rounded=False)
    for name, psnr in (("val", 30.0), ("Set<5>", 37.25)):
        values = {PSNR: psnr, f"bicubic_{PSNR}": 33.5, f"gain_{PSNR}": psnr - 33.5, SSIM: 0.95, f"bicubic_{SSIM}": 0.9}
        metrics |= {f"{name}/{metric}": value for metric, value in values.items()}
        receipts |= {f"{name}/{metric}": protocol.receipt(metric, value, 2) for metric, value in values.items()}
        evaluations[name] = {"split": name, "examples": 2, "fingerprint": "x"}
        outputs = {metric: np.array([value, value + 1]) for metric, value in values.items() if "gain" not in metric}
        np.savez(tmp_path / "outputs" / f"{name}.npz", fingerprint=np.array("x"), index=np.arange(2), **outputs)
        np.savez(tmp_path / "outputs" / f"{name}_pictures.npz", fingerprint=np.array("x"), **versions())
    results = {
        "task": "super_resolution",
        "model": "light_sr",
        "data": "t91",
        "parameters": 1,
        "checkpoint_step": 3,
        "training_seconds": 1.0,
        "metrics": metrics,
        "receipts": receipts,
        "evaluations": evaluations,
    }
    files.write_json(tmp_path / "report" / "results.json", results)
    for step in (1, 2, 3):
        for name, images in versions().items():
            path = tmp_path / "pictures" / "val" / name / f"{step:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(path, images)
    return tmp_path


def test_sections_show_every_test_set_beside_bicubic(workdir):
    found = super_resolution.sections(Record(workdir), lambda split, indices: None)
    assert [section.title for section in found][:2] == ["Beside bicubic interpolation", "Pictures: Set<5>"]
    table, protocol = found[0].blocks
    assert ["Set<5>", 2, "PSNR (luma, ×2, shave 2)", "33.50 dB", "37.25 dB", "3.75 dB"] in [
        list(row) for row in table.rows
    ]
    assert len(table.rows) == 4  # PSNR and SSIM of both; the gain is a column.
    assert "not rounded" in protocol.values["low resolution"] and "2 pixels" in protocol.values["cut off"]
    drawn = [block.path for block in found[1].blocks if isinstance(block, page.Picture)]
    assert [path.name for path in drawn] == ["details_Set<5>.png", "errors_Set<5>.png", "comparison_Set<5>.png"]
    run_page.write(workdir, title="t", summary={}, metrics=[], config={}, environment=ENVIRONMENT, sections=found)
    text = (workdir / "report" / "index.html").read_text()
    assert "Pictures: Set&lt;5&gt;" in text and text.count('<div class="slider">') == 1 and "Set<5>" not in text


ENVIRONMENT = {"command": "python -m vision_jax.main --config=c.py --workdir=w", "folder": "/somewhere"}


def test_captions_are_those_of_the_picture(workdir):
    captions = super_resolution._captions(Record(workdir), "Set<5>", 2)
    assert captions == [
        ["", "33.50 dB, 0.9000", "37.25 dB, 0.9500", ""],
        ["", "34.50 dB, 1.9000", "38.25 dB, 1.9500", ""],
    ]


def test_details_are_where_bicubic_interpolation_errs_most():
    images = versions()
    row, column = super_resolution.texture(images["original"][0], images["bicubic"][0], 24)
    assert row <= 8 and row + 24 >= 20 and column <= 25 and column + 24 >= 40
    assert super_resolution.texture(images["original"][0], images["bicubic"][0], 500) <= (0, 20)


def test_errors_are_drawn_from_black_to_white():
    errors = np.stack([np.zeros((4, 4, 3)), np.full((4, 4, 3), 16.0), np.full((4, 4, 3), 50.0)])
    assert super_resolution._drawn(errors)[:, 0, 0, 0].tolist() == [0, 127, 255]


def test_a_slider_holds_both_pictures_and_escapes_its_words():
    images = versions(1)
    made = slider.block(images["bicubic"][0], images["original"][0], ("<a>", "b"), label='say "x"', width=160)
    assert "<a>" not in made.html and "&lt;a&gt;" in made.html and 'aria-label="say &quot;x&quot;"' in made.html
    assert made.html.count("data:image/webp;base64,") == 2 and 'width="160" height="120"' in made.html
    with pytest.raises(ValueError, match="different shapes"):
        slider.block(images["bicubic"][0], images["original"][0][:10], ("a", "b"), label="l", width=10)

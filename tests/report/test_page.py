"""The page of a run: self-contained, escaped, well-formed, and without a word in the browser's console."""

import base64
import html.parser
import io
import json
import math
import shlex
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from PIL import Image

from vision_jax import config as config_lib
from vision_jax.metrics.intervals import Interval
from vision_jax.report import embedded, image_plots, page, run_page

EVIL = "<script>console.error('in')</script> & \"quoted\""
VOID = {"meta", "link", "img", "br"}


class Checker(html.parser.HTMLParser):
    """Collects what the tests ask for and fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def report(tmp_path):
    """A page with everything on it and text that wants to be markup everywhere."""
    picture = tmp_path / "grid.png"
    image_plots.image_grid(picture, np.zeros((30, 8, 8, 1), np.uint8), [f"true {i}" for i in range(30)])
    rows = [{"step": i, "train/loss": 1 / i, "val/loss": math.nan, f"train/{EVIL}": 1.0} for i in range(1, 4)]
    return run_page.write(
        tmp_path,
        title=f"run {EVIL}",
        summary={"val/loss": 0.1, "test/accuracy": 0.987654321, f"test/{EVIL}": 1, "parameters": 36106},
        metrics=[*rows, {"step": 3, "val/accuracy": 0.5}],
        config={"model": {"name": EVIL, "channels": [8, 16]}},
        environment={"command": "python -m vision_jax.main --config=a.py --mode=train", "folder": EVIL, "git": None},
        sections=[
            page.Section("Pictures", [page.picture(picture, f"Test images {EVIL}", EVIL)]),
            page.Section(EVIL, [page.Table(("class", EVIL), [(EVIL, 0.5), ("b", 1.0)])]),
        ],
    )


def test_shows_everything_as_text(report):
    checked = Checker(report.read_text())
    text = "".join(checked.text)
    assert text.count(EVIL) >= 9
    for words in ("0.9877", "36,106", '"channels"', "--config=a.py --mode=train", "vision-jax eval "):
        assert words in text
    assert (report.parent / "curve_loss.png").exists()
    assert (report.parent / "curve_accuracy.png").exists()


def test_results_have_a_column_per_split():
    table, rest = run_page._results({"val/loss": 0.2, "test/loss": 0.3, "test/fid10k": 12.0, "parameters": 5})
    assert isinstance(table, page.Table)
    assert table.header == ("metric", "val", "test")
    assert table.rows == [["loss", 0.2, 0.3], ["fid10k", None, 12.0]]
    assert rest == page.KeyValues({"parameters": 5})


def test_columns_of_percent_have_one_decimal():
    cells = [Interval(66.66667, 45.37, 100.0), Interval(0.0, 0.0, 8.066), None]
    assert page._column(cells, percent=True) == ["66.7 (45.4–100.0)", "0.0 (0.0–8.1)", "–"]
    assert page._column([0.01, 31.71], percent=True) == ["0.0", "31.7"]
    assert page._column([Interval(-1.5, -2.25, 0.5)]) == ["-1.500 (-2.250 to 0.500)"]
    assert page._column([Interval(0.4, -0.04, 0.9), -0.01], percent=True) == ["0.4 (0.0 to 0.9)", "0.0"]


def test_long_commands_have_a_line_for_each_flag():
    short = "python -m vision_jax.main --config=a.py"
    assert run_page._broken(short) == short
    long = f"python -m vision_jax.main --config=a.py --config.data.root='my photos' --workdir={'w' * 60}"
    broken = run_page._broken(long)
    assert broken.splitlines()[0] == "python -m vision_jax.main \\" and len(broken.splitlines()) == 4
    assert shlex.split(broken.replace("\\\n", " ")) == shlex.split(long)


def test_what_evaluations_measure_is_drawn_first(tmp_path):
    row = {"train/accuracy": 1.0, "train/learning_rate": 1.0, "train/loss": 1.0, "val/accuracy": 1.0, "val/loss": 1.0}
    drawn = [picture.alt for picture in run_page._curves(tmp_path, [{"step": 1} | row])]
    assert drawn[0] == "loss over the steps of training; at the end: train 1, val 1."
    assert [alt.partition(" over")[0] for alt in drawn] == ["loss", "accuracy", "learning rate"]


def test_is_self_contained_and_accessible(report):
    checked = Checker(report.read_text())
    sources = [a[key] for _, a in checked.tags for key in ("src", "href") if key in a]
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in report.read_text()
    assert checked.all("html") == [{"lang": "en"}]
    assert len(checked.all("h1")) == 1
    images = checked.all("img")
    assert len(images) == 5  # loss, accuracy, the oddly named metric, the grid and its cover
    assert [bool(image["alt"].strip()) for image in images] == [True] * 4 + [False]
    assert all(header["scope"] == "col" for header in checked.all("th"))
    shown, cover = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))) for image in images[-2:]
    )
    with Image.open(report.parent.parent / "grid.png") as grid:
        np.testing.assert_array_equal(shown, grid)
    assert cover.shape == (*shown.shape[:2], 4)
    assert [p.name for p in report.parent.iterdir() if p.name.startswith(".")] == []


def test_what_surrounds_images_is_dark_and_the_images_stay_clear(tmp_path):
    images = np.full((2, 8, 8, 3), 255, np.uint8)
    image_plots.image_grid(tmp_path / "a.png", images, ["one", "two"], colors=[None, "crimson"], scale=10)
    with Image.open(tmp_path / "a.png") as picture:
        pixels, tiles = np.asarray(picture.convert("RGB")), json.loads(picture.info[embedded.TILES])
    cover = embedded.cover(pixels, tiles)
    assert [tile[2:] for tile in tiles] == [[80, 80], [88, 88]]  # The frame belongs to the image.
    clear = cover[..., 3] == 0
    assert clear.sum() == 80 * 80 + 88 * 88 and (pixels[clear].sum() > 0) and (cover[~clear][:, 3] == 255).all()
    assert tuple(cover[0, 0, :3]) == embedded.CARD
    black = ~clear & (pixels.max(-1) < 10)
    assert black.any() and (cover[black][:, :3] > 215).all()


def test_a_large_picture_loses_a_little_and_stays_small():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert len(embedded.of_pixels(noise)) < 0.7 * noise.size
    small = noise[:20, :20, :1]
    data = base64.b64decode(embedded.of_pixels(small).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[..., :1], small)


def test_long_words_above_numbers_keep_room_for_a_few_of_them(tmp_path):
    table = page.Table(("run", "only the one : only the other right", "p"), (("a", 28, 0.5),))
    page.write(tmp_path / "index.html", title="t", sections=[page.Section("s", [table])])
    found = Checker((tmp_path / "index.html").read_text())
    assert [cell["class"] for cell in found.all("th")] == ["short", "number middle", "number"]
    assert [cell["class"] for cell in found.all("td")] == ["short", "number", "number"]


def test_a_column_has_the_decimals_that_its_largest_number_needs():
    assert page._column([0.5, 0.33333, 3, None]) == ["0.5000", "0.3333", "3", "–"]
    assert page._column([1234.5678, 0.25, math.nan, 12_000]) == ["1,235", "0.25", "–", "12,000"]
    assert page._column([0.5, 1.5e-9, True]) == ["0.5000", "1.5e-09", "True"]


def test_options_that_a_config_sets_stand_beside_their_defaults():
    config = config_lib.default("classification")
    config.optimizer.learning_rate = 0.5
    config_lib.assign(config, "model.cnn.dropout", 0.25)
    (table,) = run_page._changed(config_lib.to_dict(config))
    default = str(config_lib.default().optimizer.learning_rate)
    assert sorted(table.rows) == [("model.cnn.dropout", "0.25", "–"), ("optimizer.learning_rate", "0.5", default)]


def test_the_command_that_makes_the_report_again():
    command = "python -m vision_jax.main --config 'a b.py' --workdir='c d'"
    blocks = run_page._commands({"command": command, "folder": "/"}, "c d")
    shown = [block.text for block in blocks if isinstance(block, page.Code)]
    assert shown == [command, "vision-jax eval 'c d'"]


def test_wrong_blocks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs an `alt` text"):
        page.write(tmp_path / "a.html", title="t", sections=[page.Section("s", [page.Picture("a.png", alt=" ")])])
    table = page.Table(("a", "b"), [(1,)])
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        page.write(tmp_path / "a.html", title="t", sections=[page.Section("s", [table])])
    assert list(tmp_path.iterdir()) == []


class TestBrowser:
    def console(self, path, folder):
        """Opens a file as a user would and returns the page it became and what the console says."""
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        browser = next(filter(None, map(shutil.which, names)), None)
        if browser is None:
            pytest.skip(f"no browser: none of {', '.join(names)} is installed")
        switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        command = [browser, *switches.split(), "--disable-component-update", "--disable-sync"]
        command += [
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={folder}",
            "--dump-dom",
            path.resolve().as_uri(),
        ]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return process.stdout, [line for line in process.stderr.splitlines() if "CONSOLE" in line]

    def test_the_page_opens_without_a_word_in_the_console(self, report, tmp_path):
        dom, console = self.console(report, tmp_path / "profile")
        assert "How to make it again" in dom
        assert console == []

    def test_a_bad_page_would_be_noticed(self, tmp_path):
        path = tmp_path / "bad.html"
        path.write_text("<script>console.error(1 + 1)</script>" + json.dumps("text"))
        assert len(self.console(path, tmp_path / "profile")[1]) == 1

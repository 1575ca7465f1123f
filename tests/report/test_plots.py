"""Pictures of a report: exact pixels where images are shown, and no surprise in names, sizes and empty input."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from PIL import Image

from vision_jax.report import plots

ODD_NAMES = ["plain", "$x^2$ & 100 %", "_hidden", "a very long name of a class, longer than most", "naïve ☃"]
SMALL = 200_000  # bytes


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_importing_reports_loads_no_matplotlib():
    program = "import sys, vision_jax.report.run_page; print('matplotlib' in sys.modules, 'PIL' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False False"


def test_plots_use_no_pyplot(tmp_path):
    program = (
        "import sys; from vision_jax.report import plots\n"
        "plots.curves(sys.argv[1], {'a': [(0, 1.0)]}, title='t', ylabel='y')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


class TestCurves:
    @pytest.mark.parametrize("yscale", ["linear", "log"])
    def test_odd_names_and_values(self, tmp_path, yscale):
        values = [1.0, math.nan, math.inf, -1.0, 0.0, 2.0]
        series = {name: list(zip(itertools.count(step), values, strict=False)) for step, name in enumerate(ODD_NAMES)}
        path = tmp_path / "folder" / "curves.png"
        plots.curves(path, series | {"empty": []}, title="$t", ylabel="_y$", yscale=yscale)
        assert path.stat().st_size < SMALL
        assert [p.name for p in path.parent.iterdir()] == ["curves.png"]

    def test_many_points_stay_small(self, tmp_path):
        noise = np.random.default_rng(0).normal(size=20_000)
        plots.curves(tmp_path / "a.png", {"train": list(enumerate(noise.tolist()))}, title="t", ylabel="y")
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_equal_input_gives_equal_files(self, tmp_path):
        for name in ("a.png", "b.png"):
            plots.curves(tmp_path / name, {"x": [(0, 1.0), (5, 2.0)]}, title="t", ylabel="y")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


class TestBars:
    @pytest.mark.parametrize("classes", [1, 5, 40])
    def test_any_number_of_classes(self, tmp_path, classes):
        values = np.linspace(0, 1, classes).tolist()
        labels = [ODD_NAMES[i % 5] for i in range(classes)]
        plots.bars(tmp_path / "a.png", {"F1": values, "$recall": values}, labels, title="t", xlabel="x")
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_wrong_length_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="'F1' has 2 values for 1 labels"):
            plots.bars(tmp_path / "a.png", {"F1": [1, 2]}, ["a"], title="t", xlabel="x")


class TestConfusionMatrix:
    @pytest.mark.parametrize("classes", [2, 10, 21, 100])
    def test_any_number_of_classes(self, tmp_path, classes):
        rng = np.random.default_rng(0)
        matrix = rng.poisson(0.3, (classes, classes)) + np.diag(rng.integers(30, 99, classes))
        matrix[0] = 0  # a class without examples
        plots.confusion_matrix(tmp_path / "a.png", matrix, [ODD_NAMES[i % 5] for i in range(classes)])
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_wrong_shape_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"is \[2, 2\], expected \[3, 3\]"):
            plots.confusion_matrix(tmp_path / "a.png", np.zeros((2, 2), int), ["a", "b", "c"])

    def test_groups_stand_on_the_other_sides(self, tmp_path):
        matrix, names = np.diag(np.arange(1, 31)), [f"class {k}" for k in range(30)]
        plots.confusion_matrix(tmp_path / "plain.png", matrix, names)
        plots.confusion_matrix(tmp_path / "a.png", matrix, names, [ODD_NAMES[k // 6] for k in range(30)])
        assert (tmp_path / "a.png").stat().st_size < SMALL
        assert pixels(tmp_path / "a.png").shape > pixels(tmp_path / "plain.png").shape  # Room for their names.


class TestOfPredictions:
    def test_empty_bins_of_a_reliability_diagram(self, tmp_path):
        values = np.array([math.nan, 0.4, 1.0])
        plots.reliability(tmp_path / "a.png", values, values, np.array([0, 3, 9]))
        assert (tmp_path / "a.png").stat().st_size < SMALL

    @pytest.mark.parametrize("classes", [2, 10, 20, 21, 100])
    def test_colors_of_classes_are_different(self, classes):
        assert len(set(plots.class_colors(classes))) == classes

    @pytest.mark.parametrize(("dimensions", "turns"), [(2, (0.0,)), (3, (0.0, 90.0))])
    @pytest.mark.parametrize("classes", [5, 30])
    def test_embeddings(self, tmp_path, dimensions, turns, classes):
        rng = np.random.default_rng(0)
        groups, names = np.arange(60) % classes, [ODD_NAMES[k % 5] for k in range(classes)]
        points, wrong = rng.normal(size=(60, dimensions)), rng.random(60) < 0.2
        plots.embedding(tmp_path / "a.png", points, groups, names, wrong, title="$t", turns=turns)
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_a_turn_keeps_distances(self):
        points = np.random.default_rng(0).normal(size=(9, 3))
        flat, depth = plots._turned(points, 50)
        turned = np.column_stack([flat, depth])
        pairs = itertools.combinations(range(9), 2)
        for i, j in pairs:
            expected = np.linalg.norm(points[i] - points[j])
            assert np.linalg.norm(turned[i] - turned[j]) == pytest.approx(expected)

    @pytest.mark.parametrize("series", [1, 3])
    def test_histograms(self, tmp_path, series):
        values = {ODD_NAMES[i]: np.random.default_rng(i).normal(size=50) for i in range(series)}
        plots.histograms(tmp_path / "a.png", values, title="t", xlabel="x", mark=0.0)
        assert (tmp_path / "a.png").stat().st_size < SMALL


class TestImageGrid:
    def images(self, n=7, side=8, channels=1):
        return np.random.default_rng(0).integers(0, 256, (n, side, side, channels), dtype=np.uint8)

    def find(self, canvas, tile):
        """Returns how often a tile occurs in the picture, pixel for pixel."""
        height, width = tile.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(canvas, (height, width, 3))
        corner = (windows[:, :, 0, 0, 0] == tile[0, 0]).all(-1) & (windows[:, :, 0, -1, -1] == tile[-1, -1]).all(-1)
        return sum((windows[y, x, 0] == tile).all() for y, x in np.argwhere(corner))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_small_images_are_enlarged_exactly(self, tmp_path, channels):
        images = self.images(channels=channels)
        plots.image_grid(tmp_path / "a.png", images, scale=5, columns=3)
        canvas = pixels(tmp_path / "a.png")
        for image in images:
            tile = np.broadcast_to(image, (8, 8, 3)).repeat(5, axis=0).repeat(5, axis=1)
            assert self.find(canvas, tile) == 1

    def test_captions_leave_the_images_whole_and_frames_surround_them(self, tmp_path):
        images = self.images(n=4)
        captions = ["true 3 / predicted 5", "true 1", "$x_1$ " * 20, ""]
        plots.image_grid(tmp_path / "a.png", images, captions, ["#ff0000", None, None, None], scale=4)
        canvas = pixels(tmp_path / "a.png")
        for image in images:
            tile = np.broadcast_to(image, (8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1)
            assert self.find(canvas, tile) == 1
        red = (canvas == (255, 0, 0)).all(-1)
        assert red.sum() == (32 + 8) ** 2 - 32**2

    def test_large_images_are_reduced_and_files_stay_small(self, tmp_path):
        smooth = np.linspace(0, 255, 500, dtype=np.uint8)[None, :, None, None]
        photos = np.broadcast_to(smooth, (6, 500, 400, 3))
        plots.image_grid(tmp_path / "a.png", photos, ["photo"] * 6)
        assert max(pixels(tmp_path / "a.png").shape) < 1100
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_wrong_input_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"float64\[1, 8, 8, 1\], expected uint8"):
            plots.image_grid(tmp_path / "a.png", np.zeros((1, 8, 8, 1)))
        with pytest.raises(ValueError, match="2 captions for 7 images"):
            plots.image_grid(tmp_path / "a.png", self.images(), ["a", "b"])

    def test_comparison_enlarges_the_low_resolution_by_whole_pixels(self, tmp_path):
        low, high = self.images(1, 8, 3)[0], self.images(1, 16, 3)[0]
        plots.comparison(tmp_path / "a.png", [{"low resolution": low, "$original": high}] * 2, scale=3)
        canvas = pixels(tmp_path / "a.png")
        assert self.find(canvas, low.repeat(6, axis=0).repeat(6, axis=1)) == 2
        assert self.find(canvas, high.repeat(3, axis=0).repeat(3, axis=1)) == 2

    def test_comparison_needs_equal_rows(self, tmp_path):
        image = self.images(1, 8, 3)[0]
        with pytest.raises(ValueError, match="same names in the same order"):
            plots.comparison(tmp_path / "a.png", [{"a": image}, {"b": image}])

"""Pictures of a report: exact pixels where images are shown, and no surprise in names, sizes and empty input."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from PIL import Image

from vision_jax.report import figures, image_plots, plots, prediction_plots

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

    def test_epochs_stand_above_and_the_chosen_checkpoint_is_marked(self, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(figures, "save", lambda figure, *rest: drawn.append(figure))
        points = [(step, 3e-4) for step in (10, 20, 12_000)]
        plots.curves(tmp_path / "a.png", {"train": points}, title="t", ylabel="y", chosen=20, epoch=10.0)
        (ax,) = drawn[0].axes
        drawn[0].canvas.draw()
        (top,) = ax.child_axes
        assert np.array(top.get_xlim()) == pytest.approx(np.array(ax.get_xlim()) / 10)
        assert list(ax.lines[-1].get_xdata()) == [20, 20] and ax.texts[0].get_text() == "chosen"
        assert "4,000" in [label.get_text() for label in ax.get_xticklabels()]
        assert ax.get_legend() is None and ax.yaxis.get_offset_text().get_text() == ""
        low, high = ax.get_ylim()
        assert low < 2e-4 and high > 4e-4  # A constant is a line in the middle.

    def test_a_share_is_drawn_in_per_cent_and_has_no_room_above_all_of_it(self, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(figures, "save", lambda figure, *rest: drawn.append(figure))
        plots.curves(tmp_path / "a.png", {"val": [(1, 1.0), (2, 1.0)]}, title="t", ylabel="accuracy", percent=True)
        (ax,) = drawn[0].axes
        assert list(ax.lines[0].get_ydata()) == [100.0, 100.0] and ax.get_ylabel() == "accuracy (%)"
        assert 100 < ax.get_ylim()[1] <= 105


class TestNoisyCurves:
    def test_the_running_mean_is_that_of_the_values_around(self):
        values = np.random.default_rng(0).normal(size=30)
        values[7] = math.nan
        found = plots.running_mean(values, 5)
        for i in range(30):
            assert found[i] == pytest.approx(np.nanmean(values[max(i - 2, 0) : i + 3]))
        assert np.isnan(plots.running_mean(np.full(4, math.nan), 2)).all()
        assert plots.running_mean(np.arange(3.0), 99).tolist() == [0.5, 1.0, 1.5]

    def test_no_spike_is_lost_among_many_points(self):
        values = np.random.default_rng(0).normal(size=50_000)
        values[[123, 33_333]] = 90.0, -70.0
        values[40_000:40_200] = math.nan
        x, y = plots._extremes(np.arange(1, 50_001), values)
        assert len(x) == len(y) == 2000
        assert (np.nanmax(y), np.nanmin(y)) == (90.0, -70.0)
        assert abs(x[np.nanargmax(y)] - 124) <= 50 and abs(x[np.nanargmin(y)] - 33_334) <= 50
        assert 0 < np.isnan(y).sum() < 10
        few = np.arange(5.0)
        np.testing.assert_array_equal(plots._extremes(few, few), (few, few))

    @pytest.mark.parametrize("n", [1, 7, 50_000])
    def test_any_number_of_steps(self, tmp_path, n):
        values = np.random.default_rng(0).normal(size=n)
        values[: n // 3] = math.inf
        series = {"$generator$": values, "discriminator": np.full(n, math.nan)}
        plots.noisy_curves(tmp_path / "a.png", np.arange(n), series, window=max(n // 100, 1), title="t", ylabel="y")
        assert (tmp_path / "a.png").stat().st_size < SMALL
        with pytest.raises(ValueError, match="has 2 values for 1 steps"):
            plots.noisy_curves(tmp_path / "b.png", np.arange(1), {"a": np.ones(2)}, window=1, title="t", ylabel="y")
        assert not (tmp_path / "b.png").exists()


class TestBars:
    @pytest.mark.parametrize("classes", [1, 5, 40])
    def test_any_number_of_classes(self, tmp_path, classes):
        values = np.linspace(0, 1, classes).tolist()
        labels = [ODD_NAMES[i % 5] for i in range(classes)]
        plots.bars(tmp_path / "a.png", {"F1": values, "$recall": values}, labels, title="t", xlabel="x")
        assert (tmp_path / "a.png").stat().st_size < SMALL

    @pytest.mark.parametrize("length", [3, 20, 60])
    def test_legends_are_as_wide_as_the_picture_at_most(self, tmp_path, monkeypatch, length):
        saved = []
        monkeypatch.setattr(plots.figures, "save", lambda figure, *_: saved.append(figure))
        series = {f"{number}{'m' * length}": [1.0] for number in range(4)}
        plots.bars(tmp_path / "a.png", series, ["a"], title="t", xlabel="x")
        (figure,) = saved
        (legend,) = figure.legends
        figure.canvas.draw()
        box = legend.get_window_extent()
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width and len(legend.get_texts()) == 4

    def test_wrong_length_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="'F1' has 2 values for 1 labels"):
            plots.bars(tmp_path / "a.png", {"F1": [1, 2]}, ["a"], title="t", xlabel="x")


class TestConfusionMatrix:
    @pytest.mark.parametrize("classes", [2, 10, 21, 100])
    def test_any_number_of_classes(self, tmp_path, classes):
        rng = np.random.default_rng(0)
        matrix = rng.poisson(0.3, (classes, classes)) + np.diag(rng.integers(30, 99, classes))
        matrix[0] = 0  # a class without examples
        prediction_plots.confusion_matrix(tmp_path / "a.png", matrix, [ODD_NAMES[i % 5] for i in range(classes)])
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_wrong_shape_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"is \[2, 2\], expected \[3, 3\]"):
            prediction_plots.confusion_matrix(tmp_path / "a.png", np.zeros((2, 2), int), ["a", "b", "c"])

    def test_groups_stand_on_the_other_sides(self, tmp_path):
        matrix, names = np.diag(np.arange(1, 31)), [f"class {k}" for k in range(30)]
        prediction_plots.confusion_matrix(tmp_path / "plain.png", matrix, names)
        prediction_plots.confusion_matrix(tmp_path / "a.png", matrix, names, [ODD_NAMES[k // 6] for k in range(30)])
        assert (tmp_path / "a.png").stat().st_size < SMALL
        assert pixels(tmp_path / "a.png").shape > pixels(tmp_path / "plain.png").shape  # Room for their names.


class TestOfPredictions:
    def test_empty_bins_of_a_reliability_diagram(self, tmp_path):
        values = np.array([math.nan, 0.4, 1.0])
        prediction_plots.reliability(tmp_path / "a.png", values, values, np.array([0, 3, 9]))
        assert (tmp_path / "a.png").stat().st_size < SMALL

    @pytest.mark.parametrize("classes", [2, 10, 20, 21, 100])
    def test_colors_of_classes_are_different(self, classes):
        assert len(set(prediction_plots.class_colors(classes))) == classes

    @pytest.mark.parametrize(("dimensions", "turns"), [(2, (0.0,)), (3, (0.0, 90.0))])
    @pytest.mark.parametrize("classes", [5, 30])
    def test_embeddings(self, tmp_path, dimensions, turns, classes):
        rng = np.random.default_rng(0)
        groups, names = np.arange(60) % classes, [ODD_NAMES[k % 5] for k in range(classes)]
        points, wrong = rng.normal(size=(60, dimensions)), rng.random(60) < 0.2
        prediction_plots.embedding(tmp_path / "a.png", points, groups, names, wrong, title="$t", turns=turns)
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_a_turn_keeps_distances(self):
        points = np.random.default_rng(0).normal(size=(9, 3))
        flat, depth = prediction_plots._turned(points, 50)
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
        image_plots.image_grid(tmp_path / "a.png", images, scale=5, columns=3)
        canvas = pixels(tmp_path / "a.png")
        for image in images:
            tile = np.broadcast_to(image, (8, 8, 3)).repeat(5, axis=0).repeat(5, axis=1)
            assert self.find(canvas, tile) == 1

    def test_captions_leave_the_images_whole_and_frames_surround_them(self, tmp_path):
        images = self.images(n=4)
        captions = ["true 3 / predicted 5", "true 1", "$x_1$ " * 20, ""]
        image_plots.image_grid(tmp_path / "a.png", images, captions, ["#ff0000", None, None, None], scale=4)
        canvas = pixels(tmp_path / "a.png")
        for image in images:
            tile = np.broadcast_to(image, (8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1)
            assert self.find(canvas, tile) == 1
        red = (canvas == (255, 0, 0)).all(-1)
        assert red.sum() == (32 + 8) ** 2 - 32**2

    def test_large_images_are_reduced_and_files_stay_small(self, tmp_path):
        smooth = np.linspace(0, 255, 500, dtype=np.uint8)[None, :, None, None]
        photos = np.broadcast_to(smooth, (6, 500, 400, 3))
        image_plots.image_grid(tmp_path / "a.png", photos, ["photo"] * 6)
        assert max(pixels(tmp_path / "a.png").shape) < 1100
        assert (tmp_path / "a.png").stat().st_size < SMALL

    def test_wrong_input_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"float64\[1, 8, 8, 1\], expected uint8"):
            image_plots.image_grid(tmp_path / "a.png", np.zeros((1, 8, 8, 1)))
        with pytest.raises(ValueError, match="2 captions for 7 images"):
            image_plots.image_grid(tmp_path / "a.png", self.images(), ["a", "b"])

    def test_comparison_enlarges_the_low_resolution_by_whole_pixels(self, tmp_path):
        low, high = self.images(1, 8, 3)[0], self.images(1, 16, 3)[0]
        image_plots.comparison(tmp_path / "a.png", [{"low resolution": low, "$original": high}] * 2, scale=3)
        canvas = pixels(tmp_path / "a.png")
        assert self.find(canvas, low.repeat(6, axis=0).repeat(6, axis=1)) == 2
        assert self.find(canvas, high.repeat(3, axis=0).repeat(3, axis=1)) == 2

    def test_a_table_of_images_has_its_names_beside_them(self, tmp_path):
        images = np.stack([self.images(3), self.images(3) // 2])
        image_plots.image_table(tmp_path / "plain.png", images, scale=2)
        plain = pixels(tmp_path / "plain.png")
        assert plain.shape == (2 * 18 + 2, 3 * 18 + 2, 3)
        options = {"columns": ["$a", "b", "c"], "rows": ODD_NAMES[:2], "captions": [["1", "", "2"], [""] * 3]}
        image_plots.image_table(tmp_path / "named.png", images, scale=2, **options)
        canvas = pixels(tmp_path / "named.png")
        assert (canvas[:, : -plain.shape[1]] < 128).any()  # Names to the left.
        for image in images.reshape(6, 8, 8, 1):
            tile = np.broadcast_to(image, (8, 8, 3)).repeat(2, axis=0).repeat(2, axis=1)
            assert self.find(plain, tile) == self.find(canvas, tile) == 1

    def test_gaps_are_as_wide_as_asked(self, tmp_path):
        image_plots.image_grid(tmp_path / "a.png", self.images(), scale=1, columns=4, gap=2)
        assert pixels(tmp_path / "a.png").shape == (2 * 10 + 2, 4 * 10 + 2, 3)

    def test_comparison_needs_equal_rows(self, tmp_path):
        image = self.images(1, 8, 3)[0]
        with pytest.raises(ValueError, match="same names in the same order"):
            image_plots.comparison(tmp_path / "a.png", [{"a": image}, {"b": image}])

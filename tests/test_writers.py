"""What a run writes its numbers to: exact, strict, and the same after a kill and a resume."""

import io
import json
import math
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vision_jax import writers
from vision_jax.utils.options import ConfigError
from vision_jax.writers import event_files, pictures, tensorboard


def config(project="", tensorboard=True):
    """The options that the writers read."""
    return SimpleNamespace(
        log=SimpleNamespace(tensorboard=tensorboard), wandb=SimpleNamespace(project=project, name="")
    )


ROWS_ONLY = config(tensorboard=False)


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def reader(workdir):
    """Returns TensorBoard's own reader of the event files, nothing sampled away."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(
        str(workdir / writers.EVENTS), size_guidance={accumulator.TENSORS: 0}, purge_orphaned_data=True
    )
    return reader.Reload()


def events(workdir):
    """Returns `{tag: [(step, value)]}` of the event files."""
    found = reader(workdir)
    from tensorboard.util import tensor_util

    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def assert_events_equal_rows(workdir):
    """The scalars in the event files are, tag by tag and in order, those of the two row files in float32."""
    found = {
        tag: [(step, value.item()) for step, value in points]
        for tag, points in events(workdir).items()
        if not tag.startswith(("samples", "_hparams_/"))
    }
    expected: dict[str, list[tuple[int, float]]] = {}
    for name in (writers.METRICS, writers.TIMINGS):
        for row in writers.read_rows(workdir / name):
            for tag, value in row.items():
                if tag != "step":
                    expected.setdefault(tag, []).append((row["step"], float(np.float32(value))))
    assert found == expected


class TestRows:
    def test_numbers_read_back_exactly_and_as_strict_json(self, tmp_path):
        values = {"a": np.float32(0.1), "b": 1 / 3, "c": 7, "d": np.array(1e-30, np.float32), "e": math.inf}
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
            writer.write_scalars(3, values)
            writer.write_scalars(4, {"a": math.nan, "b": -math.inf})
        raw = strict((tmp_path / writers.METRICS).read_text())
        assert raw[1] == {"step": 4, "a": "nan", "b": "-inf"}
        first, second = writers.read_rows(tmp_path / writers.METRICS)
        assert first == {"step": 3} | {name: float(value) for name, value in values.items()}
        assert isinstance(first["c"], int)
        assert math.isnan(second["a"])

    def test_timings_stay_out_of_the_rows_that_equal_runs_share(self, tmp_path):
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
            writer.write_scalars(1, {"train/loss": 2.0})
            writer.write_timings(1, {"timing/steps_per_second": 10.0})
        assert writers.read_rows(tmp_path / writers.METRICS) == [{"step": 1, "train/loss": 2.0}]
        assert writers.read_rows(tmp_path / writers.TIMINGS) == [{"step": 1, "timing/steps_per_second": 10.0}]

    def test_resume_takes_back_later_rows_and_a_torn_line(self, tmp_path):
        path = tmp_path / writers.METRICS
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
            for step in (1, 2, 2, 3, 4):
                writer.write_scalars(step, {"x": step / 7})
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"step": 2, "x": 0.1')
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=2) as writer:
            for step in (3, 4):
                writer.write_scalars(step, {"x": step / 7})
        assert path.read_bytes() == whole
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    def test_start_from_scratch_removes_old_rows(self, tmp_path):
        for _ in range(2):
            with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
                writer.write_scalars(0, {"x": 1})
        assert len(writers.read_rows(tmp_path / writers.METRICS)) == 1

    def test_a_line_of_rubbish_is_named_and_left_out(self, tmp_path, caplog):
        path = tmp_path / writers.METRICS
        path.write_bytes(b'{"step": 1, "x": 1}\n\0\0\0\n{"step": 2, "x": 2}\n')
        assert [row["step"] for row in writers.read_rows(path)] == [1, 2]
        assert "line 2" in caplog.text

    def test_a_killed_process_leaves_whole_rows(self, tmp_path):
        program = (
            "import os, sys; from types import SimpleNamespace as N; from vision_jax.writers import open_writers\n"
            "config = N(log=N(tensorboard=False), wandb=N(project=''))\n"
            "w = open_writers(sys.argv[1], config, resume_step=None)\n"
            "for step in range(100): w.write_scalars(step, {'x': step / 3})\n"
            "os.kill(os.getpid(), 9)\n"
        )
        process = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
        assert process.returncode == -9
        assert [row["x"] for row in writers.read_rows(tmp_path / writers.METRICS)] == [n / 3 for n in range(100)]

    def test_wrong_use_is_refused(self, tmp_path):
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
            with pytest.raises(ValueError, match="cannot be named 'step'"):
                writer.write_scalars(1, {"step": 3})
            with pytest.raises(ValueError, match=r"float32\[2, 8, 8, 1\], expected uint8"):
                writer.write_images(1, {"x": np.zeros((2, 8, 8, 1), np.float32)})

    def test_only_the_first_process_writes(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jax.process_index", lambda: 1)
        with writers.open_writers(tmp_path / "run", ROWS_ONLY, resume_step=None) as writer:
            writer.write_scalars(1, {"x": 1})
            writer.flush()
        assert not (tmp_path / "run").exists()


class TestPictures:
    def images(self, count=5, height=3, width=4, channels=1, seed=0):
        return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)

    def names(self, workdir):
        return sorted(path.relative_to(workdir / writers.PICTURES).as_posix() for path in workdir.rglob("*.png"))

    def write(self, workdir, steps, *, resume_step=None):
        with writers.open_writers(workdir, ROWS_ONLY, resume_step=resume_step) as writer:
            for step in steps:
                writer.write_images(step, {"val/samples": self.images(seed=step), "val/real": self.images()})

    def test_a_grid_is_about_square_with_white_gaps_pixel_for_pixel(self):
        images = self.images()
        sheet = pictures.grid(images)
        assert sheet.shape == (2 * 3 + 2, 3 * 4 + 2 * 2, 1)
        np.testing.assert_array_equal(sheet[5:8, 6:10], images[4])
        np.testing.assert_array_equal(sheet[:3, 12:], images[2])
        covered = np.zeros(sheet.shape, bool)
        for y, x in ((0, 0), (0, 6), (0, 12), (5, 0), (5, 6)):
            covered[y : y + 3, x : x + 4] = True
        assert (sheet[~covered] == 255).all()
        assert pictures.grid(self.images(64, 8, 8)).shape == (78, 78, 1)

    @pytest.mark.parametrize(("count", "columns"), [(1, None), (5, None), (6, 3), (7, 2), (4, 9)])
    def test_a_grid_is_cut_into_its_images_again(self, tmp_path, count, columns):
        for channels in (1, 3):
            images = self.images(count, channels=channels)
            np.testing.assert_array_equal(pictures.tiles(pictures.grid(images, columns), count, 3, 4), images)
            pictures.write(tmp_path / "a" / "b.png", images, columns)
            np.testing.assert_array_equal(pictures.read(tmp_path / "a" / "b.png"), images)
            with Image.open(tmp_path / "a" / "b.png") as picture:
                assert picture.mode == {1: "L", 3: "RGB"}[channels]

    @pytest.mark.parametrize("shape", [(5, 3, 3), (5, 4, 3), (7, 3, 4), (3, 3, 4), (0, 3, 4)])
    def test_what_is_no_such_grid_is_refused(self, shape):
        with pytest.raises(ValueError, match="A picture of 8×16 is no grid of"):
            pictures.tiles(pictures.grid(self.images()), *shape)

    @pytest.mark.parametrize("text", [None, "5 3", "5 3 -4", "5 3 4 1"])
    def test_files_of_other_programs_are_refused(self, tmp_path, text):
        info = pictures_text(text)
        Image.fromarray(pictures.grid(self.images())[..., 0]).save(tmp_path / "a.png", pnginfo=info)
        with pytest.raises(ValueError, match=r"a\.png does not say which images are in it"):
            pictures.read(tmp_path / "a.png")

    def test_training_leaves_a_file_per_step_and_name_of_at_most_64_images(self, tmp_path):
        many = self.images(70)
        with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
            writer.write_images(7, {"val/samples": many, "odd": many[:2], "none": many[:0]})
            writer.write_images(123_456_789, {"val/samples": many[:1]})
        assert self.names(tmp_path) == ["odd/00000007.png", "val/samples/00000007.png", "val/samples/123456789.png"]
        found = pictures.written(tmp_path / writers.PICTURES)
        assert {name: list(paths) for name, paths in found.items()} == {"odd": [7], "val/samples": [7, 123_456_789]}
        np.testing.assert_array_equal(pictures.read(found["val/samples"][7]), many[:64])

    @pytest.mark.parametrize(("resume_step", "kept"), [(None, []), (0, [0]), (2, [0, 2]), (9, [0, 2, 3, 5])])
    def test_resume_takes_back_later_pictures_and_unfinished_ones(self, tmp_path, resume_step, kept):
        self.write(tmp_path, (0, 2, 3, 5))
        folder = tmp_path / writers.PICTURES / "val" / "samples"
        (folder / ".00000003.png.0123abcd").write_bytes(b"of a kill")
        (folder / "my notes.png").write_bytes(b"a person's")
        self.write(tmp_path, (), resume_step=resume_step)
        expected = [f"val/{name}/{step:08d}.png" for name in ("real", "samples") for step in kept]
        assert [name for name in self.names(tmp_path) if "notes" not in name] == expected
        assert {path.name for path in folder.iterdir()} == {"my notes.png", *(f"{step:08d}.png" for step in kept)}

    @pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a//b", ".a", ""])
    def test_no_name_leaves_the_folder(self, tmp_path, name):
        with writers.open_writers(tmp_path / "run", ROWS_ONLY, resume_step=None) as writer:
            with pytest.raises(ValueError, match="cannot be the name of pictures"):
                writer.write_images(1, {name: self.images()})
        assert not list(tmp_path.rglob("*.png"))

    def test_only_the_first_process_writes(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jax.process_index", lambda: 1)
        self.write(tmp_path / "run", (1,))
        assert not (tmp_path / "run").exists()


def pictures_text(text):
    """Returns PNG texts that say `text` where the writer says how many images there are."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if text is not None:
        info.add_text("vision_jax:images", text)
    return info


WRITE = """
import json, pathlib, sys
import numpy as np
from types import SimpleNamespace as N
from vision_jax.writers import open_writers

for resume in (None, 2):
    config = N(log=N(tensorboard=True), wandb=N(project=""))
    with open_writers(sys.argv[1], config, resume_step=resume) as w:
        w.write_hparams({"seed": 0, "model": {"name": "cnn"}})
        for step in range(4) if resume is None else (3, 4):
            w.write_scalars(step, {"train/loss": step / 7})
            w.write_images(step, {"samples": np.full((2, 4, 4, 3), step, np.uint8)})
        w.write_final(2, {"test/accuracy": 0.5})
print(json.dumps(sorted({"tensorflow", "tensorboard", "tensorboardX"} & set(sys.modules))))
"""
UNINSTALLED = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
absent = ("tensorflow", "tensorboard")
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in absent else find(name, *rest)
"""


class TestStart:
    """In a process of its own, as a run is: what is imported, and what a person sees of it."""

    def start(self, workdir, program):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        process = subprocess.run(
            [sys.executable, "-c", program, str(workdir)], capture_output=True, text=True, env=environment, check=True
        )
        assert process.stderr == ""
        found = events(workdir)
        assert [(step, value.item()) for step, value in found["train/loss"]] == [
            (step, float(np.float32(step / 7))) for step in range(5)
        ]
        assert [step for step, _ in found["samples"]] == list(range(5))
        assert [(step, value.item()) for step, value in found["test/accuracy"]] == [(2, 0.5)]
        return json.loads(process.stdout)

    def test_without_tensorflow_files_are_written_and_nothing_is_said(self, tmp_path):
        pytest.importorskip("tensorboard")
        assert self.start(tmp_path, UNINSTALLED + WRITE) == ["tensorboardX"]

    def test_tensorflow_starts_silently(self, tmp_path):
        pytest.importorskip("tensorflow")
        assert "tensorflow" in self.start(tmp_path, WRITE)


def test_tensorboard_files_can_be_left_out(tmp_path, caplog):
    with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
        writer.write_scalars(1, {"x": 1})
    assert caplog.records == []
    assert not (tmp_path / writers.EVENTS).exists()


def plain_writer(folder):
    return event_files.SummaryWriter(str(folder))


class TestTensorBoard:
    @pytest.fixture(autouse=True, params=["CLU", "tensorboardX"])
    def tensorflow(self, request, monkeypatch):
        if request.param == "tensorboardX":
            monkeypatch.setattr(tensorboard, "_summary_writer", plain_writer)
        return pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

    def write(self, writer, steps):
        for step in steps:
            writer.write_scalars(step, {"train/loss": 1 / (step + 1), "train/odd": math.inf})
            writer.write_scalars(step, {"val/loss": np.float32(0.1) * step})
            writer.write_timings(step, {"timing/steps_per_second": 3.3 * step})
            writer.write_images(step, {"samples": np.full((2, 4, 4, 3), step, np.uint8)})

    def age(self, workdir):
        """Gives the one event file the name of an earlier second: files are read in the order of their names."""
        (path,) = (workdir / writers.EVENTS).glob("events.out.tfevents.*")
        return path.rename(path.with_name("events.out.tfevents.1000000000.host.1.0.v2"))

    def test_events_equal_the_rows(self, tmp_path):
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            writer.write_hparams({"seed": 0, "model": {"name": "cnn", "channels": (8, 16), "weights": None}})
            self.write(writer, range(5))
        assert_events_equal_rows(tmp_path)
        images = events(tmp_path)["samples"]
        assert [step for step, _ in images] == list(range(5))
        assert images[0][1].shape == (4,)  # width, height and two PNG files

    @pytest.mark.parametrize("starts", [(0,), (1,), (0, 1)], ids=str)
    def test_hyper_parameters_are_there_once_whoever_writes_them(self, tmp_path, tensorflow, starts):
        for start, resume_step in enumerate((None, 2)):
            with writers.open_writers(tmp_path, config(), resume_step=resume_step) as writer:
                if start in starts:
                    writer.write_hparams({"seed": 0, "model": {"name": "cnn"}})
                self.write(writer, range(0 if resume_step is None else 3, 4))
        found = [
            value.metadata.plugin_data.content
            for path in sorted((tmp_path / writers.EVENTS).glob("*tfevents*"))
            for record in tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator()
            for value in tensorflow.compat.v1.Event.FromString(record).summary.value
            if value.tag == "_hparams_/session_start_info"
        ]
        assert len(found) == 1
        assert b"model.name" in found[0]

    @pytest.mark.parametrize("resume_step", [None, 0, 2, 3])
    def test_killed_and_resumed_run_has_each_event_once(self, tmp_path, resume_step):
        """As after a kill: events and rows go further than the checkpoint, and the last record is torn."""
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(5))
        path = self.age(tmp_path)
        path.write_bytes(path.read_bytes()[:-7])
        with writers.open_writers(tmp_path, config(), resume_step=resume_step) as writer:
            self.write(writer, range(0 if resume_step is None else resume_step + 1, 7))
        assert_events_equal_rows(tmp_path)
        assert [step for step, _ in events(tmp_path)["samples"]] == list(range(7))

    @pytest.mark.parametrize("left", [0.5, 0])
    def test_events_that_a_kill_lost_come_back_from_rows_and_grids(self, tmp_path, left):
        """A kill may come before TensorFlow is even loaded; the rows and the grids are there."""
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(5))
        before = dict(events(tmp_path)["samples"])
        path = self.age(tmp_path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
        with writers.open_writers(tmp_path, config(), resume_step=3) as writer:
            self.write(writer, range(4, 6))
        assert_events_equal_rows(tmp_path)
        after = events(tmp_path)["samples"]
        assert sorted(step for step, _ in after) == list(range(6))
        assert all(np.array_equal(image, before[step]) for step, image in after if step in before)

    def test_events_after_a_damaged_record_come_back_from_the_rows(self, tmp_path):
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(5))
        path = self.age(tmp_path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        left = path.with_name(f".{path.name}.0123abcd")
        left.write_bytes(b"of a kill while the file was replaced")
        with writers.open_writers(tmp_path, config(), resume_step=4) as writer:
            self.write(writer, range(5, 6))
        assert_events_equal_rows(tmp_path)
        assert not left.exists()

    @pytest.mark.parametrize("best", [2, 4])
    def test_final_evaluation_is_there_once_however_often_a_finished_run_is_started(self, tmp_path, best):
        picture = {"report/confusion": np.zeros((1, 4, 4, 3), np.uint8)}
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(5))
            writer.write_final(best, {"val/loss": np.float32(7), "test/accuracy": np.float32(0.25)}, picture)
        rows = (tmp_path / writers.METRICS).read_bytes()
        for accuracy in (0.25, 0.75):  # Evaluated again, perhaps by better code: the newest number counts.
            with writers.open_writers(tmp_path, config(), resume_step=4) as writer:
                writer.write_final(best, {"val/loss": 7.0, "test/accuracy": accuracy})
                writer.write_images(best, picture)
            found = events(tmp_path)
            assert [(step, value.item()) for step, value in found["test/accuracy"]] == [(best, accuracy)]
            assert [step for step, _ in found["report/confusion"]] == [best]
            assert [step for step, _ in found["samples"]] == list(range(5))
            assert found["val/loss"] == [(step, np.float32(0.1) * step) for step in range(5)]
        assert (tmp_path / writers.METRICS).read_bytes() == rows


def test_tensorboard_shows_the_same_whoever_writes(tmp_path, monkeypatch):
    """Tags, steps, plugins and values, pixels, and hyper-parameters, through TensorFlow and without it."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from tensorboard.plugins.hparams import plugin_data_pb2

    random = np.random.default_rng(0)
    images = {f"images/{c}": random.integers(0, 256, (3, 5, 7, c), np.uint8) for c in (1, 3)}
    scalars = {"a/b": 1 / 3, "with space": math.nan, "big": 2**40, "huge": 1e300, "low": -math.inf, "zero": 0}

    def written(name):
        with writers.open_writers(tmp_path / name, config(), resume_step=None) as writer:
            writer.write_hparams(
                {"seed": 3, "rate": 0.1, "on": True, "model": {"name": "cnn", "channels": (8, 16), "weights": None}}
            )
            for step in (0, 5, 2**33):
                writer.write_scalars(step, scalars)
                writer.write_images(step, images)
            writer.write_final(5, {"test/accuracy": 0.97, "zero": 1.0})
        found = reader(tmp_path / name)
        metadata = {tag: found.SummaryMetadata(tag) for tag in found.Tags()["tensors"]}
        (info,) = [m.plugin_data for m in metadata.values() if m.plugin_data.plugin_name == "hparams"]
        hparams = plugin_data_pb2.HParamsPluginData.FromString(info.content)
        assert hparams.session_start_info.start_time_secs > 1e9
        hparams.session_start_info.ClearField("start_time_secs")
        info.ClearField("content")
        return events(tmp_path / name), metadata, hparams

    through_clu, clu_metadata, clu_hparams = written("clu")
    monkeypatch.setattr(tensorboard, "_summary_writer", plain_writer)
    plain, plain_metadata, plain_hparams = written("plain")
    assert plain_metadata == clu_metadata
    assert plain_hparams == clu_hparams
    assert set(plain_hparams.session_start_info.hparams) == {
        *("seed", "rate", "on", "model.name", "model.channels", "model.weights")
    }
    assert list(plain) == list(through_clu)
    for tag, points in plain.items():
        assert [step for step, _ in points] == [step for step, _ in through_clu[tag]]
        for (_, one), (_, other) in zip(points, through_clu[tag], strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            if tag in images:
                assert list(one[:2]) == list(other[:2]) == [b"7", b"5"]
                for png, other_png, image in zip(one[2:], other[2:], images[tag], strict=True):
                    pixels, others = (np.asarray(Image.open(io.BytesIO(data))) for data in (png, other_png))
                    np.testing.assert_array_equal(pixels.reshape(image.shape), image)
                    np.testing.assert_array_equal(pixels, others)
            else:
                np.testing.assert_array_equal(one, other)


def test_tensorflow_that_cannot_be_used_changes_nothing(tmp_path, caplog, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "clu.metric_writers", None)
    with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
        writer.write_scalars(1, {"x": 0.5})
    assert caplog.records == []
    assert_events_equal_rows(tmp_path)


def test_a_view_that_fails_is_said_once_and_the_rows_are_written(tmp_path, caplog, monkeypatch):
    for name in ("tensorflow", "tensorboardX.event_file_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
        for step in range(3):
            writer.write_scalars(step, {"x": 1})
    assert [r.getMessage().count("Writing TensorBoard files to") for r in caplog.records] == [1]
    assert len(writers.read_rows(tmp_path / writers.METRICS)) == 3


def test_opening_waits_for_no_import():
    """Nor does importing the module load what only the views need."""
    program = (
        "import sys, vision_jax.writers\n"
        "print(sorted({'tensorflow', 'tensorboard', 'tensorboardX', 'wandb', 'clu', 'torch'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


class TestWeightsAndBiases:
    def test_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ConfigError, match=r"config.wandb.project is 'p'.*pip install 'vision_jax\[wandb\]'"):
            writers.open_writers(tmp_path, config("p", tensorboard=False), resume_step=None)

    def test_offline_run_is_written_and_keeps_its_id(self, tmp_path):
        """In a process of its own, because wandb starts a service and hooks into the interpreter."""
        pytest.importorskip("wandb", reason="wandb is not installed")
        program = (
            "import sys, numpy as np; from types import SimpleNamespace as N\n"
            "from vision_jax.writers import open_writers\n"
            "config = N(log=N(tensorboard=False), wandb=N(project='p', name=''))\n"
            "for resume in (None, 1):\n"
            "  with open_writers(sys.argv[1], config, resume_step=resume) as w:\n"
            "    w.write_hparams({'seed': 0, 'model': {'name': 'cnn'}})\n"
            "    w.write_scalars(1 if resume is None else 2, {'train/loss': 0.5})\n"
            "    w.write_images(2, {'samples': np.zeros((2, 4, 4, 1), np.uint8)})\n"
            "    w.write_final(1, {'test/accuracy': 0.97}, {'confusion': np.zeros((1, 4, 4, 3), np.uint8)})\n"
            "    import wandb; summary = wandb.run.summary\n"
            "    assert summary['test/accuracy'] == 0.97 and 'confusion' in summary.keys(), summary\n"
        )
        environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, timeout=240)
        name = (tmp_path / "wandb_id.txt").read_text().strip()
        runs = sorted(pathlib.Path(tmp_path, "wandb").glob(f"offline-run-*-{name}"))
        assert runs
        assert all(list(run.glob("*.wandb")) for run in runs)

"""What a run writes its numbers to: exact, strict, and the same after a kill and a resume."""

import json
import math
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vision_jax import writers


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


def events(workdir):
    """Returns `{tag: [(step, value)]}` as TensorBoard itself reads the event files, nothing sampled away."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.util import tensor_util

    reader = accumulator.EventAccumulator(
        str(workdir / writers.EVENTS), size_guidance={accumulator.TENSORS: 0}, purge_orphaned_data=True
    )
    reader.Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in reader.Tensors(tag)]
        for tag in reader.Tags()["tensors"]
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


def test_without_tensorflow_one_warning_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
        writer.write_scalars(1, {"x": 1})
        writer.write_images(1, {"samples": np.zeros((1, 4, 4, 1), np.uint8)})
    (record,) = caplog.records
    assert record.getMessage().startswith("TensorBoard files are not written: tensorflow ")
    assert "pip install tensorflow" in record.getMessage()
    assert not (tmp_path / writers.EVENTS).exists()


def test_tensorboard_files_can_be_left_out(tmp_path, caplog):
    with writers.open_writers(tmp_path, ROWS_ONLY, resume_step=None) as writer:
        writer.write_scalars(1, {"x": 1})
    assert caplog.records == []
    assert not (tmp_path / writers.EVENTS).exists()


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def tensorflow(self):
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
    def test_events_that_a_kill_lost_come_back_from_the_rows(self, tmp_path, left):
        """A kill may come before TensorFlow is even loaded; the rows are there."""
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(5))
        path = self.age(tmp_path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
        with writers.open_writers(tmp_path, config(), resume_step=3) as writer:
            self.write(writer, range(4, 6))
        assert_events_equal_rows(tmp_path)

    def test_an_import_that_fails_is_one_warning(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setitem(sys.modules, "clu.metric_writers", None)
        with writers.open_writers(tmp_path, config(), resume_step=None) as writer:
            self.write(writer, range(3))
        assert [r.getMessage().count("TensorBoard files are not written") for r in caplog.records] == [1]
        assert len(writers.read_rows(tmp_path / writers.METRICS)) == 6


def test_opening_waits_for_no_import():
    """Nor does importing the module load what only the views need."""
    program = (
        "import sys, vision_jax.writers\n"
        "print(sorted({'tensorflow', 'tensorboard', 'wandb', 'clu'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


class TestWeightsAndBiases:
    def test_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ImportError, match=r"config.wandb.project is 'p'.*pip install 'vision_jax\[wandb\]'"):
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
        )
        environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, timeout=240)
        name = (tmp_path / "wandb_id.txt").read_text().strip()
        runs = sorted(pathlib.Path(tmp_path, "wandb").glob(f"offline-run-*-{name}"))
        assert runs
        assert all(list(run.glob("*.wandb")) for run in runs)

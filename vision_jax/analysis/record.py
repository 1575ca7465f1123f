"""What a run left in its folder, read without its code, its networks or its data."""

import functools
import json
import pathlib
import shlex
from typing import Any

import numpy as np

from vision_jax import writers
from vision_jax.writers import pictures as pictures_lib

Arrays = dict[str, np.ndarray]


class Record:
    """The files of a run.

    Attributes:
        workdir: its folder.
    """

    def __init__(self, workdir: str | pathlib.Path):
        self.workdir = pathlib.Path(workdir)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The options of the run, nested."""
        return self._json("config.json")

    @functools.cached_property
    def dataset(self) -> dict[str, Any]:
        """Name, names of the classes and superclasses, examples per class of each split, image shape, provenance."""
        return self._json("dataset.json")

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """What ran where, when it was started."""
        return self._json("environment.json")

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """The final results."""
        return self._json("report/results.json")

    @property
    def finished(self) -> bool:
        """Whether there are results, and they were made after training had ended, not during it by an evaluation."""
        written = (self.workdir / "report" / "results.json").is_file()
        return bool(written and self.results.get("finished", True))  # Earlier versions did not say.

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics written during training."""
        return writers.read_rows(self.workdir / writers.METRICS)

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps in which every training example is seen once; None for an evaluation on other data."""
        examples = self.results.get("examples", {}).get("train")
        return examples / self.config["data"]["batch_size"] if examples else None

    def steps(self) -> Arrays:
        """Returns what was kept of every single step, float64 [N] by name, and 'step', int64 [N]; {} if nothing was."""
        rows = writers.read_rows(self.workdir / writers.STEPS)
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    def training_pictures(self) -> dict[str, dict[int, pathlib.Path]]:
        """Returns the grids written during training as {'EVALUATOR/NAME': {step: path}}, steps ascending.

        `vision_jax.writers.pictures.read` gives the images in a file.
        """
        return pictures_lib.written(self.workdir / writers.PICTURES)

    def outputs(self, evaluator: str) -> Arrays:
        """Returns what an evaluator kept of each example at the end: arrays [N, …], 'index' in the split among them."""
        return self._arrays(f"outputs/{evaluator}.npz")

    def pictures(self, evaluator: str) -> Arrays:
        """Returns an evaluator's pictures at the end, uint8 [N, H, W, C] by name; {} where it has none."""
        name = f"outputs/{evaluator}_pictures.npz"
        return self._arrays(name) if (self.workdir / name).exists() else {}

    def best_test(self) -> str:
        """Returns the evaluator to show: 'test', else the first of another split held out, else 'val'."""
        evaluations = self.results["evaluations"]
        if "test" in evaluations:
            return "test"
        return next((name for name, found in evaluations.items() if found["split"] not in ("train", "val")), "val")

    @property
    def config_name(self) -> str:
        """The config that the run was started with, 'digits_cnn.py:smoke'; '' where its command names none."""
        words = shlex.split(self.environment["command"])
        given = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
        return pathlib.PurePath(given[-1]).name if given else ""

    def _json(self, name: str) -> Any:
        return json.loads((self.workdir / name).read_text())

    def _arrays(self, name: str) -> Arrays:
        with np.load(self.workdir / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key != "fingerprint"}


def check_same_examples(first: Record, second: Record, evaluator: str) -> None:
    """Raises `ValueError` unless an evaluation of two runs was of the same examples; it says what differs."""
    found = [record.results["evaluations"].get(evaluator) for record in (first, second)]
    if None in found or found[0] != found[1]:
        described = (f"{r.workdir}: {f or 'no such evaluation'}" for r, f in zip((first, second), found, strict=True))
        raise ValueError(f"The evaluations {evaluator!r} saw different examples; {'; '.join(described)}.")

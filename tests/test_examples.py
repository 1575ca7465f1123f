"""The notebook runs from top to bottom, offline, and holds no outputs that could be stale."""

import contextlib
import json

import numpy as np
from PIL import Image


def test_the_notebook_runs(repository, tmp_path, monkeypatch, capsys):
    notebook = json.loads((repository / "configs/examples/first_hour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    values = []
    for cell in cells:
        with contextlib.suppress(SyntaxError):  # The last line is mostly an expression: what a notebook shows.
            *before, last = cell.splitlines()
            compile(last, "cell", "eval")
            exec("\n".join(before), names)
            values.append(eval(last, names))
            continue
        exec(cell, names)
    metrics, answers, shapes, picture, _ = values
    assert metrics["test/accuracy"] > 0.5
    labels = np.array([label for label, _ in answers])
    assert len(labels) == 8
    assert shapes == ((8, 10), (8, 64))
    assert isinstance(picture, Image.Image) and picture.size == (160, 160)
    assert "report/index.html in a browser" in capsys.readouterr().out

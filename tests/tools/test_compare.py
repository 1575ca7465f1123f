import json
import sys

import numpy as np

from tests import classifier_runs, forked_commands
from vision_jax import config as config_lib
from vision_jax.data import datasets, sources
from vision_jax.tools import compare


def runs(tmp_path, fingerprint=None):
    """Two runs on the digits."""
    options = {"data.name": "digits", "data.limit": 60}
    config = config_lib.default()
    for name, value in options.items():
        config_lib.assign(config, name, value)
    source = datasets.load(config.data).splits["test"]
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        logits = (rng.normal(size=(len(source), 10)) + 2 * np.eye(10)[source.labels]).astype(np.float32)
        arrays = {"index": np.arange(len(source)), "label": source.labels, "logits": logits}
        found.append(
            classifier_runs.write(
                tmp_path / f"run{seed}",
                {"test": arrays},
                names=tuple("0123456789"),
                options={**options, "optimizer.learning_rate": 0.1 * (1 + seed)},
                fingerprints={"test": fingerprint or sources.fingerprint(source)},
            )
        )
    return found


def test_images_come_from_the_data_set_of_the_runs(tmp_path):
    page = compare.write(runs(tmp_path), tmp_path / "out")
    assert page == tmp_path / "out" / "index.html"
    assert (tmp_path / "out" / "right_in_0_wrong_in_1.png").exists()
    assert [row["name"] for row in json.loads((tmp_path / "out/comparison.json").read_text())["rows"]] == [
        "run0",
        "run1",
    ]


def test_images_of_data_that_changed_are_not_shown(tmp_path):
    page = compare.write(runs(tmp_path, fingerprint="of before"), tmp_path / "out")
    assert "is no longer what it was evaluated on" in page.read_text()
    assert not list((tmp_path / "out").glob("right_in*"))


def test_the_command(tmp_path):
    def run(*arguments):
        return forked_commands.run([sys.executable, "-m", "vision_jax.tools.compare", *map(str, arguments)])

    done = run(*runs(tmp_path), f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Wrote {tmp_path / 'out' / 'index.html'}\n"
    refused = run(tmp_path / "run0", tmp_path)
    assert refused.returncode == 2 and refused.stderr.endswith("is no folder of a run: it has no config.json.\n")

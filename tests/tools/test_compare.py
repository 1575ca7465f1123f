import json
import sys

import numpy as np
import pytest

from tests import classifier_runs, forked_commands
from vision_jax import config as config_lib
from vision_jax.analysis.record import Record
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
    assert "is not, or is no longer, what was evaluated" in page.read_text()
    assert not list((tmp_path / "out").glob("right_in*"))


def images_of(workdir, **values):
    """What gives the images of a run whose evaluation 'test' has other facts, and why nothing does."""
    record = Record(workdir)
    record.results["evaluations"]["test"] |= values
    return compare._images(record)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"examples": 7, "fingerprint": "other"}, "'test' of digits is not, or is no longer, what was evaluated."),
        ({"split": "Set5"}, "digits has no split 'Set5'; there are train, val, test."),
    ],
)
def test_images_of_other_data_are_not_given(tmp_path, values, words):
    found, why = images_of(runs(tmp_path)[0], **values)
    assert found is None and words in why


def test_images_of_a_part_of_a_split_are_given(tmp_path):
    workdir = runs(tmp_path)[0]
    source = datasets.of_config(config_lib.from_dict(Record(workdir).config)).splits["test"]
    found, why = images_of(workdir, examples=7, fingerprint=sources.fingerprint(datasets.limited(source, 7)))
    assert why == ""
    np.testing.assert_array_equal(found("test", [3, 1]), source.images[[3, 1]])


def test_the_command(tmp_path):
    def run(*arguments):
        return forked_commands.run([sys.executable, "-m", "vision_jax.tools.compare", *map(str, arguments)])

    done = run(*runs(tmp_path), f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Wrote {tmp_path / 'out' / 'index.html'}\n"
    refused = run(tmp_path / "run0", tmp_path)
    assert refused.returncode == 2 and refused.stderr.endswith("is no folder of a run: it has no config.json.\n")

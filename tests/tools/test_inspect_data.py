import pathlib
import sys

import numpy as np

from tests import classifier_runs, forked_commands
from vision_jax import config as config_lib
from vision_jax.data import datasets, sources

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "vision_jax.tools.inspect_data", *map(str, arguments)]
    return forked_commands.run(command, cwd=REPOSITORY)


def test_page_of_the_digits(tmp_path):
    done = run("--config=configs/digits_cnn.py:smoke", f"--output={tmp_path / 'page'}")
    assert done.returncode == 0, done.stderr
    assert f"Wrote {tmp_path / 'page' / 'index.html'}" in done.stdout
    assert "The data set digits" in (tmp_path / "page" / "index.html").read_text()


def test_a_set_that_is_not_prepared_is_a_sentence(tmp_path):
    done = run("--config=configs/digits_cnn.py", "--config.data.name=cifar10", f"--output={tmp_path}")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "vision-jax prepare cifar10\n" in done.stderr


def test_a_run_s_own_data_and_labels(tmp_path):
    config = config_lib.default()
    config.data.name, config.data.limit = "digits", 60
    source = datasets.load(config.data).splits["test"]
    logits = np.random.default_rng(0).normal(size=(len(source), 10)).astype(np.float32)
    workdir = classifier_runs.write(
        tmp_path / "run",
        {"test": {"index": np.arange(len(source)), "label": source.labels, "logits": logits}},
        names=tuple("0123456789"),
        options={"data.name": "digits", "data.limit": 60},
        fingerprints={"test": sources.fingerprint(source)},
    )
    done = run(f"--workdir={workdir}", f"--output={tmp_path / 'page'}")
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "page" / "index.html").read_text()
    assert f"suspects among {len(source)} pictures" in content and "Near-duplicates" in content
    both = run(f"--workdir={workdir}", "--config=configs/digits_cnn.py", f"--output={tmp_path}")
    assert both.returncode != 0 and "Name a config" in both.stdout + both.stderr

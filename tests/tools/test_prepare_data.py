"""The command: what it prints, and that a person never sees a traceback."""

import pytest
from absl import flags
from absl.testing import flagsaver

from tests.data.prepare import publishers_files as files
from tests.data.prepare.test_prepared import random_splits
from vision_jax.data import prepare
from vision_jax.tools import prepare_data


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["prepare_data"])


def run(*names, **values):
    with flagsaver.flagsaver(**values):
        prepare_data.main(["prepare_data", *names])


def test_prepares_and_says_so(tmp_path, capsys):
    files.write_mnist(tmp_path / "files", random_splits({"train": 5, "test": 2}, (28, 28), 10))
    values = {"archives": str(tmp_path / "files"), "data_dir": str(tmp_path / "data"), "allow_unverified": True}
    run("mnist", "fashion_mnist", **values)
    assert "mnist is prepared: " in capsys.readouterr().out
    assert len(prepare.open_prepared("fashion_mnist", tmp_path / "data").splits["train"]) == 5
    run("mnist", **values)
    assert "prepared already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar01", "did you mean 'cifar10'"),
        ("digits", "nothing to prepare"),
        ("mnist", "put the file train-images-idx3-ubyte.gz (sha256"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(name, said, tmp_path):
    with pytest.raises(SystemExit) as error:
        run(name, data_dir=str(tmp_path))
    assert said in str(error.value.code)


def test_no_name():
    with pytest.raises(SystemExit, match="svhn_cropped"):
        run()

import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "vision_jax.tools.inspect_data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_page_of_the_digits(tmp_path):
    done = run("--config=configs/digits_cnn.py:smoke", f"--output={tmp_path / 'page'}")
    assert done.returncode == 0, done.stderr
    assert f"Wrote {tmp_path / 'page' / 'index.html'}" in done.stdout
    assert "The data set digits" in (tmp_path / "page" / "index.html").read_text()


def test_a_set_that_is_not_prepared_is_a_sentence(tmp_path):
    done = run("--config=configs/digits_cnn.py", "--config.data.name=cifar10", f"--output={tmp_path}")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "python -m vision_jax.tools.prepare_data cifar10\n" in done.stderr

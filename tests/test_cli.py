"""`vision-jax`: what stands behind each word, and a help that fits on a screen."""

import importlib.util
import pathlib
import sys

import pytest

from vision_jax import cli, listing, models


def run(monkeypatch, *arguments):
    """Returns what the command line would start."""
    started = []
    monkeypatch.setattr(sys, "argv", ["vision-jax", *arguments])
    status = cli.main(lambda path, command: started.append(command[1:]))
    return started[0] if started else status


def test_the_help_fits_on_a_screen_and_names_every_command(monkeypatch, capsys):
    assert run(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"  {word} ") for line in lines) for word in cli.COMMANDS)


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_every_word_is_a_program(word):
    module = cli.COMMANDS[word][0]
    if word == "upscale" and importlib.util.find_spec(module) is None:
        pytest.skip("the program is not part of this revision")
    path = pathlib.Path(importlib.util.find_spec(module).origin)
    assert '__name__ == "__main__"' in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "train configs/a.py:smoke --workdir=w",
            "-m vision_jax.main --mode=train --config=configs/a.py:smoke --workdir=w",
        ),
        ("train --workdir=w", "-m vision_jax.main --mode=train --workdir=w"),
        ("eval w --data=d", "-m vision_jax.main --mode=eval --workdir=w --data=d"),
        ("predict a.jpg --workdir=w", "-m vision_jax.tools.predict a.jpg --workdir=w"),
        ("sample w --n=4", "-m vision_jax.tools.sample --workdir=w --n=4"),
        ("replay w --step=4", "-m vision_jax.tools.replay --workdir=w --step=4"),
        ("list options mlp", "-m vision_jax.listing options mlp"),
    ],
)
def test_words_become_programs(arguments, expected, monkeypatch):
    assert " ".join(run(monkeypatch, *arguments.split())) == expected


def test_an_unknown_word_names_the_closest(monkeypatch, capsys):
    assert run(monkeypatch, "trian") == 2
    assert capsys.readouterr().err == "ERROR: There is no command 'trian'; did you mean 'train'?\n"


def test_lists(capsys):
    assert listing.main(["networks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(models.MODELS)
    (row,) = (line for line in lines if line.startswith("resnet18 "))
    assert "11,689,512" in row and "44.6 MiB" in row and "imagenet" in row and "69.76 %" in row
    assert listing.main(["data"]) == 0
    text = capsys.readouterr().out
    assert "60,000 train + 10,000 test" in text and "vision-jax prepare mnist" in text and "digits" in text
    assert listing.main(["options", "mlp"]) == 0
    assert "--config.model.mlp.hidden=" in capsys.readouterr().out
    assert listing.main(["netwroks"]) == 2
    assert "did you mean 'networks'?" in capsys.readouterr().err

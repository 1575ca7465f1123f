"""README: every command in it is one that there is, and runs as printed in a fresh folder."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

from vision_jax import cli, command_line, config_files, listing, run

# Needs a network, or other processes: what is run in its place.
INSTEAD = {
    "vision-jax train resnet18_photos --config.data.root=photos --workdir=runs/mine": (
        "vision-jax train resnet18_photos:smoke --config.data.root=photos --workdir=runs/mine"
    ),
    "vision-jax train cifar10_cnn --prepare --workdir=runs/cifar10": (
        "vision-jax train cifar10_cnn:smoke --prepare --workdir=runs/cifar10"
    ),
    "vision-jax train digits_cnn:smoke --workdir=runs/cluster --coordinator=auto": (
        "vision-jax train digits_cnn:smoke --workdir=runs/cluster"
    ),
}


@pytest.fixture(scope="module")
def text(repository):
    return (repository / "README.md").read_text()


def commands(text):
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def test_it_is_short_and_leads_everywhere(text, repository):
    assert len(text.splitlines()) <= 150
    anchors = {
        re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target[1:] in anchors if target.startswith("#") else (repository / target).exists(), target
    # Of the project's own folders: a virtual environment beside them, whatever its name, has pages of other people.
    folders = [repository / name for name in (".github", "vision_jax", "configs", "launch", "tests", "third_party")]
    for page in itertools.chain.from_iterable(folder.rglob("README.md") for folder in folders):
        for target in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_extras_are_those_of_the_project(text, repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"`\.\[(\w+)\]`", text)) <= set(project["optional-dependencies"])
    assert project["scripts"] == {"vision-jax": "vision_jax.cli:main"}


def test_every_command_is_one_that_there_is(text, repository):
    found = [shlex.split(command)[1:] for command in commands(text) if command.startswith("vision-jax")]
    assert len(found) > 10 and set(INSTEAD) <= set(commands(text))
    for arguments in found:
        module, rest = cli.translate(arguments)
        rest, options = command_line.take_options(rest)
        source = (repository / f"{module.replace('.', '/')}.py").read_text()
        given = dict(argument.lstrip("-").partition("=")[::2] for argument in rest if argument.startswith("--"))
        for flag in given:
            assert f'"{flag}"' in source, f"{module} has no --{flag}"
        if "config" in given:
            config = config_files.load(given["config"])
            config_files.override(config, options)
            run.validate(config)
        if module == "vision_jax.listing":
            assert listing.main(rest) == 0


@pytest.mark.full
def test_every_command_runs_as_printed(text, repository, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "horse"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            image = rng.integers(0, 255, (40 + i, 50, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / name / f"{i}.jpg")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "vision-jax").write_text(f'#!/bin/sh\nexec {sys.executable} -m vision_jax.cli "$@"\n')
    (scripts / "vision-jax").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},  # A reader has one device.
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "PYTHONPATH": str(repository),
    }
    for command in commands(text):
        if command.startswith("vision-jax"):
            done = subprocess.run(
                INSTEAD.get(command, command),
                shell=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert json.loads((tmp_path / "runs/digits/report/results.json").read_text())["metrics"]["test/accuracy"] > 0.97
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 60

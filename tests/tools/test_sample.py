"""Images of a run's generator, as files: a folder, a grid, an array; and what is refused."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import forked_commands, untrained_runs
from vision_jax import checkpoints, evaluate, inference
from vision_jax import run as run_lib
from vision_jax.tasks import base, latent
from vision_jax.tools import sample
from vision_jax.writers import pictures


@pytest.fixture(scope="module")
def gan_folder(tmp_path_factory, load_config):
    """The workdir of a GAN on 8x8 gray digits with one checkpoint, whose averaged parameters are not the last ones."""
    config = load_config("dcgan_digits:smoke")
    config.data.limit, config.data.batch_size = 40, 16
    config.gan.temperature = 1.25
    config.model.dcgan_generator.width = config.model.dcgan_discriminator.width = 4

    def change(state):
        generator = state.networks["generator"]
        averaged = jax.tree.map(lambda leaf: 1.5 * leaf, generator.averaged)
        return state.replace(networks={**state.networks, "generator": generator.replace(averaged=averaged)})

    return untrained_runs.write(config, tmp_path_factory.mktemp("gan_run"), step=2, change=change)


@pytest.fixture(scope="module")
def generator(gan_folder):
    return inference.generator_of_run(gan_folder)


def test_the_generator_is_that_of_evaluation(gan_folder, generator):
    restored = checkpoints.read(gan_folder, 2)
    averaged, trained = (restored.state[f"networks/generator/{part}/convt0/kernel"] for part in ("averaged", "params"))
    np.testing.assert_array_equal(generator.variables["params"]["convt0"]["kernel"], averaged)
    np.testing.assert_allclose(averaged, 1.5 * trained, rtol=1e-6)
    assert (generator.latent_size, generator.class_names, generator.conditional) == (32, tuple("0123456789"), False)
    with run_lib.build(inference.open_run(gan_folder).config, gan_folder) as run:
        state = run.checkpoints.restore(2, run.abstract_state()).state
        noise = latent.noise(jax.random.key(0), 5, 32)
        expected = np.asarray(base.to_bytes(run.task.sample(state, noise, None))).astype(int)
    assert np.abs(generator.sample(5) - expected).max() <= 1


def test_other_images_are_measured_beside_the_run(gan_folder):
    """Its classes do not matter: the generator knows none."""
    config = inference.open_run(gan_folder).config
    with run_lib.build_for(config, gan_folder, "digits") as built:
        results = evaluate.final(built, None, evaluate.Evaluation(built))
    assert results["examples"] == {"test": 1797} and results["metrics"]["test/frechet_8x8"] > 0
    assert (gan_folder / "evaluations/digits/report/index.html").is_file()


def run(gan_folder, out, **options):
    return sample.run(**{"workdir": str(gan_folder), "checkpoint": "newest", "out": str(out)} | options)


def test_a_folder_of_pictures(gan_folder, generator, tmp_path, capsys):
    out = tmp_path / "new" / "samples"
    assert run(gan_folder, out, n=3, seed=4) == 0
    assert [path.name for path in sorted(out.iterdir())] == ["00000.png", "00001.png", "00002.png"]
    for path, expected in zip(sorted(out.iterdir()), generator.sample(3, seed=4), strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture)[..., None], expected)
    captured = capsys.readouterr()
    assert captured.out == f"Wrote 3 images to {out}.\n"
    assert "dcgan_generator of" in captured.err and "step 2" in captured.err
    assert [path.name for path in out.parent.iterdir()] == ["samples"]
    assert run(gan_folder, out, n=1) == 2  # Two sets in one folder are none.
    assert "is not empty; give another --out" in capsys.readouterr().err
    assert len(list(out.iterdir())) == 3


def test_a_grid_and_an_array(gan_folder, generator, tmp_path):
    assert run(gan_folder, tmp_path / "a.png", n=70) == 0
    images = pictures.read(tmp_path / "a.png")
    np.testing.assert_array_equal(images, generator.sample(70))
    assert run(gan_folder, tmp_path / "a.npz", n=5, truncation=0.5) == 0
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file.files == ["images"]
        np.testing.assert_array_equal(file["images"], generator.sample(5, truncation=0.5))


def test_interpolations_are_rows_of_eight(gan_folder, generator, tmp_path):
    assert run(gan_folder, tmp_path / "a.png", n=16, interpolate=True, seed=1) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (8 * 10 - 2, 2 * 10 - 2)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), generator.interpolate(2, 8, 1))


def test_classes_by_name_or_number():
    names = ["cat", "dog", "0"]
    assert [sample.class_index(given, names) for given in ("cat", "dog", "1", "0")] == [0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"no class 'dgo'; did you mean 'dog'\?; there are cat, dog, 0 \(0 to 2\)"):
        sample.class_index("dgo", names)
    for given in ("3", "-1"):
        with pytest.raises(ValueError, match=f"there is no class '{given}'"):
            sample.class_index(given, names)
    with pytest.raises(ValueError, match=r"n18, n19, … \(0 to 99\)"):
        sample.class_index("x", [f"n{i}" for i in range(100)])


class Gray(nn.Module):
    """Images 2x2 as bright as the number of their class."""

    @nn.compact
    def __call__(self, noise, labels, *, train):
        return jnp.ones((len(noise), 2, 2, 1)) * (labels.astype(jnp.float32) / 127.5 - 1.0)[:, None, None, None]


def test_a_class_is_made_by_name(monkeypatch, tmp_path, capsys):
    gray = inference.ImageGenerator("gray", Gray(), {}, 3, ("cat", "dog", "cow"), conditional=True)
    monkeypatch.setattr(sample.inference, "generator_of_run", lambda workdir, step: gray)
    for name, options in {
        "dog": {"class_name": "dog"},
        "all": {},
        "way": {"class_name": "2", "interpolate": True},
    }.items():
        assert run("anywhere", tmp_path / f"{name}.npz", n=8, **options) == 0
        with np.load(tmp_path / f"{name}.npz") as file:
            brightness = file["images"][:, 0, 0, 0].tolist()
        assert brightness == {"dog": [1] * 8, "all": [0, 1, 2, 0, 1, 2, 0, 1], "way": [2] * 8}[name]
    assert run("anywhere", tmp_path / "a.npz", class_name="dgo") == 2
    assert "ERROR: there is no class 'dgo'; did you mean 'dog'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"workdir": None}, "Give --workdir of a run"),
        ({"workdir": "nowhere"}, "There are no checkpoints in"),
        ({"checkpoint": "7"}, "no checkpoint 7"),
        ({"checkpoint": "bset"}, "no checkpoint bset"),
        ({"class_name": "3"}, "is not class-conditional; leave --class out"),
        ({"n": 12, "interpolate": True}, "--n=12 is no multiple of 8"),
        ({"truncation": 0.0}, "expected a number above 0"),
        ({"arguments": ["a"]}, "unexpected arguments: a"),
    ],
)
def test_what_cannot_be_done_is_refused_in_sentences(gan_folder, tmp_path, options, match, capsys):
    assert run(gan_folder, tmp_path / "out", **options) == 2
    error = capsys.readouterr().err
    assert match in error and error.splitlines()[-1].startswith("ERROR: ")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_picture_is_not_replaced(gan_folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(gan_folder, tmp_path / "notes.txt") == 2
    assert "neither .png nor .npz" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_other_runs_are_refused(run_folder, tmp_path, capsys):
    assert run(run_folder, tmp_path / "out") == 2
    assert (
        f"of the task classification, not gan; what is for it is `vision-jax predict PICTURES --workdir={run_folder}`."
        in (capsys.readouterr().err)
    )


def test_the_command(gan_folder, repository, tmp_path):
    arguments = [f"--workdir={gan_folder}", "--n=4", f"--out={tmp_path}/a.npz", "--class=3"]
    command = [sys.executable, "-m", "vision_jax.tools.sample"]
    done = forked_commands.run([*command, *arguments], cwd=repository)
    assert done.returncode == 2 and "is not class-conditional" in done.stderr
    done = forked_commands.run([*command, *arguments[:-1]], cwd=repository)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["images"].shape == (4, 8, 8, 1)

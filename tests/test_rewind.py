"""A run that is not finite: what is never saved, what ends it, and how it goes back and on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import checkpoints, monitor, rewind, train, writers
from vision_jax import run as run_lib
from vision_jax.data import pipeline
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.gan import GAN
from vision_jax.tools import verify_resume

pytestmark = pytest.mark.usefixtures("no_page")
RATE = 0.003  # Of the config's smoke variant, which evaluates and saves at steps 7 and 13.


def config_of(load_config, name="digits_cnn", **options):
    config = load_config(f"{name}:smoke")
    if name == "digits_cnn":
        config.model.name = "mlp"
        config.model.mlp = dict(hidden=(8,))
        config.schedule.name, config.schedule.warmup_epochs = "constant", 0.0
    config.log.tensorboard = False
    config.log.every_epochs, config.log.every_steps = 0.0, 3
    config.train.update(steps_per_dispatch=2, **options)
    return config


def trained(config, workdir):
    with run_lib.build(config, workdir) as run:
        return train.train(run)


@pytest.fixture
def poison(monkeypatch):
    """Makes the loss NaN, and the state infinite if asked for, where `when(state.step, metrics, batch)` is true."""

    def put(when, *, loss=jnp.nan, parameters=False):
        original = Classification.train_step

        def train_step(self, state, constants, batch, key):
            after, metrics = original(self, state, constants, batch, key)
            now = when(state.step, metrics, batch)
            metrics["loss"] = jnp.where(now, loss, metrics["loss"])
            if parameters:
                networks = jax.tree.map(
                    lambda x: jnp.where(now, jnp.inf, x) if jnp.issubdtype(x.dtype, jnp.floating) else x,
                    after.networks,
                )
                after = after.replace(networks=networks)
            return after, metrics

        monkeypatch.setattr(Classification, "train_step", train_step)

    return put


def rows_of(workdir, name="train/loss"):
    return {row["step"]: row for row in writers.read_rows(workdir / "metrics.jsonl") if name in row}


def test_parameters_that_are_not_finite_are_not_saved(load_config, tmp_path, poison):
    """The metrics of the step that breaks them are finite, and the evaluation is due right after it."""
    poison(lambda step, metrics, batch: step == 12, loss=1.0, parameters=True)
    words = (
        r"networks/model/params/\S+, .* and \d+ more became NaN or infinite at step 13\. The last good checkpoint is 7"
    )
    with pytest.raises(monitor.NotFiniteError, match=words):
        trained(config_of(load_config), tmp_path)
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == [7]
    assert set(rows_of(tmp_path, "val/loss")) == {7}


def test_an_evaluation_that_is_not_finite_ends_the_run(load_config, tmp_path, monkeypatch):
    monkeypatch.setattr(GAN, "sample", lambda self, state, noise, labels: jnp.full((len(noise), *self.shape), jnp.nan))
    words = r"val/frechet_8x8, val/diversity became NaN or infinite at step \d+\. There is no checkpoint before it"
    with pytest.raises(monitor.NotFiniteError, match=words):
        trained(config_of(load_config, "dcgan_digits"), tmp_path)
    assert not rows_of(tmp_path, "val/diversity")


def test_goes_back_slower_and_ends_with_one_row_per_step(load_config, tmp_path, poison, capfd):
    poison(lambda step, metrics, batch: (step == 10) & (metrics["learning_rate"] > RATE / 2))
    results = trained(config_of(load_config, rewinds=2, rewind_factor=0.25), tmp_path)
    assert results["checkpoint_step"] in (7, 13)
    message = "train/loss became NaN or infinite at step 11. Rewind 1 of 2: back to step 7, with 0.25 of the learning"
    assert message in " ".join(capfd.readouterr().err.split())
    rows = [row for row in writers.read_rows(tmp_path / "metrics.jsonl") if "train/loss" in row]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 13]
    assert [row["train/rewinds"] for row in rows] == [0, 0, 1, 1, 1]
    assert [row["train/learning_rate"] for row in rows[-2:]] == pytest.approx([RATE / 4] * 2)
    restored = checkpoints.read(tmp_path, "newest")
    assert restored.history["rewinds"] == [{"step": 11, "to": 7, "factor": 0.25, "skipped": 0}]


def test_skips_the_batches_that_led_there(load_config, tmp_path, poison):
    config = config_of(load_config, rewinds=1, rewind_factor=1.0, rewind_skip=True)
    with run_lib.build(config, tmp_path / "none") as run:
        order = pipeline.Order(len(run.dataset.splits["train"]), config.seed)
    bad = int(order(np.array([10 * config.data.batch_size]))[0])  # First example of the batch of step 11.
    seen = []

    def when(step, metrics, batch):
        jax.debug.callback(lambda step, index: seen.append((int(step), int(index))), step, batch["index"][0])
        return batch["index"][0] == bad

    poison(when)
    trained(config, tmp_path / "run")
    jax.effects_barrier()
    first = [int(order(np.array([number * config.data.batch_size]))[0]) for number in range(17)]
    assert dict(seen) == dict(enumerate(first[:7] + first[11:17]))  # The last time that each step was made.
    restored = checkpoints.read(tmp_path / "run", "newest")
    assert (restored.step, restored.input_state["next_batch"]) == (13, 17)


def test_ends_when_all_rewinds_are_made(load_config, tmp_path, poison):
    poison(lambda step, metrics, batch: step == 2)
    words = r"at step 3\. There is no checkpoint before it\. .*config.train.rewinds=1 are used up"
    with pytest.raises(monitor.NotFiniteError, match=words):
        trained(config_of(load_config, rewinds=1), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("killed_at", [10, 12])
def test_killed_after_a_rewind_continues_bit_for_bit(killed_at, load_config, tmp_path, poison, monkeypatch):
    """Before the next checkpoint, of which nothing is known then, and after it."""

    def when(step, metrics, batch):
        """At step 9 with the first rate, at step 13 with the first and the second."""
        bound = jnp.where(step == 8, 0.5, 0.3) * RATE
        return ((step == 8) | (step == 12)) & (metrics["learning_rate"] > bound)

    poison(when)
    config = config_of(load_config, rewinds=3, rewind_factor=0.4, rewind_skip=True)
    config.checkpoint.every_steps = 11
    trained(config, tmp_path / "undisturbed")
    dispatch = train.Training.dispatch

    def killing(self):
        if self.rewinds and self.step == killed_at:
            raise Killed
        dispatch(self)

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "dispatch", killing)
        with pytest.raises(Killed):
            trained(config, tmp_path / "killed")
    trained(config, tmp_path / "killed")
    assert verify_resume.differences(tmp_path / "undisturbed", tmp_path / "killed") == []
    rewinds = rewind.of_history(checkpoints.read(tmp_path / "killed", "newest").history)
    assert [(made.to, made.step, made.skipped) for made in rewinds] == [(7, 9, 2), (11, 13, 2)]

"""The loop: exact resume after a kill, guards, early stopping, one compilation, no hidden transfers."""

import contextlib
import sys

import jax
import numpy as np
import pytest

from tests import forked_commands, untrained_runs
from vision_jax import checkpoints, monitor, parallel, train, writers
from vision_jax import config as config_lib
from vision_jax import run as run_lib
from vision_jax.tasks import base, registry
from vision_jax.tools import verify_resume
from vision_jax.utils import trees
from vision_jax.utils.options import ConfigError

CONFIGS = {"classification": "digits_cnn", "gan": "dcgan_digits", "super_resolution": "srcnn_t91"}


def tiny(load_config, task, **overrides):
    """The smoke variant of the task's config with `section.option=value` overrides."""
    config = load_config(f"{CONFIGS[task]}:smoke")
    config.log.tensorboard = False
    for name, value in overrides.items():
        section, option = name.split("__")
        config[section][option] = value
    return config


def trained(config, workdir, **kwargs):
    with run_lib.build(config, workdir) as run:
        return train.train(run, **kwargs)


def final_state(config, workdir):
    with run_lib.build(config, workdir) as run:
        restored = run.checkpoints.restore(run.checkpoints.newest(), run.abstract_state())
        return {name: np.asarray(leaf) for name, leaf in trees.flatten(restored.state).items()}


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize("task", CONFIGS)
def test_killed_at_random_steps_and_resumed_is_bit_for_bit_an_uninterrupted_run(
    task, kills, tmp_path, repository, monkeypatch
):
    """SIGKILL of the real process; parameters, statistics, EMA, rows and pictures agree exactly."""
    options = {
        "classification": [
            "--config.train.epochs=12",
            "--config.train.steps_per_dispatch=3",
            "--config.optimizer.ema_decay=0.9",
            "--config.optimizer.accumulate=2",
        ],
        "gan": ["--config.train.epochs=12"],
        "super_resolution": ["--config.train.steps=40"],
    }[task]
    options += [
        "--config.log.tensorboard=False",
        "--config.log.every_steps=4",
        "--config.checkpoint.every_steps=5",
        "--config.eval.every_steps=15",
    ]
    # The smoke variants give some of these in epochs.
    options += ["--config.log.every_epochs=0", "--config.eval.every_epochs=0"]

    options += [f"--config={repository}/configs/{CONFIGS[task]}.py:smoke"]
    if kills == 1:
        monkeypatch.setattr(verify_resume, "_start", _start_in_a_fork)
    else:
        monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")  # As users' runs are compiled.
    assert verify_resume.verify(options, tmp_path, kills, seed=5, say=print) == []
    kept = [_record_of(tmp_path / name) for name in ("undisturbed", "killed")]
    assert kept[0] == kept[1] and ("steps.jsonl" in kept[0]) == (task == "gan")


def _start_in_a_fork(options, workdir):
    with open(workdir.with_suffix(".log"), "ab") as log:
        command = [sys.executable, "-m", "vision_jax.main", *options, f"--workdir={workdir}"]
        return forked_commands.Popen(command, stdout=log, stderr=log)


def _record_of(folder):
    """Contents of the rows and pictures of training, by name."""
    paths = [folder / "metrics.jsonl", *folder.glob("steps.jsonl"), *(folder / "pictures").rglob("*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.usefixtures("no_page")
def test_the_state_that_is_restored_is_what_was_saved(load_config, tmp_path):
    config = tiny(load_config, "classification", optimizer__ema_decay=0.9)
    trained(config, tmp_path)
    state = final_state(config, tmp_path)
    parts = {name.split("/")[2] for name in state if name.startswith("networks/model")}
    assert parts >= {"params", "batch_stats", "opt_state", "averaged"}
    assert state["step"] == 13
    names = [name for name in state if name.endswith("kernel") and "/params/" in name]
    assert names
    for name in names:
        assert not np.array_equal(state[name], state[name.replace("/params/", "/averaged/")])


@pytest.mark.usefixtures("no_page")
def test_a_finished_run_started_again_trains_no_more_and_reports_the_same(load_config, tmp_path):
    config = tiny(load_config, "classification")
    first = trained(config, tmp_path)
    rows = (tmp_path / "metrics.jsonl").read_text()
    second = trained(config, tmp_path)
    assert first == second and first["finished"]
    assert (tmp_path / "metrics.jsonl").read_text() == rows


@pytest.mark.usefixtures("no_page")
def test_a_changed_config_is_refused_with_the_list_unless_allowed(load_config, tmp_path):
    trained(tiny(load_config, "classification"), tmp_path)
    changed = tiny(load_config, "classification", optimizer__learning_rate=0.5, train__epochs=5.0, data__prefetch=7)
    with pytest.raises(checkpoints.CheckpointError) as error:
        trained(changed, tmp_path)
    assert "optimizer.learning_rate: 0.003 -> 0.5" in str(error.value)
    assert "train.epochs: 4.0 -> 5.0" in str(error.value)
    assert "prefetch" not in str(error.value)
    assert trained(changed, tmp_path, allow_config_change=True)["checkpoint_step"] > 0
    assert writers.read_rows(tmp_path / "metrics.jsonl")[-1]["step"] == 16


def smallest(steps, log_every=0):
    """A config that compiles in no time."""
    config = config_lib.default()
    config.data.limit, config.data.batch_size = 40, 8
    config.model.name, config.model.mlp = "mlp", dict(hidden=(5,))
    config.train.steps, config.log.every_steps, config.log.tensorboard = steps, log_every, False
    return config


def test_a_changed_config_that_ends_before_the_checkpoint_is_refused(tmp_path):
    untrained_runs.write(smallest(steps=13), tmp_path, step=13)
    with pytest.raises(ConfigError, match=r"Checkpoint 13 of .* is beyond the 7 steps of this config"):
        trained(smallest(steps=7), tmp_path, allow_config_change=True)


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(("metric", "every"), [("another", 4), ("loss", 8)])
def test_a_change_that_changes_the_metrics_begins_their_sums_anew(metric, every, tmp_path, monkeypatch):
    from vision_jax.tasks.classification import Classification

    original = Classification.train_step

    def with_another(self, state, constants, batch, key):
        state, metrics = original(self, state, constants, batch, key)
        return state, {**metrics, metric: metrics["loss"]}

    monkeypatch.setattr(Classification, "per_step", ("loss",))
    trained(smallest(steps=6, log_every=4), tmp_path)
    monkeypatch.setattr(Classification, "train_step", with_another)
    trained(smallest(steps=17, log_every=every), tmp_path, allow_config_change=True)
    rows = writers.read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if f"train/{metric}" in row][-2:] == [16, 17]
    assert [row["step"] for row in writers.read_rows(tmp_path / writers.STEPS)] == list(range(1, 18))


@pytest.mark.usefixtures("no_page")
def test_not_finite_stops_with_step_metric_and_last_good_checkpoint(load_config, tmp_path, monkeypatch):
    from vision_jax.tasks.classification import Classification

    original = Classification.train_step

    def poisoned(self, state, constants, batch, key):
        state, metrics = original(self, state, constants, batch, key)
        metrics["loss"] = jax.numpy.where(state.step == 10, jax.numpy.nan, metrics["loss"])
        return state, metrics

    monkeypatch.setattr(Classification, "train_step", poisoned)
    config = tiny(load_config, "classification")  # Evaluates and saves at steps 7 and 13.
    words = r"train/loss became NaN or infinite at step 11\. The last good checkpoint is 7"
    with pytest.raises(monitor.NotFiniteError, match=words):
        trained(config, tmp_path)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [7]


@pytest.mark.usefixtures("no_page")
def test_early_stopping_counts_evaluations_since_the_best(load_config, tmp_path):
    config = tiny(load_config, "classification", optimizer__learning_rate=0.0, eval__patience=2, train__epochs=40.0)
    assert trained(config, tmp_path)["finished"]
    evaluated = [row["step"] for row in writers.read_rows(tmp_path / "metrics.jsonl") if "val/loss" in row]
    # Nothing is learnt, so the first evaluation stays the best of its equals until the statistics drift.
    assert 3 <= len(evaluated) < 18


@contextlib.contextmanager
def lowered_programs():
    """The names of the programs that are lowered, to be compiled, in the meantime."""
    lowered = []

    def listen(event, duration, fun_name="", **_):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            lowered.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lowered
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("per_dispatch", [1, 5])
def test_one_compilation_and_no_hidden_transfers(per_dispatch, load_config, tmp_path):
    """After the first dispatch nothing is compiled and nothing crosses between host and device unasked."""
    config = tiny(load_config, "classification", train__steps_per_dispatch=per_dispatch, data__on_device="never")
    with run_lib.build(config, tmp_path) as run:
        loader = run.loader("train")
        dispatches = train.Dispatches(run, {}, loader, start=0)
        state = run.initial_state()
        carry = dispatches((state, parallel.zeros(dispatches.sums_shapes(state), run.mesh)), 1)
        with jax.transfer_guard("disallow"), lowered_programs() as lowered:
            for count in [per_dispatch, 1, min(2, per_dispatch)]:
                carry = dispatches(carry, count)
        assert not lowered
        jax.block_until_ready(carry)


@pytest.mark.parametrize("task", CONFIGS)
def test_longer_runs_and_resumed_ones_compile_nothing_more(task, load_config, tmp_path):
    """Train, evaluate, save, resume, report: as many programs whatever the number of steps and evaluations."""

    def compiled(steps, workdir, **kwargs):
        jax.clear_caches()
        config = tiny(
            load_config,
            task,
            train__epochs=0.0,
            train__steps=steps,
            eval__every_epochs=0.0,
            eval__every_steps=4,
            log__every_epochs=0.0,
            log__every_steps=3,
        )
        with lowered_programs() as lowered:
            trained(config, workdir, **kwargs)
        return lowered

    short = compiled(8, tmp_path / "run")
    assert "steps" in " ".join(short)
    assert len(compiled(21, tmp_path / "longer")) == len(short)
    # The checkpoint is read and written by programs of a resumed run's own, of which training needs none.
    resumed = compiled(16, tmp_path / "run", allow_config_change=True)
    assert sum("steps" in name for name in resumed) == sum("steps" in name for name in short) == 1


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("task", CONFIGS)
def test_each_step_is_traced_once(task, load_config, tmp_path, monkeypatch):
    """Tracing takes seconds for a deep network; what else asks for a step's shapes finds them."""
    config = tiny(load_config, task, train__steps_per_dispatch=2)
    traced = []
    task = registry.build

    def counting(*arguments):
        made = task(*arguments)
        for name in ("train_step", "eval_step"):
            step = getattr(made, name)
            setattr(made, name, lambda *args, name=name, step=step: traced.append(name) or step(*args))
        return made

    monkeypatch.setattr(registry, "build", counting)
    with run_lib.build(config, tmp_path) as run:
        train.train(run)
    assert sorted(traced) == ["eval_step", "train_step"]


@pytest.mark.usefixtures("no_page")
def test_several_steps_per_dispatch_compute_the_same(load_config, tmp_path):
    states = []
    for per_dispatch in (1, 4):
        # Not Adam, which makes whole steps of gradients that are zero but for rounding: a bias's before BatchNorm.
        config = tiny(load_config, "classification", train__steps_per_dispatch=per_dispatch, optimizer__name="sgd")
        trained(config, tmp_path / str(per_dispatch))
        states.append(final_state(config, tmp_path / str(per_dispatch)))
    for name, leaf in states[0].items():
        np.testing.assert_allclose(leaf, states[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_dispatches_end_where_something_is_due():
    durations = base.Durations(total=23, warmup=0, log=10, evaluate=0, save=0)
    evaluators = [base.Evaluator("a", "val", every, 0, {}, None, None) for every in (7, 0)]
    stops = [0]
    while stops[-1] < 23:
        stops.append(train.next_stop(stops[-1], 4, durations, evaluators))
    assert stops == [0, 4, 7, 8, 10, 12, 14, 16, 20, 21, 23]


@pytest.mark.usefixtures("no_page")
def test_profile_writes_a_trace(load_config, tmp_path):
    config = tiny(load_config, "classification", profile__start=2, profile__steps=3)
    trained(config, tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))

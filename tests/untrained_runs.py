"""Folders of runs that have trained nothing: their config, data and one checkpoint."""

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import environment
from vision_jax import run as run_lib
from vision_jax.tasks.state import TrainState


def write(
    config: ConfigDict,
    workdir: pathlib.Path,
    step: int,
    change: Callable[[TrainState], TrainState] = lambda state: state,
) -> pathlib.Path:
    """Saves the first state, changed by `change`, as the checkpoint of a step; returns the folder."""
    with run_lib.build(config, workdir) as run:
        run.checkpoints.begin_writing()
        state = run.initial_state()
        state = state.replace(step=state.step + step)
        environment.describe(run.workdir, run.config, run.dataset, state)
        history = {"evaluations": [], "seconds": 0.0}
        run.checkpoints.save(step, change(state), {}, history, config_lib.to_dict(config))
        run.checkpoints.wait()
    return workdir

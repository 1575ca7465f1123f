"""What a run has made: its networks as evaluation sees them, and what using them takes to know."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vision_jax import checkpoints
from vision_jax import config as config_lib
from vision_jax.utils import trees

_COMMANDS = {
    "classification": "predict PICTURES --workdir={}",
    "gan": "sample {}",
    "super_resolution": "upscale PICTURES OUT --workdir={}",
}


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a run has made.

    Attributes:
        config: the options of the run.
        step: the checkpoint's.
        variables: Flax variables of each network by name ('model'; 'generator', 'discriminator'), as evaluated: with
            the averaged parameters and statistics where there are any. NumPy arrays.
        class_names: of the data set.
        image_shape: (H, W, C) of what the run trained on.
    """

    config: ConfigDict
    step: int
    variables: dict[str, dict[str, Any]]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]


def open_run(workdir: pathlib.Path, step: int | str = "best", task: str = "") -> TrainedRun:
    """Reads a checkpoint of a run; neither its data nor its optimizer is needed.

    Args:
        workdir: folder of the run.
        step: number of the checkpoint, 'best' or 'newest'.
        task: that the run has to be of; '' takes any.

    Raises:
        ValueError: the run is of another task; the message says which command is for it.
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    restored = checkpoints.read(workdir, step)
    try:
        dataset = json.loads((pathlib.Path(workdir) / "dataset.json").read_text())
        class_names, image_shape = tuple(dataset["class_names"]), tuple(dataset["image_shape"])
    except (OSError, ValueError, KeyError) as error:
        raise checkpoints.CheckpointError(
            f"{workdir}/dataset.json, which names the classes, cannot be read ({error}); continuing the run writes it."
        ) from error
    config = config_lib.from_dict(restored.config)
    if task not in ("", config.task):
        raise ValueError(
            f"{workdir} is a run of the task {config.task}, not {task}; what is for it is "
            f"`vision-jax {_COMMANDS[config.task].format(workdir)}`."
        )
    groups: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for path, array in restored.state.items():
        if path.startswith("networks/"):
            _, network, part, leaf = path.split("/", 3)
            groups.setdefault(network, {}).setdefault(part, {})[leaf] = array
    variables = {
        network: {
            "params": trees.unflatten(parts.get("params", {}) | parts.get("averaged", {}) | parts.get("fixed", {})),
            "batch_stats": trees.unflatten(parts.get("batch_stats", {}) | parts.get("averaged_statistics", {})),
        }
        for network, parts in groups.items()
    }
    return TrainedRun(config, restored.step, variables, class_names, image_shape)

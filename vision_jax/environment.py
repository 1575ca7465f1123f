"""What a run notes of itself when it starts: its config, its data, its circumstances; nothing secret."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import socket
import subprocess
import sys
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

import vision_jax
from vision_jax import allocator
from vision_jax import config as config_lib
from vision_jax.data.sources import Dataset
from vision_jax.ops import onednn
from vision_jax.tasks.state import TrainState, merge
from vision_jax.utils import files

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "clu",
    "ml-collections",
    "numpy",
    "onednn-cpu-gomp",
    "cmeel-mimalloc",
)


def collect() -> dict[str, Any]:
    """Returns versions, machine, devices, git revision and command line of this process as strict JSON types.

    Call it after the processes of a multi-process run have found each other. `git` is None outside a checkout.
    """
    devices = jax.devices()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "folder": os.getcwd(),
        "vision_jax": vision_jax.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "allocator": allocator.active(),
        "backend": jax.default_backend(),
        "onednn": jax.default_backend() == "cpu" and onednn.available(),
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
    }


def describe(workdir: pathlib.Path, config: ConfigDict, dataset: Dataset, state: TrainState) -> None:
    """Writes `config.json`, `dataset.json` and `environment.json`, prints the tables of parameters (process 0 only)."""
    if jax.process_index():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / "config.json", config_lib.to_dict(config))
    files.write_json(workdir / "dataset.json", _describe_dataset(dataset, config.data.image_size))
    files.write_json(workdir / "environment.json", collect())
    for name, network in state.networks.items():
        params = merge(network.params, network.fixed)
        print(f"{name}:\n{parameter_overview.get_parameter_overview(params, include_stats=False, max_lines=40)}")


def _describe_dataset(dataset: Dataset, image_size: int) -> dict[str, Any]:
    """Returns what the use of the trained network and pages need to know: names, counts, the shape of an image."""
    shape = (image_size, image_size, 3) if image_size else np.shape(dataset.splits["train"][0]["image"])
    return {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "superclasses": list(dataset.superclasses),
        "examples_per_class": {
            split: np.bincount(source.labels, minlength=len(dataset.class_names)).tolist()
            for split, source in dataset.splits.items()
            if dataset.class_names
        },
        "image_shape": [int(n) for n in shape],
        "provenance": dict(dataset.provenance),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """Returns the name of the processor; Python's own answer is often empty on Linux."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Returns the revision of the source tree and whether tracked files differ; None without git or checkout."""
    root = pathlib.Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed package may lie inside somebody else's checkout
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None

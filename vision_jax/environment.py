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
from vision_jax.data import folder
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
    """Writes `config.json`, `dataset.json`, `environment.json` and `parameters.txt`, prints a summary (process 0)."""
    if jax.process_index():
        return
    note(workdir, config, dataset)
    tables = [
        f"{name}:\n{parameter_overview.get_parameter_overview(merge(network.params, network.fixed), max_lines=None)}\n"
        for name, network in state.networks.items()
    ]
    with files.atomic_write(workdir / "parameters.txt") as file:
        file.write("\n".join(tables).encode())
    print("\n".join(f"{name + ':':9}{value}" for name, value in _summary(workdir, config, dataset, state).items()))


def note(workdir: pathlib.Path, config: ConfigDict, dataset: Dataset) -> None:
    """Writes `config.json`, `dataset.json` and `environment.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / "config.json", config_lib.to_dict(config))
    files.write_json(workdir / "dataset.json", _describe_dataset(dataset, config.data.image_size))
    files.write_json(workdir / "environment.json", collect())


def _summary(workdir: pathlib.Path, config: ConfigDict, dataset: Dataset, state: TrainState) -> dict[str, str]:
    """Returns what a person wants to know before the first step, a line each."""
    devices = jax.devices()
    number = f"{len(devices)} × " if len(devices) > 1 else ""
    sizes = ", ".join(f"{split} {len(source):,}" for split, source in dataset.splits.items())
    classes = f"; {len(dataset.class_names)} classes" if dataset.class_names else ""
    networks = " + ".join(
        f"{f'{name} ' if len(state.networks) > 1 else ''}"
        f"{sum(leaf.size for leaf in jax.tree.leaves((network.params, network.fixed))):,}"
        for name, network in state.networks.items()
    )
    data, train = config.data, len(dataset.splits["train"])
    photos = _photos(config, dataset)
    steps = config_lib.steps(config.train, "", batch_size=data.batch_size, train_examples=train)
    epochs = steps * data.batch_size / train
    return {
        "device": f"{number}{devices[0].device_kind}, {config.train.dtype}",
        "data": f"{' '.join(filter(None, (dataset.name, dataset.provenance.get('root'))))}: {sizes}{classes}",
        **({"images": photos} if photos else {}),
        "network": f"{config.model.name}, {networks} parameters (listed in {workdir / 'parameters.txt'})",
        "length": f"{steps:,} steps of {data.batch_size} examples, {epochs:.3g} epochs",
        "results": f"{workdir}",
    }


def _photos(config: ConfigDict, dataset: Dataset) -> str:
    """Returns the sizes of the photos to train on and what becomes of them; '' of what are no photos in files."""
    found = folder.sizes(dataset.splits["train"])
    if found is None:
        return ""
    data, short, areas = config.data, found.min(axis=1), found.prod(axis=1)
    (h, w), (height, width) = found[np.argmin(areas)], found[np.argmax(areas)]
    said = f"{w}×{h} pixels" if (h, w) == (height, width) else f"{w}×{h} to {width}×{height} pixels"
    if side := data.image_size:
        center = data.train_crop == "center" or config.task == "super_resolution"
        resized = round(side / data.crop_fraction)
        how = f"short side resized to {resized}, middle" if center else "random parts resized to"
        small = int((short < side).sum())
        return f"{said}; {how} {side}×{side}" + (f" ({small:,} smaller ones enlarged)" if small else "")
    if config.task == "super_resolution":
        patch = config.super_resolution.patch_size
        small = int((short < patch).sum())
        left = f"; {small:,} smaller than a patch are left out" if small else ""
        return f"{said}; random patches of {patch}×{patch}, tested whole{left}"
    return said


def _describe_dataset(dataset: Dataset, image_size: int) -> dict[str, Any]:
    """Returns what the use of the trained network and pages need to know: names, counts, the shape of an image."""
    shape = (image_size, image_size, 3) if image_size else np.shape(next(iter(dataset.splits.values()))[0]["image"])
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

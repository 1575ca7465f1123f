"""Features of reference images, computed once: under `cache_dir('fid')`, by what they depend on."""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from absl import logging

from vision_jax import parallel
from vision_jax.metrics.generative import FeatureSet
from vision_jax.metrics.receipt import UNKNOWN, Protocol
from vision_jax.utils import files


def cached(protocol: Protocol, limit: int, compute: Callable[[], FeatureSet]) -> FeatureSet:
    """Returns the features of the protocol's reference, from the cache when they were computed before.

    What they depend on: the images (their fingerprint and split), the resizing, the network, its weights and which of
    its features, and how many rows are kept (`limit`). Where the fingerprint is unknown nothing is kept. All processes
    of a run must call it.

    Args:
        protocol: of the distances that they are for.
        limit: of the rows that `compute` keeps.
        compute: makes the set when it is not there.
    """
    if protocol.fingerprint == UNKNOWN:
        return compute()
    facts = {name: value for name, value in dataclasses.asdict(protocol).items() if name not in ("prefix", "reference")}
    key = json.dumps({**facts, "limit": limit}, sort_keys=True)
    path = files.cache_dir("fid") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    found = _read(path, key)
    if parallel.all_processes(found is not None):  # Else all compute, which they can only do together.
        assert found is not None
        return found
    found = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(path) as file:
            np.savez(file, key=np.asarray(key), **found.arrays())  # type: ignore[arg-type]
    except OSError as error:  # A cache that is full or read-only costs time, not the result.
        logging.warning("The reference's features are not kept: %s", error)
    return found


def _read(path: pathlib.Path, key: str) -> FeatureSet | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, files.open_npz(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if str(arrays["key"]) == key:
            return FeatureSet.of_arrays(arrays)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s is damaged (%s) and is computed again.", path, error)
    return None

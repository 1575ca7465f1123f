"""What one checkpoint holds, and whether that is what was saved.

The state is a flat mapping 'networks/model/params/…' -> array, so that tools can read it without this code. Beside it
lie the state of the input, the history and the config in JSON. A fingerprint of every array and a seal over everything
else are kept in the history, so that damage is noticed and not trained on.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from vision_jax import memory, parallel
from vision_jax.utils import trees

Tree = Any
_PARTS = ("input", "history", "config")  # Beside the state.
_OWN = ("best", "fingerprints", "seal")  # In the history, not the caller's.


class CheckpointError(Exception):
    """A checkpoint that cannot be restored or written; the message says why."""


class DamagedCheckpoint(CheckpointError):
    """What a checkpoint holds is not what was saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
        step: optimization steps done.
        state: the tree that was saved, in the shardings asked for.
        input_state: of the training input (see `vision_jax.data.pipeline`).
        history: `evaluations` (rows of metrics of the validation split) and `seconds` of training so far.
        config: the options of the run that wrote it.
    """

    step: int
    state: Tree
    input_state: dict[str, Any]
    history: dict[str, Any]
    config: dict[str, Any]


def handlers() -> dict[str, Any]:
    """Returns what writes and reads each item of a checkpoint."""
    return {"state": ocp.StandardCheckpointHandler(), **{name: ocp.JsonCheckpointHandler() for name in _PARTS}}


def to_save(state: Tree, parts: Mapping[str, Mapping[str, Any]]) -> ocp.args.Composite:
    """Returns what Orbax's manager saves: the state and the parts, with fingerprints and a seal in their history."""
    leaves = trees.flatten(state)
    sealed = {name: dict(part) for name, part in parts.items()}
    sealed["history"]["fingerprints"] = _fingerprints(leaves)
    sealed["history"]["seal"] = _seal(sealed)
    saved = {name: ocp.args.JsonSave(part) for name, part in sealed.items()}
    return ocp.args.Composite(state=ocp.args.StandardSave(leaves), **saved)


def parts(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns 'input', 'history' and 'config' of a checkpoint, as they were saved.

    Raises:
        DamagedCheckpoint: they are not.
    """
    try:
        read = {name: ocp.args.JsonRestore() for name in _PARTS}
        found = dict(manager.restore(step, args=ocp.args.Composite(**read)).items())
        seal, expected = found["history"].get("seal"), _seal(found)
    except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
        raise _damage(error) from error
    if seal != expected:
        changed, missing = "its input, history or config has changed", "it has no seal: an earlier version wrote it"
        raise DamagedCheckpoint(changed if seal else missing)
    return found


def restore(manager: ocp.CheckpointManager, step: int, abstract: Tree) -> Restored:
    """Restores a checkpoint strictly.

    Args:
        manager: of the run's folder.
        step: of the checkpoint.
        abstract: `jax.ShapeDtypeStruct`s with shardings, in the structure that was saved.

    Raises:
        DamagedCheckpoint: it is not what was saved.
        CheckpointError: it holds another tree than `abstract`.
    """
    leaves, structure = trees.flatten(abstract), jax.tree.structure(abstract)
    read = parts(manager, step)
    if lines := trees.differences(leaves, description(manager, step)):
        raise CheckpointError(
            f"Checkpoint {manager.directory / str(step)} does not fit this config's model and optimizer:"
            f"{trees.shown(lines)}\nTrain into another --workdir, or go back to the config that wrote it."
        )
    try:
        asked = ocp.args.Composite(state=ocp.args.StandardRestore(leaves))
        restored = manager.restore(step, args=asked)["state"]
    except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
        raise _damage(error) from error
    expected, found = read["history"]["fingerprints"], _fingerprints(restored)
    changed = [name for name in leaves if found[name] != expected[name]]
    if changed:
        raise DamagedCheckpoint(f"the values of {', '.join(changed[:3])} and {len(changed)} arrays in all have changed")
    state = jax.tree.unflatten(structure, [restored[name] for name in leaves])
    history = {name: value for name, value in read["history"].items() if name not in _OWN}
    return Restored(step, state, read["input"], history, read["config"])


def description(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns shape and type of every array of a checkpoint's state.

    Raises:
        DamagedCheckpoint: that is missing or unreadable.
    """
    try:
        metadata = manager.item_metadata(step)["state"]
    except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
        raise _damage(error) from error
    if metadata is None:
        raise DamagedCheckpoint("its description of the state is missing")
    return metadata.tree if hasattr(metadata, "tree") else metadata


def _fingerprints(leaves: Mapping[str, jax.Array]) -> dict[str, int]:
    return {name: int(value) for name, value in parallel.to_host(_sums_of_bits(dict(leaves))).items()}


@jax.jit
def _sums_of_bits(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """A uint32 per array: its bits, weighted by position, summed modulo 2^32; NaNs and zeros' signs count."""

    def one(leaf: jax.Array) -> jax.Array:
        bits = leaf.reshape(-1)
        if bits.dtype == jnp.bool_:
            bits = bits.astype(jnp.uint8)
        unsigned = jnp.dtype(f"uint{8 * bits.dtype.itemsize}")
        bits = jax.lax.bitcast_convert_type(bits, unsigned).astype(jnp.uint32)
        position = jnp.arange(bits.size, dtype=jnp.uint32)
        return jnp.sum(bits * (jnp.uint32(2) * position + jnp.uint32(1)), dtype=jnp.uint32)

    return jax.tree.map(one, leaves)


def _seal(parts: Mapping[str, Any]) -> str:
    """Returns a hash of the parts in JSON; of the history without its own seal."""
    history = {name: value for name, value in parts["history"].items() if name != "seal"}
    content = json.dumps([parts["input"], history, parts["config"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _damage(error: Exception) -> Exception:
    """Returns what is to be raised for an error while reading: for want of memory a checkpoint is not damaged."""
    if memory.is_exhausted(error):
        return error
    lines = str(error).splitlines()
    return DamagedCheckpoint(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)

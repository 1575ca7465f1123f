"""Checkpoints: the train state, the state of the input, the config and the history of a run, written by Orbax.

The only file that knows Orbax. A checkpoint is written asynchronously into a temporary folder and renamed when it is
complete, and renamed again before it is deleted. Its state is a flat mapping 'networks/model/params/…' -> array, so
that tools can read it without this code. A fingerprint of every array and a seal over everything else are kept in it,
so that damage is noticed and not trained on.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from vision_jax import config as config_lib
from vision_jax import memory, parallel
from vision_jax.run_lock import FolderInUse, RunLock
from vision_jax.utils import trees

Tree = Any
_FOLDER = "checkpoints"
_DELETED = ".deleted"  # Beside it: what is no longer kept, until the next save.
_PARTS = ("input", "history", "config")  # Beside the state, in JSON.
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


@jax.jit
def _fingerprints(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
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


class Checkpoints:
    """The checkpoints of one run, to read from; `begin_writing` is for the one process (or set of them) that trains.

    Args:
        workdir: folder of the run; checkpoints lie in `workdir/checkpoints/STEP`.
        keep: how many of the newest are kept, besides the best.
        best_metric: metric of the validation split (a key of an evaluation's row) that picks the best; by default, what
            the run that wrote them was told.
        higher_is_better: whether a larger value of it is better.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int = 1, best_metric: str = "", higher_is_better: bool = True):
        self.folder = pathlib.Path(workdir).absolute() / _FOLDER
        self.keep, self.best_metric, self.sign = keep, best_metric, 1.0 if higher_is_better else -1.0
        self._history: dict[str, Any] = {}  # The newest.
        self._manager: ocp.CheckpointManager | None = None
        self._lock: RunLock | None = None
        self.writing = False

    @property
    def manager(self) -> ocp.CheckpointManager:
        """Orbax's manager; made when first asked for, changes nothing in the folder unless the run is written to."""
        if self._manager is None:
            policies = ocp.checkpoint_managers
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(self.keep), _Best(self)]),
                cleanup_tmp_directories=self.writing,
                read_only=not self.writing,
                create=self.writing,
                save_interval_steps=1 if self.writing else 0,
                # A kill in the middle of a deletion would leave what looks like a damaged checkpoint.
                todelete_subdir=f"../{_DELETED}" if self.writing else None,
            )
            handlers = {name: ocp.JsonCheckpointHandler() for name in _PARTS}
            handlers["state"] = ocp.StandardCheckpointHandler()
            with _quietly():
                self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        return self._manager

    def begin_writing(self) -> None:
        """From here to `close` this run alone writes checkpoints.

        What an interrupted save or deletion left is removed, damaged ones are set aside.

        Raises:
            CheckpointError: another process writes to the folder of the run, or nobody can.
        """
        self.close()
        problem = ""
        if jax.process_index() == 0:
            try:
                self._lock = RunLock(self.folder.parent)
                self.folder.mkdir(exist_ok=True)
                self._delete()
            except FolderInUse as error:
                problem = str(error)
            except OSError as error:
                problem = f"{self.folder} cannot be written to ({error.strerror})."
        if not parallel.all_processes(not problem):
            self.close()
            raise CheckpointError(problem or f"Process 0 cannot write to {self.folder}.")
        self.writing = True
        for step in self.steps():
            try:
                self._parts(step)
                problem = ""
            except DamagedCheckpoint as error:
                problem = str(error)
            if not parallel.all_processes(not problem):
                self._set_aside(step, problem or "another process could not read it")

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        return sorted(self.manager.all_steps()) if self.writing or self.folder.is_dir() else []

    def save(
        self,
        step: int,
        state: Tree,
        input_state: Mapping[str, Any],
        history: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        """Starts writing a checkpoint; returns when `state` may be changed or donated."""
        if self._lock and not self._lock.held:
            raise CheckpointError(f"Another process took {self.folder.parent} over while this one did not answer.")
        leaves = trees.flatten(state)
        fingerprints = {name: int(value) for name, value in parallel.to_host(_fingerprints(leaves)).items()}
        self._history = history = {**history, "best": [self.best_metric, self.sign], "fingerprints": fingerprints}
        parts: dict[str, Any] = {"input": dict(input_state), "history": history, "config": dict(config)}
        history["seal"] = _seal(parts)
        saved = {name: ocp.args.JsonSave(part) for name, part in parts.items()}
        with self._written():
            self._delete()
            self.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), **saved), force=True)

    def _delete(self) -> None:
        """Deletes what Orbax has moved away because it is no longer kept."""
        folder = self.folder.parent / _DELETED
        for checkpoint in folder.iterdir() if jax.process_index() == 0 and folder.is_dir() else ():
            shutil.rmtree(checkpoint)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Turns whatever goes wrong in writing, also of the checkpoint before, into a sentence."""
        try:
            yield
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise CheckpointError(
                f"No checkpoint could be written to {self.folder}: {reason[-1] if reason else type(error).__name__}. "
                "Once there is room and the folder can be written to, the same command continues from the last one."
            ) from error

    def newest(self) -> int | None:
        """Returns the step of the newest checkpoint, None without any."""
        return max(self.steps(), default=None)

    def ranked(self, steps: Sequence[int] | None = None) -> list[int]:
        """Returns `steps` (all of them by default) from the best to the worst; of equals the last is better.

        Those that were not evaluated come last, the newest first.
        """
        steps = self.steps() if steps is None else steps
        history = self.newest_history()
        if not self.best_metric:
            self.best_metric, self.sign = history["best"]
        rows = {row["step"]: row.get(self.best_metric, math.nan) for row in history["evaluations"]}
        scores = {step: self.sign * rows.get(step, math.nan) for step in steps}
        return sorted(steps, key=lambda step: (math.isfinite(scores[step]), scores[step], step), reverse=True)

    def best(self) -> int | None:
        """Returns the step of the best evaluated checkpoint, the newest if none was evaluated, None without any."""
        return next(iter(self.ranked()), None)

    def newest_history(self) -> dict[str, Any]:
        """Returns the history in the newest checkpoint that can be read."""
        for step in reversed(self.steps()) if not self._history else ():
            with contextlib.suppress(DamagedCheckpoint):
                self._history = self._parts(step)["history"]
                break
        return self._history or {"evaluations": [], "best": ["", 1.0]}

    def _parts(self, step: int) -> dict[str, Any]:
        """Returns the input state, the history and the config of a checkpoint, as they were saved.

        Raises:
            DamagedCheckpoint: they are not.
        """
        try:
            read = {name: ocp.args.JsonRestore() for name in _PARTS}
            parts = dict(self.manager.restore(step, args=ocp.args.Composite(**read)).items())
            found, seal = parts["history"].get("seal"), _seal(parts)
        except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
            raise _damage(error) from error
        if found != seal:
            changed, missing = "its input, history or config has changed", "it has no seal: an earlier version wrote it"
            raise DamagedCheckpoint(changed if found else missing)
        return parts

    def seconds(self) -> float:
        """Returns how long the run has trained up to its newest checkpoint, all restarts together."""
        return self.newest_history().get("seconds", 0.0)

    def config_of(self, step: int) -> dict[str, Any]:
        """Returns the options of the run that wrote checkpoint `step`."""
        return self._parts(step)["config"]

    def refuse_other_config(self, config: Mapping[str, Any]) -> None:
        """Raises `CheckpointError` when the newest checkpoint was written with options that compute something else."""
        newest = self.newest()
        if newest is None:
            return
        try:
            written = self.config_of(newest)
        except DamagedCheckpoint:  # Restoring it sets it aside and reports it.
            return
        if changed := config_lib.differences(written, config):
            raise CheckpointError(
                f"{self.folder.parent} was trained with another config:{trees.shown(changed)}\n"
                "Choose another --workdir, or go on with the new values by --allow_config_change."
            )

    def restore_newest(self, abstract: Tree) -> Restored | None:
        """Restores the newest checkpoint that is whole; None when there is none.

        A damaged one is moved to `WORKDIR/damaged` with a warning and the one before it is taken.

        Args:
            abstract: `jax.ShapeDtypeStruct`s with shardings, in the structure that was saved.

        Raises:
            CheckpointError: a checkpoint is whole but holds another tree, or all are damaged.
        """
        found = self.steps()
        restored = self._first_whole(reversed(found), abstract)
        if found and restored is None:
            raise CheckpointError(
                f"All checkpoints in {self.folder} were damaged ({found}); they lie in "
                f"{self.folder.parent / 'damaged'} now. Start the same command again to train from the beginning."
            )
        return restored

    def restore_best(self, abstract: Tree) -> Restored | None:
        """Restores the best checkpoint that is whole; None when there is none. See `restore_newest`."""
        return self._first_whole(self.ranked(), abstract)

    def restore_before(self, step: int, abstract: Tree) -> Restored | None:
        """Restores the newest checkpoint before `step` that is whole; None when there is none. See `restore_newest`."""
        return self._first_whole((found for found in reversed(self.steps()) if found < step), abstract)

    def _first_whole(self, steps: Iterable[int], abstract: Tree) -> Restored | None:
        for step in steps:
            restored, problem = None, ""
            try:
                restored = self.restore(step, abstract)
            except DamagedCheckpoint as error:
                problem = str(error)
            if parallel.all_processes(restored is not None):
                return restored
            self._set_aside(step, problem or "another process could not read it")
        return None

    def restore(self, step: int, abstract: Tree) -> Restored:
        """Restores checkpoint `step` strictly.

        Raises:
            DamagedCheckpoint: it is not what was saved.
            CheckpointError: it holds another tree than `abstract`.
        """
        leaves, structure = trees.flatten(abstract), jax.tree.structure(abstract)
        parts = self._parts(step)
        self._check_same_leaves(step, leaves)
        try:
            asked = ocp.args.Composite(state=ocp.args.StandardRestore(leaves))
            restored = self.manager.restore(step, args=asked)["state"]
        except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
            raise _damage(error) from error
        history = {name: value for name, value in parts["history"].items() if name not in _OWN}
        expected, found = parts["history"]["fingerprints"], parallel.to_host(_fingerprints(restored))
        changed = [name for name in leaves if int(found[name]) != expected[name]]
        if changed:
            raise DamagedCheckpoint(
                f"the values of {', '.join(changed[:3])} and {len(changed)} arrays in all have changed"
            )
        state = jax.tree.unflatten(structure, [restored[name] for name in leaves])
        return Restored(step, state, parts["input"], history, parts["config"])

    def _check_same_leaves(self, step: int, expected: Mapping[str, Any]) -> None:
        found = self.description(step)
        if lines := trees.differences(expected, found):
            raise CheckpointError(
                f"Checkpoint {self.folder / str(step)} does not fit this config's model and optimizer:"
                f"{trees.shown(lines)}\nTrain into another --workdir, or go back to the config that wrote it."
            )

    def description(self, step: int) -> dict[str, Any]:
        """Returns shape and type of every array of a checkpoint's state.

        Raises:
            DamagedCheckpoint: that is missing or unreadable.
        """
        try:
            metadata = self.manager.item_metadata(step)["state"]
        except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
            raise _damage(error) from error
        if metadata is None:
            raise DamagedCheckpoint("its description of the state is missing")
        return metadata.tree if hasattr(metadata, "tree") else metadata

    def _set_aside(self, step: int, problem: str) -> None:
        """Moves a damaged checkpoint away, if this run is written to, and says so."""
        target = self.folder.parent / "damaged" / str(step)
        done = f"moved to {target}" if self.writing else "passed over"
        warnings.warn(f"Checkpoint {step} is damaged ({problem}); {done}.", stacklevel=3)
        if not self.writing:
            return
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.folder / str(step), target)
        parallel.all_processes(True)  # Nobody goes on before it is moved.
        self.manager.reload()

    def wait(self) -> None:
        """Returns when every checkpoint started is complete.

        Raises:
            CheckpointError: one could not be written.
        """
        with self._written():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits, releases Orbax's threads, and lets others write."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        if self.writing and jax.process_index() == 0:
            shutil.rmtree(self.folder.parent / _DELETED, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self.writing = False


@dataclasses.dataclass
class _Best(ocp.checkpoint_managers.PreservationPolicy):
    """Preserves the best checkpoint."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns which of them (Orbax's descriptions, with `step`) are kept."""
        steps = [info.step for info in checkpoints]
        best = self.checkpoints.ranked(steps)[:1]
        return [step in best for step in steps]


def _damage(error: Exception) -> Exception:
    """Returns what is to be raised for an error while reading: for want of memory a checkpoint is not damaged."""
    return error if memory.is_exhausted(error) else DamagedCheckpoint(_first_line(error))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Within the context, Orbax does not describe what it reads, nor that it will write nothing."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@_quietly()
def read(workdir: pathlib.Path, step: int | str = "best") -> Restored:
    """Returns a checkpoint with its state as host arrays by name ('networks/model/params/…'), for tools.

    Needs neither model nor data, and changes nothing in `workdir`, where a run may be training.

    Args:
        workdir: folder of the run.
        step: number of the checkpoint, 'best' or 'newest'.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    folder = pathlib.Path(workdir).absolute() / _FOLDER
    if not folder.is_dir():
        raise CheckpointError(f"There are no checkpoints in {folder}; is {workdir} the --workdir of a run?")
    checkpoints = Checkpoints(workdir)
    try:
        found = checkpoints.steps()
        named: dict[int | str, Callable[[], int | None]] = {"best": checkpoints.best, "newest": checkpoints.newest}
        chosen = named[step]() if step in named else step
        if not isinstance(chosen, int) or chosen not in found:
            raise CheckpointError(f"There is no checkpoint {step} in {folder}; there are {found or 'none'}.")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            abstract = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                for name, leaf in checkpoints.description(chosen).items()
            }
            restored = checkpoints.restore(chosen, abstract)
        except DamagedCheckpoint as error:
            raise DamagedCheckpoint(f"Checkpoint {chosen} in {folder} is damaged ({error}).") from error
        return dataclasses.replace(restored, state=parallel.to_host(restored.state))
    finally:
        checkpoints.close()

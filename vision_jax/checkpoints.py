"""Checkpoints: the train state, the state of the input, the config and the history of a run, written by Orbax.

The only file that knows Orbax. A checkpoint is written asynchronously into a temporary folder and renamed when it is
complete. Its state is a flat mapping 'networks/model/params/…' -> array, so that tools can read it without this code,
and carries a fingerprint of every array, so that damage is noticed and not trained on.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from vision_jax import config as config_lib
from vision_jax import parallel
from vision_jax.utils import trees

Tree = Any
_FOLDER = "checkpoints"


class CheckpointError(Exception):
    """A checkpoint that cannot be restored; the message lists what differs."""


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


class Checkpoints:
    """The checkpoints of one run.

    Args:
        workdir: folder of the run; checkpoints lie in `workdir/checkpoints/STEP`.
        keep: how many of the newest are kept, besides the best.
        best_metric: metric of the validation split (a key of an evaluation's row) that picks the best.
        higher_is_better: whether a larger value of it is better.
        read_only: change nothing in `workdir`, where another process may be training.
    """

    def __init__(
        self, workdir: pathlib.Path, *, keep: int, best_metric: str, higher_is_better: bool, read_only: bool = False
    ):
        self.folder = pathlib.Path(workdir).absolute() / _FOLDER
        self.best_metric, self.sign = best_metric, 1.0 if higher_is_better else -1.0
        policies = ocp.checkpoint_managers

        def score(metrics: Mapping[str, float]) -> float:
            return metrics["score"]

        best = policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score,  # Without it Orbax does not read the scores of an earlier process.
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=not read_only,
            save_interval_steps=0 if read_only else 1,
        )
        handlers = {name: ocp.JsonCheckpointHandler() for name in ("input", "history", "config")}
        handlers["state"] = ocp.StandardCheckpointHandler()
        self.manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        return sorted(self.manager.all_steps())

    def save(
        self,
        step: int,
        state: Tree,
        input_state: Mapping[str, Any],
        history: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        """Starts writing a checkpoint; returns when `state` may be changed or donated."""
        leaves = trees.flatten(state)
        fingerprints = {name: int(value) for name, value in parallel.to_host(_fingerprints(leaves)).items()}
        last = history["evaluations"][-1] if history["evaluations"] else {}
        evaluated = last.get("step") == step and self.best_metric in last
        self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(leaves),
                input=ocp.args.JsonSave(dict(input_state)),
                history=ocp.args.JsonSave({**history, "fingerprints": fingerprints}),
                config=ocp.args.JsonSave(dict(config)),
            ),
            metrics={"score": self.sign * last[self.best_metric]} if evaluated else None,
            force=True,
        )

    def newest(self) -> int | None:
        """Returns the step of the newest checkpoint, None without any."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Returns the step of the best evaluated checkpoint (of equals the last), the newest if none was evaluated."""
        scores = {step: self.manager.metrics(step) for step in self.steps()}
        evaluated = [(metrics["score"], step) for step, metrics in scores.items() if metrics]
        return max(evaluated)[1] if evaluated else self.newest()

    def seconds(self) -> float:
        """Returns how long the run has trained up to its newest checkpoint, all restarts together."""
        restored = self.manager.restore(self.newest(), args=ocp.args.Composite(history=ocp.args.JsonRestore()))
        return restored["history"]["seconds"]

    def config_of(self, step: int) -> dict[str, Any]:
        """Returns the options of the run that wrote checkpoint `step`."""
        return self.manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))["config"]

    def refuse_other_config(self, config: Mapping[str, Any]) -> None:
        """Raises `CheckpointError` when the newest checkpoint was written with options that compute something else."""
        newest = self.newest()
        if newest is None:
            return
        try:
            written = self.config_of(newest)
        except Exception:  # A damaged checkpoint: restoring it sets it aside and reports it.
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
        for step in reversed(found):
            restored, problem = None, ""
            try:
                restored = self.restore(step, abstract)
            except CheckpointError:
                raise
            except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
                problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if parallel.all_processes(restored is not None):
                return restored
            self._set_aside(step, problem or "another process could not read it")
        if found:
            raise CheckpointError(
                f"All checkpoints in {self.folder} were damaged ({found}); they lie in "
                f"{self.folder.parent / 'damaged'} now. Start the same command again to train from the beginning."
            )
        return None

    def restore(self, step: int, abstract: Tree) -> Restored:
        """Restores checkpoint `step` strictly; raises `CheckpointError` when it holds another tree than `abstract`."""
        leaves, structure = trees.flatten(abstract), jax.tree.structure(abstract)
        self._check_same_leaves(step, leaves)
        items = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(leaves),
                input=ocp.args.JsonRestore(),
                history=ocp.args.JsonRestore(),
                config=ocp.args.JsonRestore(),
            ),
        )
        history = dict(items["history"])
        expected = history.pop("fingerprints")
        found = parallel.to_host(_fingerprints(items["state"]))
        damaged = [name for name in leaves if int(found[name]) != expected[name]]
        if damaged:
            raise OSError(f"the values of {', '.join(damaged[:3])} and {len(damaged)} arrays in all have changed")
        state = jax.tree.unflatten(structure, [items["state"][name] for name in leaves])
        return Restored(step, state, items["input"], history, items["config"])

    def _check_same_leaves(self, step: int, expected: Mapping[str, Any]) -> None:
        metadata = self.manager.item_metadata(step)["state"]
        if metadata is None:
            raise OSError("its description of the state is missing")
        found = metadata.tree if hasattr(metadata, "tree") else metadata
        if lines := trees.differences(expected, found):
            raise CheckpointError(
                f"Checkpoint {self.folder / str(step)} does not fit this config's model and optimizer:"
                f"{trees.shown(lines)}\nTrain into another --workdir, or go back to the config that wrote it."
            )

    def _set_aside(self, step: int, problem: str) -> None:
        target = self.folder.parent / "damaged" / str(step)
        warnings.warn(
            f"Checkpoint {step} is damaged ({problem}); moved to {target}, trying the one before it.", stacklevel=3
        )
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.folder / str(step), target)
        parallel.all_processes(True)  # Nobody goes on before it is moved.
        self.manager.reload()

    def wait(self) -> None:
        """Returns when every checkpoint started is complete; raises what went wrong in writing one."""
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases Orbax's threads."""
        self.manager.close()


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
    checkpoints = Checkpoints(workdir, keep=1, best_metric="", higher_is_better=True, read_only=True)
    try:
        found = checkpoints.steps()
        named: dict[int | str, Callable[[], int | None]] = {"best": checkpoints.best, "newest": checkpoints.newest}
        chosen = named[step]() if step in named else step
        if not isinstance(chosen, int) or chosen not in found:
            raise CheckpointError(f"There is no checkpoint {step} in {folder}; there are {found or 'none'}.")
        metadata = checkpoints.manager.item_metadata(chosen)["state"]
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
            for name, leaf in (metadata.tree if hasattr(metadata, "tree") else metadata).items()
        }
        try:
            restored = checkpoints.restore(chosen, abstract)
        except CheckpointError:
            raise
        except Exception as error:  # Whatever a damaged file makes the reading libraries raise.
            raise CheckpointError(f"Checkpoint {chosen} in {folder} is damaged ({error}).") from error
        return dataclasses.replace(restored, state=parallel.to_host(restored.state))
    finally:
        checkpoints.close()

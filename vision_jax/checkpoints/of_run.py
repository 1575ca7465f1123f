"""Which checkpoints a run has: one writer, the newest and the best kept, damaged ones set aside."""

import contextlib
import dataclasses
import math
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from vision_jax import config as config_lib
from vision_jax import parallel
from vision_jax.checkpoints import contents
from vision_jax.checkpoints.contents import CheckpointError, DamagedCheckpoint, Restored, Tree
from vision_jax.run_lock import FolderInUse, RunLock
from vision_jax.utils import trees

_FOLDER = "checkpoints"
_DELETED = ".deleted"  # Beside it: what is no longer kept, until the next save.


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
            with _quietly():
                handlers = contents.handlers()
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
                contents.parts(self.manager, step)
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
            lost = "was taken over by another process while this one did not answer"
            if not self._lock.path.exists():
                lost = "was moved or deleted while this process trained in it"
            raise CheckpointError(f"{self.folder.parent} {lost}.")
        self._history = {**history, "best": [self.best_metric, self.sign]}
        saved = contents.to_save(state, {"input": input_state, "history": self._history, "config": config})
        with self._written():
            self._delete()
            self.manager.save(step, args=saved, force=True)

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

        def rank(step: int) -> tuple[bool, float, int]:
            evaluated = math.isfinite(scores[step])
            return evaluated, scores[step] if evaluated else 0.0, step  # NaN compares as nothing.

        return sorted(steps, key=rank, reverse=True)

    def best(self) -> int | None:
        """Returns the step of the best evaluated checkpoint, the newest if none was evaluated, None without any."""
        return next(iter(self.ranked()), None)

    def newest_history(self) -> dict[str, Any]:
        """Returns the history in the newest checkpoint that can be read."""
        for step in reversed(self.steps()) if not self._history else ():
            with contextlib.suppress(DamagedCheckpoint):
                self._history = contents.parts(self.manager, step)["history"]
                break
        return self._history or {"evaluations": [], "best": ["", 1.0]}

    def seconds(self) -> float:
        """Returns how long the run has trained up to its newest checkpoint, all restarts together."""
        return self.newest_history().get("seconds", 0.0)

    def config_of(self, step: int) -> dict[str, Any]:
        """Returns the options of the run that wrote checkpoint `step`."""
        return contents.parts(self.manager, step)["config"]

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
        """Restores checkpoint `step` strictly; see `contents.restore`."""
        return contents.restore(self.manager, step, abstract)

    def description(self, step: int) -> dict[str, Any]:
        """Returns shape and type of every array of a checkpoint's state; see `contents.description`."""
        return contents.description(self.manager, step)

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
        """Waits, releases Orbax's threads, and lets others write.

        Raises:
            CheckpointError: one that was started could not be written.
        """
        manager, self._manager = self._manager, None
        try:
            if manager is not None:
                with self._written():
                    manager.close()
        finally:
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

"""Evaluations of a state: during training, and of a checkpoint at the end or for `--mode=eval`."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import environment, parallel, progress
from vision_jax.analysis.record import Record
from vision_jax.checkpoints import CheckpointError
from vision_jax.data import datasets, pipeline, sources
from vision_jax.metrics import words
from vision_jax.report import run_page
from vision_jax.run import Run
from vision_jax.tasks import base
from vision_jax.tasks.base import Evaluator
from vision_jax.tasks.state import TrainState
from vision_jax.utils import files, trees
from vision_jax.writers import Writer

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Found:
    """What an evaluation gave.

    Attributes:
        metrics: by name, 'evaluator/metric'.
        outputs: per example, in the order of the split, 'index' in the split among them; empty unless asked for.
        fingerprint: of the examples; empty unless outputs were asked for.
        measured: what a collector found; None unless outputs were asked for.
    """

    metrics: dict[str, float]
    outputs: Outputs
    fingerprint: str
    measured: base.Measured | None = None


class Evaluation:
    """Runs the evaluators of one run; splits are opened when first asked for and compiled programs are kept.

    Attributes:
        constants: the task's, on the devices.
        fingerprints: of them.
    """

    def __init__(self, run: Run):
        self.run = run
        constants = run.task.constants()
        self.fingerprints = {name: trees.fingerprint(tree) for name, tree in constants.items()}
        self.constants = parallel.put(constants, parallel.shardings(constants, run.mesh))
        self._loaders: dict[str, pipeline.Loader] = {}
        self._steps: dict[Callable, Callable] = {}
        self._programs: dict[Callable, Callable] = {}

    def __call__(self, evaluator: Evaluator, state: TrainState, *, final: bool = False) -> Found:
        """Evaluates `state`; each example counts exactly once. The outputs are kept from the final evaluation alone."""
        run, batch_size = self.run, self.run.config.data.eval_batch_size or self.run.config.data.batch_size
        loader = self._loader(evaluator, state)
        step, program = self._compiled(evaluator.step)
        examples = len(loader.source)
        collector = evaluator.collector() if evaluator.collector else None
        sums, kept = None, collections.defaultdict(list)
        for number, rows in enumerate(loader.evaluation(batch_size)):
            batch = parallel.put_split(rows, run.mesh)
            position = parallel.put_replicated(np.int32(number), run.mesh)
            if sums is None:
                sums = parallel.zeros(jax.eval_shape(step, state, self.constants, batch, run.key)[0], run.mesh)
            sums, outputs = program(sums, state, self.constants, batch, position)
            if final or collector:
                real = parallel.gather_to_host(batch["mask"]) > 0  # Not padding.
                gathered = {name: parallel.gather_to_host(output)[real] for name, output in outputs.items()}
                if collector:
                    collector.add(gathered)
                for name in gathered if final else ():
                    kept[name].append(gathered[name])
        total = parallel.to_host(sums)
        if int(total["count"]) != examples:
            raise AssertionError(f"{int(total['count'])} of {examples} examples of {evaluator.name} were counted.")
        metrics = {f"{evaluator.name}/{name}": value for name, value in evaluator.summarize(total).items()}
        if not final:
            own = collector.metrics() if collector else {}
            return Found(metrics | {f"{evaluator.name}/{name}": value for name, value in own.items()}, {}, "")
        measured = collector.final() if collector else base.Measured({})
        metrics |= {f"{evaluator.name}/{name}": value for name, value in measured.metrics.items()}
        split = run.dataset.splits[evaluator.split]
        indices = datasets.evenly(len(split), evaluator.limit)
        outputs = {name: np.concatenate(arrays) for name, arrays in kept.items()}
        fingerprint = sources.fingerprint(datasets.limited(split, evaluator.limit))
        return Found(metrics, {"index": indices, **outputs}, fingerprint, measured)

    def pictures(self, evaluator: Evaluator, state: TrainState) -> dict[str, np.ndarray]:
        """Returns the evaluator's pictures by name, computed by all processes."""
        if evaluator.pictures is None:
            return {}
        if evaluator.pictures not in self._programs:
            replicated = parallel.replicated(self.run.mesh)
            self._programs[evaluator.pictures] = jax.jit(evaluator.pictures, out_shardings=replicated)
        examples = self.run.task.first_examples(evaluator.split, evaluator.shown)
        batch = parallel.put_replicated(examples, self.run.mesh)
        return parallel.to_host(self._programs[evaluator.pictures](state, self.constants, batch))

    def _loader(self, evaluator: Evaluator, state: TrainState) -> pipeline.Loader:
        if evaluator.name not in self._loaders:
            loader = self.run.loader(evaluator.split, evaluator.limit)
            self._loaders[evaluator.name] = self.run.task.loader(state, loader)
        return self._loaders[evaluator.name]

    def _compiled(self, function: Callable) -> tuple[Callable, Callable]:
        """Returns an evaluator's step, traced once for the shapes of its sums and to run, and the program that adds."""
        if function not in self._programs:
            replicated, split = parallel.replicated(self.run.mesh), parallel.split(self.run.mesh)

            def counted(state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array) -> Any:
                sums, outputs = function(state, constants, batch, key)
                return {**sums, "count": jnp.sum(batch["mask"].astype(jnp.int32))}, outputs

            step = self._steps[function] = jax.jit(counted, inline=True)

            def add(
                sums: Any, state: TrainState, constants: base.Constants, batch: base.Batch, number: jax.Array
            ) -> Any:
                found, outputs = step(state, constants, batch, jax.random.fold_in(self.run.key, number))
                return jax.tree.map(jnp.add, sums, found), outputs

            self._programs[function] = jax.jit(add, donate_argnums=0, out_shardings=(replicated, split))
        return self._steps[function], self._programs[function]


def final(run: Run, step: int | None, evaluation: Evaluation, writer: Writer | None = None) -> dict[str, Any]:
    """Runs all evaluators on a checkpoint, writes `outputs/` and `report/`, and returns the results.

    `finished` among them says whether training has ended; an evaluation on other data does not know.

    Args:
        run: whose checkpoint it is.
        step: of the checkpoint; None takes the best that is whole.
        evaluation: with whose programs and splits.
        writer: gets the metrics and pictures, too.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    steps = run.checkpoints.steps()
    if not steps or step not in (None, *steps):
        raise CheckpointError(
            f"There is no checkpoint {'' if step is None else f'{step} '}in {run.checkpoints.folder}; there are "
            f"{steps or 'none'}. Train first, with --mode=train."
        )
    abstract = run.abstract_state()
    restored = run.checkpoints.restore_best(abstract) if step is None else run.checkpoints.restore(step, abstract)
    if restored is None:
        raise CheckpointError(f"All checkpoints in {run.checkpoints.folder} are damaged ({steps}).")
    state = restored.state
    results: dict[str, Any] = {
        "task": run.config.task,
        "data": run.dataset.name,
        "model": run.config.model.name,
        "parameters": state.parameter_count(),
        "checkpoint_step": restored.step,
        "chosen_by": run.checkpoints.best_metric,
        "training_seconds": round(run.checkpoints.seconds(), 1),
        **({"finished": run.finished()} if "train" in run.dataset.splits else {}),
        "examples": {split: len(source) for split, source in run.dataset.splits.items()},
        "metrics": {},
        "receipts": {},
        "evaluations": {},
        "constants": evaluation.fingerprints,
        "provenance": dict(run.dataset.provenance),
    }
    shown: dict[str, np.ndarray] = {}
    for evaluator in run.evaluators:
        found = evaluation(evaluator, state, final=True)
        assert found.measured is not None  # As asked for.
        pictures = evaluation.pictures(evaluator, state) | found.measured.pictures
        results["metrics"] |= found.metrics
        receipts = found.measured.receipts.items()
        results["receipts"] |= {f"{evaluator.name}/{name}": receipt for name, receipt in receipts}
        results["evaluations"][evaluator.name] = {
            "split": evaluator.split,
            "examples": len(found.outputs["index"]),
            "fingerprint": found.fingerprint,
        }
        shown |= {f"{evaluator.name}/{name}": images for name, images in pictures.items()}
        if jax.process_index() == 0:
            _write_arrays(run.workdir / "outputs" / f"{evaluator.name}.npz", found.outputs, found.fingerprint)
            arrays = pictures | found.measured.arrays
            _write_arrays(run.workdir / "outputs" / f"{evaluator.name}_pictures.npz", arrays, found.fingerprint)
    if writer:
        writer.write_final(restored.step, results["metrics"], shown)
    if jax.process_index() == 0:
        if "train" not in run.dataset.splits:  # An evaluation on other data than the run's.
            environment.note(run.workdir, run.config, run.dataset)
        _report(run, results)
    return results


def _write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray], fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        np.savez(file, allow_pickle=False, fingerprint=np.array(fingerprint), **arrays)


def _report(run: Run, results: dict[str, Any]) -> None:
    """Writes `report/results.json` and the page, and prints the table (of one process)."""

    def images(split: str, indices: Iterable[int]) -> np.ndarray:
        return base.examples_at(run.config, run.dataset, split, indices)["image"]

    (run.workdir / "report").mkdir(parents=True, exist_ok=True)
    files.write_json(run.workdir / "report" / "results.json", results)
    page = run_page.of_run(Record(run.workdir), images)
    names = [evaluator.name for evaluator in run.evaluators]
    metrics = results["metrics"]
    measured = list(dict.fromkeys(metric.partition("/")[2] for metric in metrics))
    sizes = {name: results["evaluations"][name]["examples"] for name in names}

    def cell(name: str, metric: str) -> str:
        number = metrics.get(f"{name}/{metric}")
        return "" if number is None else words.short(metric, number, sizes[name])

    rows = [[words.label(metric), *(cell(name, metric) for name in names)] for metric in measured]
    print(f"\nCheckpoint of step {results['checkpoint_step']}, best by {results['chosen_by']}:")
    progress.print_table(("metric", *(f"{name}, n = {sizes[name]:,}" for name in names)), rows)
    if any("accuracy" in metric for metric in measured):
        print(words.WILSON)
    print(f"Report: {page}")

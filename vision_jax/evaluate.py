"""A checkpoint becomes metrics and a report: the same code at the end of training and for `--mode=eval`."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import config as config_lib
from vision_jax import parallel, progress, writers
from vision_jax import run as run_lib
from vision_jax.data import pipeline
from vision_jax.run import Run
from vision_jax.tasks import base


class Evaluator:
    """Evaluates states of one run; splits are loaded when first asked for and compiled programs are kept."""

    def __init__(self, run: Run):
        self.run = run
        self.loaders: dict[str, pipeline.Loader] = {}
        self.step = jax.jit(run.task.eval_step, inline=True)  # Traced once, for the shapes of its sums and to run.
        self.program = jax.jit(self._add, donate_argnums=0)

    def _add(self, sums: Any, state: base.TrainState, batch: pipeline.Batch, number: jax.Array) -> Any:
        found = self.step(state, batch, jax.random.fold_in(self.run.key, number))
        return jax.tree.map(jnp.add, sums, found)

    def sums(self, state: base.TrainState, split: str) -> dict[str, np.ndarray]:
        """Returns the sums of `Task.eval_step` over the split, each example counted exactly once."""
        run = self.run
        if split not in self.loaders:
            self.loaders[split] = run.task.loader(state, run.loader(split))
        loader = self.loaders[split]
        sums = None
        for number, rows in enumerate(loader.evaluation(run.config.data.eval_batch_size or run.config.data.batch_size)):
            batch = parallel.put_split(rows, run.mesh)
            number = parallel.put_replicated(np.int32(number), run.mesh)
            if sums is None:
                sums = run_lib.zeros(jax.eval_shape(self.step, state, batch, run.key), run.mesh)
            sums = self.program(sums, state, batch, number)
        result = parallel.to_host(sums)
        if int(result["count"]) != len(loader.source):
            raise AssertionError(f"{int(result['count'])} of {len(loader.source)} {split} examples were counted.")
        return result

    def metrics(self, state: base.TrainState, split: str) -> dict[str, float]:
        """Returns the metrics of the split, named 'split/metric'."""
        return {f"{split}/{name}": value for name, value in self.run.task.summarise(self.sums(state, split)).items()}


def final(run: Run, step: int | None, evaluator: Evaluator | None = None) -> dict[str, Any]:
    """Evaluates checkpoint `step` on 'val' and, where there is one, 'test', and writes `report/`.

    Prints the table and returns the results.
    An `evaluator` of the same run saves its compilation.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if step is None or step not in run.checkpoints.steps():
        raise run_lib.CheckpointError(
            f"There is no checkpoint {'' if step is None else f'{step} '}in {run.checkpoints.folder}; there are "
            f"{run.checkpoints.steps() or 'none'}. Train first, with --mode=train."
        )
    restored = run.checkpoints.restore(step, run.abstract_state())
    evaluator = evaluator or Evaluator(run)
    sums = {split: evaluator.sums(restored.state, split) for split in run.dataset.splits if split != "train"}
    metrics = {f"{split}/{name}": value for split in sums for name, value in run.task.summarise(sums[split]).items()}
    results = {
        "task": run.config.task,
        "data": run.dataset.name,
        "model": run.config.model.name,
        "parameters": run_lib.parameter_count(restored.state),
        "checkpoint_step": step,
        "chosen_by": run.checkpoints.best_metric,
        "training_seconds": round(run.checkpoints.seconds(), 1),
        "examples": {split: len(source) for split, source in run.dataset.splits.items()},
        "metrics": metrics,
        "provenance": dict(run.dataset.provenance),
    }
    if jax.process_index() == 0:
        _write_report(run, parallel.local_view(restored.state), sums, results)
    return results


def _write_report(run: Run, state: base.TrainState, sums: dict[str, Any], results: dict[str, Any]) -> None:
    from vision_jax.report import run_page

    folder = run.workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    run_lib.write_json(folder / "results.json", results)
    report = run.task.report(state, sums, folder)
    metrics = results["metrics"]
    summary = {**metrics, **{name: results[name] for name in ("parameters", "checkpoint_step", "training_seconds")}}
    page = run_page.write(
        run.workdir,
        title=f"{run.config.model.name} on {run.dataset.name}",
        summary=summary,
        metrics=writers.read_rows(run.workdir / writers.METRICS),
        config=config_lib.to_dict(run.config),
        environment=json.loads((run.workdir / "environment.json").read_text()),
        pictures=report.pictures,
        tables=report.tables,
    )
    rows = [[name, *(metrics[f"{split}/{name}"] for split in sums)] for name in run.task.metrics]
    print(f"\nCheckpoint of step {results['checkpoint_step']}, best by {results['chosen_by']}:")
    progress.print_table(("metric", *sums), rows)
    print(f"Report: {page}")

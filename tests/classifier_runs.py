"""Folders as runs of classifiers leave them, written without training anything."""

import json

import numpy as np

from vision_jax import config as config_lib
from vision_jax.utils import files

SIDE = 6  # pixels


def images_of(split, indices):
    """Images whose pixels tell split and index."""
    return np.stack([np.full((SIDE, SIDE, 3), (hash_of(split) + int(i)) % 256, np.uint8) for i in indices])


def hash_of(split):
    return {"train": 0, "val": 50, "test": 100}[split]


def outputs(classes, examples, *, seed=0, skill=2.0, split_seed=0, features=7):
    """What an evaluator keeps: `skill` is how far the true class stands out."""
    labels = np.random.default_rng(split_seed).integers(0, classes, examples).astype(np.int32)
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(examples, classes)) + skill * np.eye(classes)[labels]).astype(np.float32)
    arrays = {"index": np.arange(examples), "label": labels, "logits": logits}
    if features:
        arrays["features"] = np.maximum(logits @ rng.normal(size=(classes, features)), 0).astype(np.float32)
    return arrays


def write(workdir, splits, *, names, options=None, superclasses=(), pictures=None, fingerprints=None, **results):
    """Writes the files of a run.

    Args:
        workdir: its folder.
        splits: evaluator to the arrays of `outputs`.
        names: of the classes.
        options: {'section.name': value}, of the config.
        superclasses: of the classes.
        pictures: of the last evaluator, by name.
        fingerprints: of evaluators whose examples are others than those of another run.
        results: what differs from the usual in `results.json`.
    """
    (workdir / "outputs").mkdir(parents=True)
    (workdir / "report").mkdir()
    config = config_lib.default()
    for name, value in {"train.epochs": 1.0, **(options or {})}.items():
        config_lib.assign(config, name, value)
    files.write_json(workdir / "config.json", config_lib.to_dict(config))
    metrics, evaluations = {}, {}
    for name, arrays in splits.items():
        np.savez(workdir / "outputs" / f"{name}.npz", fingerprint=np.array("x"), **arrays)
        np.savez(workdir / "outputs" / f"{name}_pictures.npz", fingerprint=np.array("x"), **(pictures or {}))
        metrics[f"{name}/accuracy"] = float((arrays["logits"].argmax(-1) == arrays["label"]).mean())
        metrics[f"{name}/macro_f1"], metrics[f"{name}/loss"] = 0.5, 0.25
        evaluations[name] = {
            "split": name,
            "examples": len(arrays["label"]),
            "fingerprint": (fingerprints or {}).get(name, f"of {name}"),
        }
    counts = {name: np.bincount(arrays["label"], minlength=len(names)).tolist() for name, arrays in splits.items()}
    dataset = {"name": "toy", "class_names": list(names), "superclasses": list(superclasses), "provenance": {}}
    dataset |= {"examples_per_class": counts, "image_shape": [SIDE, SIDE, 3]}
    files.write_json(workdir / "dataset.json", dataset)
    files.write_json(
        workdir / "environment.json", {"command": "python -m vision_jax.main --config=a.py", "folder": "/"}
    )
    found = {
        "task": "classification",
        "data": "toy",
        "model": config.model.name,
        "parameters": 1234,
        "checkpoint_step": 4,
        "chosen_by": "val/accuracy",
        "training_seconds": 12.5,
        "examples": {name: len(arrays["label"]) for name, arrays in splits.items()},
        "metrics": metrics,
        "evaluations": evaluations,
        "constants": {},
        "provenance": {},
    }
    files.write_json(workdir / "report" / "results.json", found | results)
    rows = [{"step": step, "train/loss": 1 / step, "val/accuracy": 1 - 0.5 / step} for step in (1, 2, 3, 4)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    timings = [{"step": step, "steps_per_second": 8.0, "examples_per_second": 64.0} for step in (1, 2, 3, 4)]
    (workdir / "timings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timings))
    return workdir

"""Compares runs: one page and one JSON file.

    python -m vision_jax.tools.compare runs/a runs/b runs/c --out=runs/comparison

What differs between their configs, results with intervals, and for classifiers on the same test examples the exact
McNemar test, a paired bootstrap interval, differences by class, and images that one gets right and the other wrong.
Runs that differ in the seed alone are one row. The exit status is 2 when runs cannot be compared.
"""

import pathlib
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from absl import flags

from vision_jax import command_line
from vision_jax import config as config_lib
from vision_jax.analysis.record import Record
from vision_jax.data import datasets, sources
from vision_jax.report import compare_page
from vision_jax.report.images import ImagesOf
from vision_jax.tasks import base


def write(workdirs: Sequence[str | pathlib.Path], out: str | pathlib.Path) -> pathlib.Path:
    """Compares the runs in these folders; returns the path of the page, `OUT/index.html`.

    Raises:
        ValueError: they cannot be compared; the message says why.
        OSError: a file cannot be read or written.
    """
    records = [Record(workdir) for workdir in workdirs]
    for record in records:
        if not (record.workdir / "config.json").is_file():
            raise ValueError(f"{record.workdir} is no folder of a run: it has no config.json.")
    images_of, no_images = _images(records[0]) if records else (None, "")
    return compare_page.write(out, records, images_of, no_images)


def _images(record: Record) -> tuple[ImagesOf | None, str]:
    """Returns what gives the images of a run's data set, or why nothing does.

    The data may be elsewhere by now, and those of an evaluation on other data are not those of the config.
    """
    try:
        config = config_lib.from_dict(record.config)
        dataset = datasets.of_config(config)
        for evaluation in record.results["evaluations"].values():
            name = evaluation["split"]
            if name not in dataset.splits:
                return None, f"{dataset.name} has no split {name!r}; there are {', '.join(dataset.splits)}."
            source = datasets.limited(dataset.splits[name], evaluation["examples"])
            if sources.fingerprint(source) != evaluation["fingerprint"]:
                return None, f"the split {name!r} of {dataset.name} is not, or is no longer, what was evaluated."
    except (ValueError, OSError) as error:
        return None, str(error)

    def images(split: str, indices: Iterable[int]) -> np.ndarray:
        return base.examples_at(config, dataset, split, indices)["image"]

    return images, ""


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("out", "runs/comparison", "Folder to write.")


def main(argv: list[str]) -> int:
    """Compares the runs named on the command line."""
    command_line.quiet()
    try:
        print(f"Wrote {write(argv[1:], flags.FLAGS.out)}")
    except (ValueError, OSError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    define_flags()
    command_line.run(main)

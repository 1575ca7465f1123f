"""Writes a page about the data of a config, to be looked at before training.

    python -m vision_jax.tools.inspect_data --config=configs/digits_cnn.py

Examples per class and split, pictures of each class, pixel statistics, sizes, duplicates and near-duplicates across
splits, and the training pictures after the config's augmentation; as one HTML file and the PNG files in it. With
`--workdir` of a run, also the pictures whose label its network believes least; the config is then the run's own.
"""

import pathlib
import sys

from absl import flags

from vision_jax import command_line, config_files
from vision_jax import config as config_lib

_CONFIG = flags.DEFINE_string("config", None, "Config file, FILE.py or FILE.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run: rank its examples by disagreement with their label.")
_NEAR = flags.DEFINE_bool("near_duplicates", True, "Look for near-duplicates, for which every picture is decoded.")
_OUTPUT = flags.DEFINE_string("output", "", "Folder to write; by default runs/data_<name of the data set>.")


def main(argv: list[str]) -> None:
    """Surveys the data and writes the page."""
    if len(argv) > 1:
        sys.exit(f"ERROR: Unexpected argument {argv[1]!r}; flags start with '--', `--help` lists them.")
    if (_CONFIG.value is None) == (_WORKDIR.value is None):
        sys.exit("ERROR: Name a config, --config=configs/digits_cnn.py, or a run, --workdir=runs/digits_cnn.")
    command_line.quiet()
    from vision_jax.analysis.record import Record
    from vision_jax.data import datasets
    from vision_jax.report import data_page

    try:
        record = Record(_WORKDIR.value) if _WORKDIR.value else None
        config = config_lib.from_dict(record.config) if record else config_files.load(_CONFIG.value or "")
        config_files.override(config, command_line.options)
        config_lib.validate(config)
        dataset = datasets.of_config(config)
        folder = pathlib.Path(
            _OUTPUT.value or pathlib.Path("runs") / f"data_{dataset.name.replace(':', '_').replace('/', '_')}"
        )
        print(f"Wrote {data_page.write(folder, dataset, config, near=_NEAR.value, record=record)}")
    except (ValueError, OSError) as error:
        sys.exit(command_line.in_words(error))


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags_and_options)

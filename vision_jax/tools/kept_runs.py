"""Keeps the small files of a run for good, and makes the table of all kept runs.

    python -m vision_jax.tools.kept_runs configs/results                                   # prints the table
    python -m vision_jax.tools.kept_runs configs/results --keep=runs/a --name=digits_cnn   # and before that keeps a run
    python -m vision_jax.tools.kept_runs configs/results --write                           # into the folder's README.md

Runs that differ in the seed alone are a row. What others published stands in the folder's `published.json`.
"""

import pathlib
import sys

from absl import app, flags

from vision_jax import command_line
from vision_jax.analysis import kept_runs


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("keep", None, "Folder of a run that has ended, of which results and pictures are copied.")
    flags.DEFINE_string("name", None, "What the kept run is called; by default as its folder.")
    flags.DEFINE_bool("write", False, "Replace the table in README.md of the folder.")


def main(argv: list[str]) -> int:
    """Keeps a run if asked, and prints or writes the table."""
    command_line.quiet()
    values = flags.FLAGS
    if len(argv) != 2:
        print("Name the folder of kept runs, such as configs/results.", file=sys.stderr)
        return 2
    folder = pathlib.Path(argv[1])
    try:
        if values.keep:
            name = pathlib.Path(values.keep).resolve().name if values.name is None else values.name
            print(f"Kept in {kept_runs.keep(values.keep, folder, name)}")
        table, page = kept_runs.table(folder), folder / "README.md"
        if values.write:
            page.write_text(kept_runs.with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")
            print(f"Wrote {page}")
        else:
            print(table, end="")
    except (ValueError, OSError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

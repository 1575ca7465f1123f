"""Prepares a data set once, for all later runs.

    python -m vision_jax.tools.prepare_data cifar10                     # fetched from its publisher
    python -m vision_jax.tools.prepare_data cifar10 --archives DIR      # from the publisher's files in DIR
    python -m vision_jax.tools.prepare_data cifar10 --through=tfds      # by TensorFlow Datasets: the same set
    python -m vision_jax.tools.prepare_data tfds:eurosat                # any other image-classification set of TFDS

A data set that is prepared already is left as it is.
"""

import sys

from absl import flags

from vision_jax import command_line
from vision_jax.data import prepare
from vision_jax.data.prepare.archives import ArchiveError
from vision_jax.data.prepare.originals import VerificationError

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data sets lie; default $VISION_JAX_HOME/data.")
_ARCHIVES = flags.DEFINE_string("archives", None, "Folder with the publisher's original files; no network is used.")
_ALLOW_UNVERIFIED = flags.DEFINE_bool(
    "allow_unverified", False, "Use files whose checksums or sizes differ from the published ones."
)
_THROUGH = flags.DEFINE_enum(
    "through", "publisher", ["publisher", "tfds"], "Who fetches it: this program, or TensorFlow Datasets."
)


def main(argv: list[str]) -> None:
    """Prepares the data sets named on the command line."""
    if len(argv) < 2:
        sys.exit(f"ERROR: Which data set? One of {', '.join(prepare.names())}, or tfds:NAME.")
    command_line.quiet()
    for name in argv[1:]:
        try:
            prepare.prepare(
                name,
                _DATA_DIR.value,
                archives=_ARCHIVES.value,
                allow_unverified=_ALLOW_UNVERIFIED.value,
                through=_THROUGH.value,
            )
        except (ArchiveError, VerificationError, ValueError, OSError, ModuleNotFoundError) as e:
            # What a person at the keyboard can act on is a message, not a traceback.
            sys.exit(f"{name} was not prepared.\n{e}")


if __name__ == "__main__":
    command_line.run(main)

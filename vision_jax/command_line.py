"""What commands share: flags that speak in sentences, and errors that a person can act on."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import app, flags, logging

from vision_jax import config as config_lib

network_options: dict[str, Any] = {}  # Given on the command line, as `config_lib.assign` takes them.


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl's flags; a wrong option of the config is a sentence, not a traceback."""
    sys.argv, found = config_lib.take_network_options(argv)  # `config_flags` reads sys.argv.
    network_options.update(found)
    try:
        return app.parse_flags_with_usage(sys.argv)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f"ERROR: {' '.join(str(argument) for argument in error.args)}")


def quiet() -> None:
    """Leaves warnings of the log alone, unless --verbosity asks for more: libraries describe everything they do."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def sentences(*expected: type[Exception]) -> Iterator[None]:
    """Ends the program with the message of an expected error; --verbosity=1 shows where it came from."""
    try:
        yield
    except expected as error:
        logging.debug("Traceback:", exc_info=True)
        raise SystemExit(f"ERROR: {error}") from error

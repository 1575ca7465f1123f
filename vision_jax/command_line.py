"""What commands share: flags that speak in sentences, and errors that a person can act on."""

import contextlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from logging import LogRecord
from typing import Any

from absl import app, flags, logging

from vision_jax import ending
from vision_jax.utils.text import printable

options: dict[str, str] = {}  # Of the config, as `--config.SECTION.OPTION=VALUE` gave them.


def run(main: Callable[[list[str]], Any], flags_parser: Callable[[Sequence[str]], list[str]] | None = None) -> None:
    """Runs a command's `main`; its flags are parsed by `parse_flags` unless it has a parser of its own."""
    ending.watch_signals()
    try:
        app.run(main, flags_parser=flags_parser or parse_flags)
    except SystemExit as end:
        if end.code:
            ending.leave(*((end.code,) if isinstance(end.code, int) else (1, str(end.code))))
    except Exception:
        ending.leave(1, traceback.format_exc())


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl's flags; what is wrong with them is a sentence."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        words = str(error).strip().removeprefix("flag ").rstrip(".")
        sys.exit(f"ERROR: {words[0].upper()}{words[1:]}. `--help` lists the flags.")


def parse_flags_and_options(argv: Sequence[str]) -> list[str]:
    """Parses absl's flags and puts the config's options that stand among them into `options`."""
    rest, found = take_options(argv)
    options.clear()
    options.update(found)
    return parse_flags(rest)


def take_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes `--config.SECTION.OPTION=VALUE`, or with a space for the '=', out of a command line.

    Returns:
        The other arguments, and the options as {'SECTION.OPTION': 'VALUE'}.
    """
    rest: list[str] = []
    found: dict[str, str] = {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            return [*rest, argument, *left], found
        flag, given, value = argument.partition("=")
        name = flag.lstrip("-")
        if not argument.startswith("-") or not name.startswith("config."):
            rest.append(argument)
            continue
        if not given:
            value = left.pop(0) if left and not left[0].startswith("--") else "True"
        found[name.removeprefix("config.")] = value
    return rest, found


def quiet() -> None:
    """Leaves warnings of the log alone, unless --verbosity asks for more: libraries describe everything they do.

    A warning of this project is one line without the source that gave it. What goes wrong in Orbax's threads is told by
    the exception that a save raises; their own descriptions, of every array that was not written, are left out.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().addFilter(lambda record: not _is_of_a_failed_save(record))
        sys.unraisablehook = _unraisable
    warnings.showwarning = _show_warning


def _is_of_a_failed_save(record: LogRecord) -> bool:
    where = record.getMessage() if record.name == "asyncio" else record.pathname  # asyncio says whose coroutine it was.
    return "/orbax/" in where


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Prints what nobody could catch, unless TensorStore had an answer for a save that has failed."""
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    print(in_words(message, "WARNING"), file=file or sys.stderr)


def in_words(message: object, kind: str = "ERROR") -> str:
    """Returns a line about an error or warning, safe to print: it may quote names from files that anyone has made."""
    return f"{kind}: {printable(str(message), keep=chr(10))}"


@contextlib.contextmanager
def sentences(*expected: type[Exception]) -> Iterator[None]:
    """Ends the program with the message of an expected error; --verbosity=1 shows where it came from."""
    try:
        yield
    except expected as error:
        logging.debug("Traceback:", exc_info=True)
        raise SystemExit(in_words(error)) from error

"""Words for people."""

import difflib
from collections.abc import Iterable


def closest(name: str, valid: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the entry of `valid` closest to `name`, or `""` when none is close."""
    match = difflib.get_close_matches(name, list(valid), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""

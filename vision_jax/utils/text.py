"""Words for people."""

import difflib
from collections.abc import Iterable


def closest(name: str, valid: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the entry of `valid` closest to `name`, or `""` when none is close."""
    match = difflib.get_close_matches(name, list(valid), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def printable(text: str, keep: str = "") -> str:
    """Returns `text` with characters that a terminal would obey, or that UTF-8 lacks, spelled out but for `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)

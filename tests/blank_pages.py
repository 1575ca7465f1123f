"""Runs end with an empty page in tests that do not look at it: drawing one takes seconds."""

import os

import pytest

from vision_jax.report import run_page

_VARIABLE = "VISION_JAX_TESTS_BLANK_PAGES"  # For the commands of a test.


def use(patch: pytest.MonkeyPatch) -> None:
    """Leaves pages empty, here and in `forked_commands`, until `patch` is undone."""
    patch.setenv(_VARIABLE, "1")
    patch.setattr(run_page, "of_run", _blank)


def use_if_asked() -> None:
    """Does so in a process that a test has started, for as long as it lives."""
    if _VARIABLE in os.environ:
        run_page.of_run = _blank


def _blank(record, images_of):
    page = record.workdir / "report" / "index.html"
    page.write_text("")
    return page

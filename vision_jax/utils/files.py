"""Where things that outlive a run are kept, and where the facts about other people's files stand."""

import os
import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def cache_dir(kind: str) -> pathlib.Path:
    """Returns the folder for `kind` ('data', 'weights', 'compilation', 'ops'): `$VISION_JAX_HOME/kind`.

    `VISION_JAX_HOME` defaults to `~/.cache/vision_jax`. The folder is not created here.
    """
    home = os.environ.get("VISION_JAX_HOME") or pathlib.Path.home() / ".cache" / "vision_jax"
    return pathlib.Path(home).expanduser() / kind


def third_party(name: str) -> pathlib.Path:
    """Returns the path of `third_party/NAME`: inside an installed wheel, or beside the package in a checkout."""
    for folder in (_PACKAGE / "third_party", _PACKAGE.parent / "third_party"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"third_party/{name} is missing from this installation of vision_jax ({_PACKAGE}).")

"""Where things that outlive a run are kept, and files that are there whole or not at all."""

import contextlib
import json
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO, Any

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


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when the block ends, and is gone when it raises.

    Args:
        path: of the finished file; its folder must exist.
        durable: wait until the content is on the disk before it takes the place of what was there.

    Raises:
        OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes strict JSON with `atomic_write`."""
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=2, allow_nan=False).encode() + b"\n")

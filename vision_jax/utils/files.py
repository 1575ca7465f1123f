"""Where things that outlive a run are kept, and files that are there whole or not at all."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
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


@contextlib.contextmanager
def atomic_folder(
    path: str | os.PathLike[str], *, temporary: str | os.PathLike[str] | None = None
) -> Iterator[pathlib.Path]:
    """Makes a folder that gets the name `path` when the block ends, and is gone when it raises.

    Args:
        path: of the finished folder; the folder that it is in must exist.
        temporary: its name until then, on the same disk; what lies there, left by a process that died, is deleted.
            For who is the only one to make `path`; by default several processes can.

    Raises:
        FileExistsError: when the block ends, something is there already: another process was faster.
        OSError: it cannot be made.
    """
    path = pathlib.Path(path)
    if temporary is None:
        folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    else:
        folder = pathlib.Path(temporary)
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
        try:
            os.rename(folder, path)
        except OSError as error:
            if os.path.lexists(path):
                raise FileExistsError(f"{path} is there already") from error
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def open_npz(file: IO[bytes]) -> Any:
    """Opens an .npz of plain arrays by `np.load`, of which nothing is unpickled.

    Raises:
        ValueError: the file holds something else, such as a single array.
        EOFError, OSError, zipfile.BadZipFile: it is empty, cannot be read, or is damaged.
    """
    import numpy as np

    found = np.load(file, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise ValueError("it holds a single array without a name, as an .npy does")
    return found


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes strict JSON with `atomic_write`."""
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=2, allow_nan=False).encode() + b"\n")

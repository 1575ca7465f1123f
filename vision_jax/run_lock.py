"""One process writes to a run's folder: `WORKDIR/lock.json` says which, and its age whether that one is alive.

Made by exclusive creation, which shared file systems have too. On the machine that wrote it, a lock is stale as soon as
its process is gone; elsewhere, when nobody has touched it for `STALE` seconds of the file system's own clock.
"""

import contextlib
import json
import os
import pathlib
import platform
import tempfile
import threading
import time
import uuid
from typing import Any

from vision_jax import ending

FILE = "lock.json"
BEAT, STALE = 10.0, 60.0  # Seconds between two signs of life, and after which there are none.


class FolderInUse(Exception):
    """Another process writes to the folder; the message names it."""


class RunLock:
    """A lock on a run's folder, held from its creation until `release`, also through `ending.leave`.

    Raises:
        FolderInUse: another process holds it.
        OSError: the folder cannot be written to.
    """

    def __init__(self, workdir: pathlib.Path):
        self.path = pathlib.Path(workdir) / FILE
        self.content = {**this_process(), "token": uuid.uuid4().hex, "since": time.strftime("%F %T %Z")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._created():
            self._remove_stale()
        self.released = threading.Event()
        self._leaving = contextlib.ExitStack()
        self._leaving.enter_context(ending.before_leaving(lambda _: self._remove()))
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def _created(self) -> bool:
        try:
            with open(self.path, "x") as file:
                json.dump(self.content, file)
        except FileExistsError:
            return False
        return True

    def _remove_stale(self) -> None:
        """Removes a lock whose process is gone; raises `FolderInUse` if it is not."""
        found, age = read(self.path), _age(self.path)
        if age is None:
            return  # Released meanwhile.
        same_machine = found.get("machine") == self.content["machine"]
        if age < STALE and not (same_machine and not is_running(found)):
            pid, host, since = (found.get(name, "?") for name in ("pid", "host", "since"))
            raise FolderInUse(
                f"{self.path.parent} is written to by process {pid} on {host} (since {since}, last sign of life "
                f"{age:.0f} s ago). Wait for it, stop it, or choose another --workdir; if its machine is gone, start "
                f"again in {STALE:.0f} s."
            )
        # Of several that find it stale one succeeds in renaming it; what that one then holds may be a fresh lock.
        grave = self.path.with_name(f"{FILE}.{self.content['token']}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, grave)
            if read(grave).get("token") != found.get("token"):
                with contextlib.suppress(FileExistsError):
                    os.link(grave, self.path)
            grave.unlink()

    @property
    def held(self) -> bool:
        """Whether the folder is still this process's: a machine that slept for a minute has lost it."""
        return holds(self.path, self.content["token"])

    def _beat(self) -> None:
        while not self.released.wait(BEAT):
            with contextlib.suppress(OSError):  # A disk that comes back; else the others take the lock for stale.
                touch(self.path, self.content["token"])

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            if self.held:
                self.path.unlink()

    def release(self) -> None:
        """Gives the folder back."""
        self.released.set()
        self._leaving.close()
        self._remove()


def holds(path: pathlib.Path, token: str) -> bool:
    """Whether the file is still that of whoever wrote the token into it."""
    return read(path).get("token") == token


def touch(path: pathlib.Path, token: str) -> None:
    """Gives a sign of life in a file, if it `holds` the token."""
    if holds(path, token):
        os.utime(path)


def this_process() -> dict[str, Any]:
    """Returns what a process is known by: its host, the boot and the container of it, its number and its start."""
    boot, container = pathlib.Path("/proc/sys/kernel/random/boot_id"), pathlib.Path("/proc/self/ns/pid")
    machine = [platform.node(), boot.read_text().strip() if boot.exists() else ""]
    machine.append(os.readlink(container) if container.is_symlink() else "")
    pid = os.getpid()
    return {"host": platform.node(), "machine": " ".join(machine), "pid": pid, "started": _started(pid)}


def _state(pid: int) -> list[str]:
    """Returns what the kernel tells of a process of this machine, from its state on; nothing where it does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str:
    """Returns when a process of this machine started, in its kernel's ticks; '' where that is not told."""
    state = _state(pid)
    return state[19] if state else ""


def is_running(process: dict[str, Any]) -> bool:
    """Whether a process of this machine, as `this_process` described it there, is still at work."""
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It is another user's.
    ended = _state(process["pid"])[:1] == ["Z"]  # Its parent has not asked for its status yet.
    return not ended and _started(process["pid"]) == process["started"]


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file of this kind says; empty while it is being written, and when it is gone."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _age(path: pathlib.Path) -> float | None:
    """Returns the seconds since the lock was touched, by the clock of its file system; None if it is gone."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None

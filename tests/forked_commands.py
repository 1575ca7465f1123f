"""`Popen` and `run` of programs that start in forks of a process that has imported everything: a second each, not ten.

Each process of pytest has one of it. It computes nothing itself: what it forks finds JAX, scikit-learn and matplotlib
imported, and no backend, thread or lock of theirs.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tests import blank_pages


class Popen:
    """What `subprocess.Popen` of `[sys.executable, "-m", MODULE, …]` or `[sys.executable, "-c", PROGRAM, …]` is."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: str | os.PathLike[str] = ".",
        env: Mapping[str, str] | None = None,
        stdout: Any = None,
        stderr: Any = None,
    ):
        """Starts it; what it prints goes to open files, else to `communicate`."""
        assert command[0] == sys.executable and command[1] in ("-m", "-c")
        self.args, self.returncode = command, None
        self._printed = [tempfile.TemporaryFile() if given is None else given for given in (stdout, stderr)]
        self._texts: list[str] = []
        started = [list(map(os.fspath, command[1:])), os.path.abspath(cwd), dict(os.environ if env is None else env)]
        socket.send_fds(_server(), [json.dumps(started).encode() + b"\n"], [file.fileno() for file in self._printed])
        self.pid = _answer()

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            _server().sendall(json.dumps(self.pid).encode() + b"\n")
            self.returncode = _answer()
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Waits for the exit status, in seconds."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Waits, and returns what it has printed."""
        self.wait(timeout)
        for file in self._printed if not self._texts else ():
            file.seek(0)
            self._texts.append(file.read().decode())
            file.close()
        out, err = self._texts
        return out, err

    def send_signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)


def run(command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` with `capture_output` and `text` is."""
    process = Popen(command, **options)
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.wait(), out, err)


@functools.cache
def _server() -> socket.socket:
    """The connection to the process that forks, which ends with it."""
    ours, its = socket.socketpair()
    repository = str(pathlib.Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (repository, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, __file__, str(its.fileno())]
    process = subprocess.Popen(command, pass_fds=[its.fileno()], env={**os.environ, "PYTHONPATH": path})
    its.close()
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


def _answer() -> Any:
    line = b""
    while not line.endswith(b"\n"):
        received = _server().recv(1)
        assert received, "the process that forks has ended"
        line += received
    return json.loads(line)


def _serve(connection: socket.socket) -> list[str]:
    """Forks, and returns the command, in each fork; in the server itself, ends with the connection."""
    request = b""
    while True:
        received, files, _, _ = socket.recv_fds(connection, 1 << 20, 2)
        if not received:
            os._exit(0)
        request += received
        if files:
            passed = files
        if not request.endswith(b"\n"):
            continue
        asked, request = json.loads(request), b""
        if isinstance(asked, int):
            ended, status = os.waitpid(asked, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            connection.close()
            command, folder, environment = asked
            for number, file in enumerate(passed, 1):
                os.dup2(file, number)
                os.close(file)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            return command
        else:
            for file in passed:
                os.close(file)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _run(kind: str, program: str, *arguments: str) -> None:
    """Runs what `python -m MODULE …` and `python -c PROGRAM …` run; deprecated calls of ours are errors."""
    warnings.filterwarnings("error", category=DeprecationWarning, module=r"vision_jax\b")
    sys.argv[1:] = arguments
    blank_pages.use_if_asked()
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = "-c"
        exec(program, {"__name__": "__main__"})


if __name__ == "__main__":
    import matplotlib.figure  # noqa: F401
    import sklearn.datasets
    import sklearn.decomposition  # noqa: F401

    from vision_jax import evaluate, inference, train  # noqa: F401

    with contextlib.suppress(KeyboardInterrupt):
        gc.set_threshold(100_000, 50, 100)  # As in `conftest`.
        gc.collect()
        gc.freeze()  # Else each fork goes through all that is imported when it ends: more than a second.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        _run(*_serve(socket.socket(fileno=int(sys.argv[1]))))

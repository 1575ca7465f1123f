"""The processes of one run watch each other: when one is gone, the others say which one, and end.

Each touches a file of its own, `WORKDIR/processes/INDEX.json`, from a thread that goes on while XLA compiles, and reads
those of others: process 0 all, the others that of process 0, where it tells what it has found, and their neighbors'.
Gone is a process that has left word of its end, that is no more on this machine, or that has given no sign of life for
so many seconds of the reader's clock. A process that merely waits for the others never ends by itself: a collective
operation of NCCL waits without end.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from vision_jax import ending, run_lock

FOLDER = "processes"
APART = 5  # Times the patience with a process: how far apart they may start.
_LOST = r"gloo|nccl|rccl|unavailable|deadline_exceeded|aborted|barrier|heartbeat|connection (closed|reset|refused)"
_CONTINUE = "The same command, for all processes, continues from the last checkpoint."


def _looked_at(index: int, count: int) -> list[int]:
    """Returns whose files a process reads: so few that a thousand processes do not wear out the disk."""
    return [i for i in range(count) if i != index and (index == 0 or i == 0 or abs(i - index) == 1)]


@dataclasses.dataclass
class _Peer:
    """Another process, as its file shows it.

    Attributes:
        path: of the file.
        sign: what changed last in it; at first, what an earlier run may have left.
        at: when that was seen to change, in seconds.
        met: whether it has changed at all.
        known: who it is, once met.
        gone: what was found wrong the last time: status to end with and sentence.
    """

    path: pathlib.Path
    sign: object
    at: float
    met: bool = False
    known: dict[str, Any] = dataclasses.field(default_factory=dict)
    gone: tuple[int, str] | None = None


class _Watch:
    """The thread that beats and looks; see `watched`."""

    def __init__(self, folder: pathlib.Path, index: int, count: int, lost_after: float, apart: float):
        self.lost_after, self.apart, self.looked = lost_after, apart, time.monotonic()
        self.path = folder / f"{index}.json"
        self.content = {**run_lock.this_process(), "index": index, "token": uuid.uuid4().hex}
        self.reason = ""
        folder.mkdir(parents=True, exist_ok=True)
        self.others = [
            _Peer(path := folder / f"{i}.json", _sign(path)[1], self.looked) for i in _looked_at(index, count)
        ]
        self.path.write_text(json.dumps(self.content))
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="peers", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.over.wait(self.lost_after / 30):
            with contextlib.suppress(OSError):  # A disk that comes back; else the others take this process for gone.
                run_lock.touch(self.path, self.content["token"])
            if found := self._look():
                status, self.reason = found
                ending.leave(status, f"ERROR: {self.reason}")

    def _look(self) -> tuple[int, str] | None:
        """Returns how to end when a process was found gone twice in a row: those that fail alike tell it themselves."""
        now, before = time.monotonic(), self.looked
        self.looked = now
        for peer in self.others:
            if now - before > self.lost_after / 2:  # It was this one that stopped, or the disk.
                peer.at = now
            before_gone, peer.gone = peer.gone, self._gone(peer, now)
            if peer.gone and before_gone:
                return peer.gone
        return None

    def _gone(self, peer: _Peer, now: float) -> tuple[int, str] | None:
        content, sign = _sign(peer.path)
        if content and sign != peer.sign:
            if peer.met and content["token"] != peer.known["token"]:
                return 1, f"{_name(peer.known)} has ended: another was started in its place."
            peer.sign, peer.at, peer.met, peer.known = sign, now, True, content
        if not peer.met:
            if now - peer.at < self.apart:
                return None
            return 1, (
                f"Process {peer.path.stem} has written nothing to {peer.path.parent} for {now - peer.at:.0f} s. Start "
                "all processes of a run, with one --workdir on a disk that they share."
            )
        if "ended" in peer.known:
            status, reason = peer.known["ended"]
            return status, reason
        same_machine = peer.known["machine"] == self.content["machine"]
        if same_machine and not run_lock.is_running(peer.known):
            return 1, f"{_name(peer.known)} was killed or has crashed; its own output may say more. {_CONTINUE}"
        if now - peer.at > self.lost_after:
            return 1, f"{_name(peer.known)} has given no sign of life for {self.lost_after:g} s. {_CONTINUE}"
        return None

    def leave_word(self, status: object) -> None:
        """Tells the others that this process ends."""
        if status == ending.STOPPED:
            reason = f"{_name(self.content)} was stopped by a signal. {_CONTINUE}"
        else:
            status, reason = 1, f"{_name(self.content)} ended with an error, which its own output says."
        with contextlib.suppress(OSError):
            if run_lock.holds(self.path, self.content["token"]):
                self.path.write_text(json.dumps({**self.content, "ended": [status, self.reason or reason]}))

    def end(self) -> None:
        """Ends the watch, with nobody gone."""
        self.over.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink()
            self.path.parent.rmdir()  # The last one removes it.


@contextlib.contextmanager
def watched(workdir: pathlib.Path, index: int, count: int, lost_after: float) -> Iterator[None]:
    """Within the context the process ends, with status 1 and a sentence, when another of its run is gone.

    With status 75 when the other was stopped by a signal. An error that comes of a lost connection waits for the
    sentence.

    Args:
        workdir: the run's folder, which all processes share.
        index: of this process.
        count: of all; nothing is watched with one.
        lost_after: seconds without a sign of life after which a process counts as gone; they may start five times as
            far apart.

    Raises:
        OSError: the folder cannot be written to.
    """
    if count < 2:
        yield
        return
    watch = _Watch(workdir / FOLDER, index, count, lost_after, apart=APART * lost_after)
    with ending.before_leaving(watch.leave_word):
        try:
            yield
        except BaseException as error:
            if _is_lost_connection(error):
                watch.thread.join(1.2 * lost_after)
            watch.over.set()  # What it would find is the effect of this error.
            watch.leave_word(error.code if isinstance(error, SystemExit) else 1)
            raise
        watch.end()


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, speaks of the connection to other processes."""
    while error:
        if re.search(_LOST, str(error), re.IGNORECASE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _name(process: dict[str, Any]) -> str:
    return f"Process {process['index']} of the run (pid {process['pid']} on {process['host']})"


def _sign(path: pathlib.Path) -> tuple[dict[str, Any], object]:
    """Returns what a process's file says, {} while it is being written, and what changes with every sign of life."""
    content = run_lock.read(path)
    with contextlib.suppress(OSError):
        return content, (content, path.stat().st_mtime_ns)
    return {}, None

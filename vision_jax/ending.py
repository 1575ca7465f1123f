"""How the program ends: at once, with a status that says why, whatever other threads are at.

A signal has to be heard at any moment. Python runs its handlers between two instructions of its own, and XLA's compiler
keeps it waiting for minutes. So a thread reads the numbers of signals from a pipe, into which Python's C handler writes
them (`signal.set_wakeup_fd`), and ends the process; the loop asks to be told instead, and saves first.

An error ends it as quickly: Orbax's threads, which Python waits for, may be waiting for a disk or for a process that
is no more.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

STOPPED = 75  # Exit status after a signal: the same command continues (EX_TEMPFAIL of sysexits.h).
_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # A cluster's notice, and Ctrl-C.

_farewells: list[Callable[[int], None]] = []
_receivers: list[Callable[[], None]] = []
_watched = False


def leave(status: int, message: str = "") -> None:
    """Ends the process now, after what `before_leaving` registered; `message` goes to stderr."""
    for farewell in reversed(_farewells):
        farewell(status)
    with contextlib.suppress(OSError, ValueError):  # A pipe that nobody reads any more.
        if message:
            print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def before_leaving(farewell: Callable[[int], None]) -> Iterator[None]:
    """Within the context, `leave` calls `farewell` first, with the status."""
    _farewells.append(farewell)
    try:
        yield
    finally:
        _farewells.remove(farewell)


def watch_signals() -> None:
    """From here on SIGTERM and Ctrl-C end the process with status 75; to be called again after a library took them."""
    global _watched
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    if _watched:
        return
    _watched = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)
    threading.Thread(target=_receive, args=(reader,), name="signals", daemon=True).start()


def _forget() -> None:
    """Signals of a forked child are its own."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _receive(reader: int) -> None:
    while os.read(reader, 1)[0] in _SIGNALS:
        if not _receivers:
            leave(STOPPED, "Stopped by a signal.")
        _receivers.pop()()


@contextlib.contextmanager
def told(receiver: Callable[[], None]) -> Iterator[None]:
    """Within the context the first signal calls `receiver` and does nothing else; a second one acts as before.

    Where signals are not watched, as in a notebook, that holds for the main thread.
    """
    if _watched:
        _receivers.append(receiver)
        try:
            yield
        finally:
            _receivers.clear()
        return
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(*_: object) -> None:
        restore()
        receiver()

    for number in _SIGNALS:
        signal.signal(number, receive)
    try:
        yield
    finally:
        restore()

"""One file from the internet: resumed, checked, and put in its place only when it is whole.

What has arrived of `FILE` lies in `FILE.partial`, where the next call goes on (HTTP Range). The checksum is computed
before the file gets its name, so that nobody ever opens a wrong one. Processes that want the same file at the same
time wait for the first.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

_ANSWER_SECONDS = 8.0  # to look up the name, connect, follow redirects and get the first line of the answer
_CHUNK_BYTES = 1 << 18
_MAX_BYTES = 4 << 30  # of a file whose size nobody knows
_TRIES = 5


class DownloadError(OSError):
    """A file that could not be fetched; the message has URL, reason, file name and folder."""


class _Broken(Exception):
    """The connection ended early, for this reason; what has arrived is kept."""


def fetch(
    url: str,
    path: str | os.PathLike,
    *,
    sha256: str | None = None,
    size: int | None = None,
    max_bytes: int = _MAX_BYTES,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Downloads `url` to `path`, unless it is there.

    Args:
        url: http or https.
        path: where the file shall lie; its folder is made.
        sha256: checksum in hexadecimal, or its first digits (8 at least). Without one, nothing is checked, a file that
            is there is taken as it is, and a download that was cut short starts over.
        size: expected size in bytes.
        max_bytes: bound on the size where it is not known exactly; an answer that goes on beyond it is given up.
        progress: show a progress bar.
        timeout: seconds without a byte after which a connection counts as stalled. The first byte has to come within
            8 seconds, so that a machine without network is told at once.

    Returns:
        `path`.

    Raises:
        DownloadError: no connection, no such file, a stalled or cut connection, a wrong size or checksum, a redirection
            to something unprotected, or a disk that does not take the file.
    """
    path = Path(path)
    wanted = _Wanted(url, path, sha256.lower() if sha256 else None, size, max_bytes if size is None else size)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise wanted.error("only http and https are fetched")
    try:
        if not wanted.in_place():
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(wanted, progress, timeout)
    except DownloadError:
        raise
    except OSError as error:
        raise wanted.error(f"the disk does not take it ({error})") from error
    return path


def _fetch(wanted: "_Wanted", progress: bool, timeout: float) -> None:
    with _locked(wanted.path.with_name(wanted.path.name + ".partial")) as partial:
        if not wanted.in_place():  # another process may have been first
            if wanted.sha256 is None:
                partial.truncate(0)
            _fill(partial, wanted, progress, timeout)
            os.replace(partial.name, wanted.path)


class _Wanted:
    def __init__(self, url: str, path: Path, sha256: str | None, size: int | None, max_bytes: int):
        if sha256 is not None and len(sha256) < 8:
            raise ValueError(f"sha256={sha256!r} is too short to check anything; give at least 8 digits")
        self.url, self.path, self.sha256, self.size, self.max_bytes = url, path, sha256, size, max_bytes

    def error(self, reason: str) -> DownloadError:
        facts = [f"sha256 {self.sha256}…"] if self.sha256 and len(self.sha256) < 64 else []
        facts += [f"sha256 {self.sha256}"] if self.sha256 and not facts else []
        facts += [f"{self.size:,} bytes"] if self.size is not None else []
        return DownloadError(
            f"Could not fetch {self.url}: {reason}. To do without the network, put the file {self.path.name}"
            f"{' (' + ', '.join(facts) + ')' if facts else ''} into the folder {self.path.parent} and run the same "
            "command again."
        )

    def in_place(self) -> bool:
        if not self.path.exists():
            return False
        if problem := self.problem(self.path):
            raise self.error(f"{self.path} is there already, but {problem}; delete it to fetch it again")
        return True

    def problem(self, path: Path) -> str | None:
        """Returns what is wrong with a complete file, or None."""
        found = path.stat().st_size
        if self.size is not None and found != self.size:
            return f"it has {found:,} bytes where {self.size:,} were expected"
        if self.sha256 is not None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not digest.startswith(self.sha256):
                return f"its sha256 is {digest} where {self.sha256} was expected"
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for appending, alone; removed at the end if nothing stands in it."""
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        # While this process waited, the one before may have renamed or removed the file.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    with file:
        try:
            yield file
        finally:
            if os.fstat(file.fileno()).st_size == 0:
                path.unlink(missing_ok=True)


def _fill(partial: BinaryIO, wanted: _Wanted, progress: bool, timeout: float) -> None:
    """Downloads into `partial` until it is whole and right."""
    name = Path(partial.name)
    resumed, problem = partial.tell() > 0, None
    for attempt in range(_TRIES):
        before = partial.seek(0, os.SEEK_END)
        try:
            _transfer(partial, wanted, progress, timeout)
        except _Broken as broken:
            if partial.tell() == before or attempt == _TRIES - 1:
                kept = f" ({partial.tell():,} bytes are kept for the next try)" if partial.tell() else ""
                raise wanted.error(f"{broken}{kept}") from None
            continue
        problem = wanted.problem(name)
        if problem is None:
            return
        partial.truncate(0)
        if not resumed:
            raise wanted.error(f"the file that came is not the right one: {problem}")
        resumed = False  # the bytes of an earlier call may have been another version's
    raise wanted.error(f"the file that came is not the right one: {problem}")


def _transfer(partial: BinaryIO, wanted: _Wanted, progress: bool, timeout: float) -> None:
    """Appends what is missing; raises `_Broken` when the connection ends before the file does."""
    start = partial.seek(0, os.SEEK_END)
    response = _open(wanted, start, timeout)
    with response:
        if start and not (response.status == 206 and _range_start(response) == start):
            start = 0  # the server sends everything again
            partial.truncate(0)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if total is not None and (total > wanted.max_bytes or wanted.size not in (None, total)):
            bound = f" where at most {wanted.max_bytes:,} were expected" if wanted.size is None else ""
            raise wanted.error(f"the server has {total:,} bytes{bound}")
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=wanted.path.name, disable=not progress)
        with bar:
            while True:
                try:
                    chunk = response.read1(_CHUNK_BYTES)
                except TimeoutError:
                    partial.flush()
                    raise _Broken(f"the connection stalled; no byte came for {timeout:g} seconds") from None
                except (OSError, http.client.HTTPException) as error:
                    partial.flush()
                    raise _Broken(f"the connection broke ({error or type(error).__name__})") from None
                if not chunk:
                    break
                partial.write(chunk)
                bar.update(len(chunk))
                if partial.tell() > wanted.max_bytes:
                    partial.truncate(0)
                    raise wanted.error(f"the server sends more than {wanted.max_bytes:,} bytes")
        partial.flush()
        if total is not None and partial.tell() < total:
            raise _Broken(f"the connection was cut after {partial.tell():,} of {total:,} bytes")


def _range_start(response: http.client.HTTPResponse) -> int | None:
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _is_own_machine(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone, and within this machine."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https:") and not (_is_own_machine(req.full_url) and _is_own_machine(newurl)):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(wanted: _Wanted, start: int, timeout: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "vision_jax", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    answer: http.client.HTTPResponse | Exception

    def ask() -> None:
        try:
            answers.put(urllib.request.build_opener(_OnlyWeb).open(request, timeout=timeout))
        except Exception as error:
            answers.put(error)

    # A thread, because looking up a name has no time limit and can hang for long on a machine without network.
    threading.Thread(target=ask, daemon=True).start()
    seconds = min(_ANSWER_SECONDS, timeout)
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, TimeoutError):  # of the queue or of the connection, whichever came first
        raise wanted.error(f"no answer within {seconds:g} seconds; is there a network?")
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        if answer.code == 416 and start:  # nothing after `start`: what is here is another file's beginning
            return _open(wanted, 0, timeout)
        raise wanted.error(f"the server answers {answer.code} {answer.reason}")
    if isinstance(answer, urllib.error.URLError):
        raise wanted.error(f"no connection ({answer.reason})")
    if isinstance(answer, Exception):
        raise wanted.error(f"no connection ({answer or type(answer).__name__})")
    return answer

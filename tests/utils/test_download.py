"""The downloader against a server on this machine that truncates, corrupts, redirects, stalls and resumes."""

import hashlib
import http.server
import os
import socket
import threading
import time

import pytest

from vision_jax.utils import download
from vision_jax.utils.download import DownloadError, fetch

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `behaviors` holds what to do with the next requests, in order (default 'good')."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviors: list[str] = []
        self.ranges: list[str | None] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/weights.pth"

    def handle_error(self, request, client_address):
        """Clients that hang up are what this is about."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        behavior = server.behaviors.pop(0) if server.behaviors else "good"
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        body = CONTENT[start:]
        if behavior == "missing":
            return self.send_error(404)
        if behavior == "redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            return self.end_headers()
        if behavior == "redirect to a file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            return self.end_headers()
        if behavior == "redirect forever":
            server.behaviors.append(behavior)
            self.send_response(302)
            self.send_header("Location", f"/{len(server.ranges)}")
            return self.end_headers()
        if behavior == "silent":
            server.released.wait(20)
            return None
        if behavior == "no ranges":
            start, body = 0, CONTENT
        if behavior == "corrupt":
            body = body[:-1] + b"!"
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if behavior != "no length":
            self.send_header("Content-Length", str(len(body) + (behavior == "endless")))
        self.end_headers()
        if behavior in ("truncate", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if behavior == "stall":
                server.released.wait(20)
        else:
            self.wfile.write(body + b"?" * (behavior == "endless"))
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "weights.pth"


def get(server, path, **options):
    return fetch(server.url, path, **{"sha256": SHA256, "progress": False, "timeout": 5, **options})


def assert_fetched(path):
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256[:8].upper(), None])
def test_a_file_is_fetched_once(server, path, sha256):
    assert get(server, path, sha256=sha256, size=len(CONTENT)) == path
    assert_fetched(path)
    get(server, path, sha256=sha256)
    assert len(server.ranges) == 1


def test_progress_is_shown(server, path, capsys):
    get(server, path, progress=True)
    assert "weights.pth: 100%" in capsys.readouterr().err


def test_without_a_length(server, path):
    server.behaviors = ["no length"]
    get(server, path)
    assert_fetched(path)


@pytest.mark.parametrize("resumed_by", ["good", "no ranges"])
def test_a_cut_connection_is_resumed(server, path, resumed_by):
    server.behaviors = ["truncate", resumed_by]
    get(server, path)
    assert_fetched(path)
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_what_an_earlier_call_fetched_is_kept(server, path):
    server.behaviors = ["truncate", "missing"]
    with pytest.raises(DownloadError, match="404"):
        get(server, path)
    assert not path.exists()
    get(server, path)
    assert_fetched(path)
    assert server.ranges[-1] == f"bytes={len(CONTENT) // 2}-"


def test_a_partial_file_of_something_else_is_fetched_anew(server, path):
    path.parent.mkdir()
    for other in (b"something else", CONTENT + b"too long", b"x" * len(CONTENT)):
        path.with_name("weights.pth.partial").write_bytes(other)
        get(server, path)
        assert_fetched(path)
        path.unlink()


def test_without_checksum_nothing_is_resumed(server, path):
    path.parent.mkdir()
    path.with_name("weights.pth.partial").write_bytes(b"something else")
    get(server, path, sha256=None)
    assert_fetched(path)


def test_a_connection_that_is_always_cut_is_an_error(server, path):
    server.behaviors = ["truncate"] * 20
    with pytest.raises(DownloadError, match=r"was cut after .* are kept for the next try"):
        get(server, path)
    assert not path.exists()
    assert len(server.ranges) == 5


@pytest.mark.parametrize("started", [False, True])
def test_a_corrupt_file_never_gets_its_name(server, path, started):
    server.behaviors = ["corrupt"] * 2
    if started:
        path.parent.mkdir()
        path.with_name("weights.pth.partial").write_bytes(CONTENT[:100])
    with pytest.raises(DownloadError, match=rf"not the right one: its sha256 is .* where {SHA256} was expected"):
        get(server, path)
    assert not path.exists()
    assert len(server.ranges) == 1 + started
    server.behaviors.clear()
    get(server, path)
    assert_fetched(path)


def test_a_wrong_file_that_is_there_is_not_used(server, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"is there already, but its sha256 is .* delete it to fetch it again"):
        get(server, path)
    assert path.read_bytes() == b"mine"
    assert not server.ranges


@pytest.mark.parametrize(("behavior", "size"), [("good", 5), ("endless", len(CONTENT)), ("no length", 5)])
def test_a_file_of_another_size_is_refused(server, path, behavior, size):
    server.behaviors = [behavior]
    with pytest.raises(DownloadError, match=r"the server (has|sends)"):
        get(server, path, size=size)
    assert not path.exists()


def test_redirects_are_followed_within_reason(server, path):
    server.behaviors = ["redirect"]
    get(server, path)
    assert_fetched(path)
    for bad in ("redirect to a file", "redirect forever"):
        server.behaviors = [bad]
        with pytest.raises(DownloadError, match=r"redirect|302"):
            get(server, path.with_name(bad))


def test_https_is_not_left_for_http():
    request = download.urllib.request.Request("https://example.org/a")
    with pytest.raises(download.urllib.error.URLError, match="not https"):
        download._OnlyWeb().redirect_request(request, None, 302, "", {}, "http://example.org/a")


@pytest.mark.parametrize("behavior", ["stall", "silent"])
def test_a_stalled_connection_is_given_up(server, path, behavior):
    server.behaviors = [behavior] * 9
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"stalled; no byte came for 0.2 seconds|no answer within 0.2 seconds"):
        get(server, path, timeout=0.2)
    assert time.monotonic() - started < 10
    server.behaviors.clear()
    get(server, path)
    assert_fetched(path)


def test_the_error_says_what_to_do_without_network(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pth"
        with pytest.raises(DownloadError) as caught:
            fetch(url, path, sha256="0123456789", size=10)
    message = str(caught.value)
    for part in (url, "refused", "weights.pth", "sha256 0123456789", "10 bytes", str(path.parent)):
        assert part in message
    assert os.listdir(path.parent) == []


def test_a_name_lookup_that_hangs_is_not_waited_for(path, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: hang.wait(30) and [])
    monkeypatch.setattr(download, "_ANSWER_SECONDS", 0.2)
    with pytest.raises(DownloadError, match=r"no answer within 0.2 seconds; is there a network"):
        fetch("http://weights.invalid/w.pth", path)
    hang.set()


def test_only_the_web_is_fetched(path):
    for url in ("file:///etc/passwd", "ftp://example.org/a"):
        with pytest.raises(DownloadError, match="only http and https"):
            fetch(url, path)
    with pytest.raises(ValueError, match="too short"):
        fetch("http://127.0.0.1/a", path, sha256="12")


def test_two_at_once_fetch_once(server, path):
    threads = [threading.Thread(target=get, args=(server, path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_fetched(path)
    assert len(server.ranges) == 1

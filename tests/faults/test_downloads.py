"""Answers without end, full disks and redirections to something unprotected."""

import errno
import http.server
import os
import threading
import urllib.error
import urllib.request

import pytest

from vision_jax.utils import download
from vision_jax.utils.download import DownloadError, fetch


class Endless(http.server.BaseHTTPRequestHandler):
    """Sends bytes until the client hangs up; says nothing of a length, or a wrong one."""

    def do_GET(self):
        self.send_response(200)
        if self.path == "/long":
            self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("bound", [{"size": 100_000}, {"max_bytes": 100_000}, {}])
@pytest.mark.parametrize("sha256", ["12345678", None])
def test_an_endless_answer_is_given_up(address, tmp_path, monkeypatch, bound, sha256):
    monkeypatch.setitem(fetch.__kwdefaults__, "max_bytes", 1 << 20)
    most = next(iter(bound.values()), 1 << 20)
    with pytest.raises(DownloadError, match=f"the server sends more than {most:,} bytes"):
        fetch(f"{address}/endless", tmp_path / "file", sha256=sha256, progress=False, **bound)
    assert os.listdir(tmp_path) == []


def test_an_answer_that_announces_too_much_is_not_read(address, tmp_path):
    with pytest.raises(DownloadError, match="the server has 1,099,511,627,776 bytes where at most 1,000 were expected"):
        fetch(f"{address}/long", tmp_path / "file", sha256="12345678", max_bytes=1000, progress=False)
    assert os.listdir(tmp_path) == []


class FullDisk:
    """A file on a disk without room for another byte."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, chunk):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk(address, tmp_path, monkeypatch):
    fill = download._fill
    monkeypatch.setattr(download, "_fill", lambda partial, *rest: fill(FullDisk(partial), *rest))
    with pytest.raises(
        DownloadError, match=r"/endless: the disk does not take it .*No space left on device.* put the file"
    ):
        fetch(f"{address}/endless", tmp_path / "file", sha256="12345678", progress=False)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match="the disk does not take it"):
        fetch("http://127.0.0.1:9/a", tmp_path / "file" / "a", sha256="12345678")


@pytest.mark.parametrize(
    ("origin", "target", "allowed"),
    [
        ("https://example.org/a", "https://example.com/a", True),
        ("http://example.org/a", "https://example.com/a", True),
        ("http://127.0.0.1:80/a", "http://127.0.0.1:81/a", True),
        ("https://example.org/a", "http://example.org/a", False),
        ("http://example.org/a", "http://example.org/b", False),
        ("https://example.org/a", "http://127.0.0.1/a", False),
        ("http://example.org/a", "http://localhost/a", False),
        ("http://127.0.0.1/a", "http://127.0.0.1.example.org/a", False),
        ("http://127.0.0.1/a", "file:///etc/passwd", False),
    ],
)
def test_where_a_redirection_may_lead(origin, target, allowed):
    follow = download._OnlyWeb().redirect_request
    request = urllib.request.Request(origin)
    if allowed:
        assert follow(request, None, 302, "", {}, target).full_url == target
    else:
        with pytest.raises(urllib.error.URLError, match="not https"):
            follow(request, None, 302, "", {}, target)

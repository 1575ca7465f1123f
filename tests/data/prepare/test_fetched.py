"""Data sets fetched from their publishers: here a server on this machine, well-behaved and not."""

import dataclasses
import hashlib
import http.server
import threading

import numpy as np
import pytest

from tests.data.prepare import publishers_files
from tests.data.prepare.test_prepared import check_arrays, random_splits
from vision_jax import config as config_lib
from vision_jax import run
from vision_jax.data import prepare
from vision_jax.data.prepare import manifest, originals
from vision_jax.utils import download
from vision_jax.utils.download import DownloadError


class Publisher(http.server.ThreadingHTTPServer):
    """Serves `files` by name; `behaviors` says what to do with the next requests, in order."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.behaviors: list[str] = []
        self.asked: list[str] = []
        self.released = threading.Event()

    def handle_error(self, request, client_address):
        """Clients that hang up are what this is about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        name = self.path.rpartition("/")[2]
        server.asked.append(name)
        behavior = server.behaviors.pop(0) if server.behaviors else "good"
        content = server.files[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if behavior == "redirected":
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{name}")
            return self.end_headers()
        body = content[start:]
        if behavior == "corrupted":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behavior in ("truncated", "stalled"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if behavior == "stalled":
                server.released.wait(20)
        else:
            self.wfile.write(body)
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A publisher of a small MNIST, which the manifest names, and its splits."""
    monkeypatch.setenv("no_proxy", "*")
    server = Publisher()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    splits = random_splits({"train": 40, "test": 10}, (28, 28), 10)
    publishers_files.write_mnist(tmp_path / "made", splits)
    server.files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    entry = manifest.entries()["mnist"]
    files = {
        name: dataclasses.replace(
            file,
            url=f"http://127.0.0.1:{server.server_port}/{name}",
            bytes=len(server.files[name]),
            checksums=({"sha256": hashlib.sha256(server.files[name]).hexdigest(), "origin": "the test"},),
            content={},
        )
        for name, file in entry.files.items()
    }
    entry = dataclasses.replace(entry, files=files, examples={"train": 40, "test": 10})
    monkeypatch.setattr(manifest, "entries", lambda: {"mnist": entry})
    yield server, splits
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("behavior", ["good", "truncated", "redirected"])
def test_a_set_is_fetched_checked_and_prepared(behavior, publisher, tmp_path):
    server, splits = publisher
    server.behaviors = [behavior]
    said = []
    prepare.prepare("mnist", tmp_path / "data", say=said.append)
    dataset = prepare.open_prepared("mnist", tmp_path / "data")
    check_arrays(dataset, splits)
    assert "verified by sha256" in dataset.provenance["prepared_from"]
    assert any("may be deleted" in line for line in said)
    asked = len(server.asked)
    prepare.prepare("mnist", tmp_path / "data", say=said.append)
    assert "prepared already" in said[-1] and len(server.asked) == asked


def test_what_came_wrong_or_not_at_all_prepares_nothing_and_is_resumed(publisher, tmp_path, monkeypatch):
    server, splits = publisher
    server.behaviors = ["good", "corrupted"]
    with pytest.raises(DownloadError, match="not the right one: its sha256"):
        prepare.prepare("mnist", tmp_path / "data", say=print)
    assert not (tmp_path / "data/mnist").exists() and not list((tmp_path / "data").glob("*.partial"))
    server.asked.clear()
    monkeypatch.setattr(download.fetch, "__kwdefaults__", {**download.fetch.__kwdefaults__, "timeout": 0.3})
    server.behaviors = ["stalled"] * 9
    with pytest.raises(DownloadError, match="stalled"):
        prepare.prepare("mnist", tmp_path / "data", say=print)
    server.behaviors.clear()
    prepare.prepare("mnist", tmp_path / "data", say=print)
    check_arrays(prepare.open_prepared("mnist", tmp_path / "data"), splits)
    assert server.asked.count(next(iter(server.files))) <= 3
    assert next(iter(manifest.entries()["mnist"].files)) not in server.asked  # It had come whole.


def test_a_run_prepares_its_data(publisher, tmp_path):
    config = config_lib.default()
    config.data.name, config.data.data_dir, config.train.steps = "mnist", str(tmp_path / "data"), 1
    with pytest.raises(prepare.NotPreparedError, match=r"vision-jax prepare mnist --data_dir (.|\n)*--prepare"):
        run.build(config, tmp_path / "run")
    run.prepare_data(config)
    with run.build(config, tmp_path / "run") as built:
        assert built.dataset.name == "mnist" and len(built.dataset.splits["test"]) == 10
    config.data.name = "digits"
    run.prepare_data(config)  # Which needs none.


def test_every_named_set_can_be_fetched():
    for entry in manifest.entries().values():
        wanted = originals.to_fetch(entry)
        assert wanted and all(file.bytes for file in wanted)
        assert len(wanted) == (1 if entry.any_file_suffices else len(entry.files))


def test_a_way_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match="one of publisher, tfds"):
        prepare.prepare("mnist", tmp_path, through="torrent")
    assert np.all([not path.name.startswith("mnist") for path in tmp_path.iterdir()])

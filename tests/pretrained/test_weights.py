"""The manifest agrees with its sources; weights by name and by path come with what is known about them."""

import dataclasses
import hashlib
import http.server
import json
import re
import threading

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests.torchvision_import import import_torchvision
from vision_jax import models
from vision_jax.pretrained import port, torch_file, torch_writer, weights
from vision_jax.pretrained.torch_file import TorchFileError
from vision_jax.pretrained.weights import Preprocessing, Record
from vision_jax.utils import download, files
from vision_jax.utils.download import DownloadError


def random_variables(name, seed=0, **options):
    shapes = models.shapes(models.build(name, **options), models.entry(name).input_shape)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes)


def assert_same(found, expected):
    found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path / "home"))
    return files.cache_dir("weights")


# The manifest.


@pytest.mark.parametrize("key", weights.manifest())
def test_rows_are_consistent(key):
    row = weights.manifest()[key]
    entry = models.entry(row.model)
    assert row.parameters == entry.parameters
    assert row.url.startswith("https://")
    assert row.url.endswith("/" + row.file)
    assert re.search(rf"-{row.sha256[:8]}\.(pth?|th)$", row.file)
    assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", row.sha256)
    assert row.preprocessing.crop == entry.input_shape[0]
    assert weights.published(row.model, row.weights) is row
    if not row.weights.endswith("_v2"):
        assert entry.weights == key
        assert entry.top1 == row.top1


def test_every_network_with_weights_has_a_row():
    for name, entry in models.MODELS.items():
        assert (entry.weights is None) == (weights.published(name) is None)


def test_class_names():
    imagenet, cifar10 = weights.class_names("imagenet_classes.txt"), weights.class_names("cifar10_classes.txt")
    assert len(imagenet) == 1000
    assert (imagenet[0], imagenet[999]) == ("tench", "toilet tissue")
    assert cifar10[3] == "cat"
    assert len(cifar10) == 10


def test_the_manifest_agrees_with_torchvision():
    pytest.importorskip("torch")
    torchvision = import_torchvision()
    rows = [row for row in weights.manifest().values() if row.source.startswith("torchvision")]
    seen = set()
    for row in rows:
        kind = row.source.split(", ")[1]
        theirs = torchvision.models.get_model_weights(row.model)[kind]
        seen.add((row.model, kind))
        transform = theirs.transforms()
        assert row.url == theirs.url
        assert row.mebibytes == theirs.meta["_file_size"]
        assert row.parameters == theirs.meta["num_params"]
        assert row.top1 == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert [row.preprocessing.resize] == transform.resize_size
        assert [row.preprocessing.crop] == transform.crop_size
        assert row.preprocessing.interpolation == transform.interpolation.value
        assert weights.class_names(row.classes) == tuple(theirs.meta["categories"])
        shifted = row.model in ("googlenet", "inception_v3")  # torchvision sets transform_input with these weights
        assert row.preprocessing.mean == ((0.5,) * 3 if shifted else tuple(transform.mean))
        assert row.preprocessing.std == ((0.5,) * 3 if shifted else tuple(transform.std))
    for row in rows:
        kinds = {kind.name for kind in torchvision.models.get_model_weights(row.model)}
        assert {(row.model, kind) for kind in kinds if kind.startswith("IMAGENET1K_V")} <= seen


# By name.


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves random ResNet-20 weights as if they were the published ones; yields (variables, answers so far)."""
    variables = random_variables("resnet20")
    torch_writer.write_pth(tmp_path / "file.th", port.to_state_dict("resnet20", variables))
    content = (tmp_path / "file.th").read_bytes()
    answers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            damaged = self.path.startswith("/damaged")
            answers.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:-1] + b"?" if damaged else content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    row = dataclasses.replace(
        weights.manifest()["resnet20_cifar10"],
        url=f"http://127.0.0.1:{server.server_port}/resnet20.th",
        file="resnet20.th",
        sha256=hashlib.sha256(content).hexdigest()[:8],
        mebibytes=None,
    )
    rows = {"resnet20_cifar10": row}
    monkeypatch.setattr(weights, "manifest", lambda: rows)
    yield variables, answers, rows
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_once_and_converted_once(server, own_cache, monkeypatch):
    variables, answers, _ = server
    found, record = weights.load("resnet20", "cifar10", progress=False)
    assert_same(found, variables)
    assert record.preprocessing == Preprocessing(32, 32, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert record.class_names[3] == "cat"
    assert record.license == "BSD-2-Clause"
    assert len(record.sha256) == 64
    monkeypatch.setattr(torch_file, "state_dict", lambda path: pytest.fail("converted again"))
    again, record_again = weights.load("resnet20", "cifar10")
    assert_same(again, variables)
    assert record_again == record
    assert answers == ["/resnet20.th"]


def test_a_damaged_conversion_is_made_again(server, own_cache):
    weights.load("resnet20", "cifar10", progress=False)
    (kept,) = (own_cache / "converted").iterdir()
    kept.write_bytes(kept.read_bytes()[:-10])
    assert_same(weights.load("resnet20", "cifar10")[0], server[0])


def test_a_cache_that_cannot_be_written_is_no_obstacle(server, own_cache):
    own_cache.mkdir(parents=True)
    (own_cache / "converted").write_text("a file where the folder should be")
    assert_same(weights.load("resnet20", "cifar10", progress=False)[0], server[0])


def test_a_file_with_another_checksum_is_never_used(server, own_cache):
    _, _, rows = server
    row = rows["resnet20_cifar10"]
    rows["resnet20_cifar10"] = dataclasses.replace(row, url=row.url.replace("/resnet20", "/damaged"))
    with pytest.raises(DownloadError, match=f"sha256 is .* where {row.sha256} was expected"):
        weights.load("resnet20", "cifar10", progress=False)
    assert not (own_cache / "resnet20.th").exists()
    (own_cache / "resnet20.th").write_bytes(b"put here by hand, but wrong")
    with pytest.raises(DownloadError, match="delete it to fetch it again"):
        weights.load("resnet20", "cifar10", progress=False)


def test_without_network_the_error_says_where_the_file_goes(own_cache, monkeypatch):
    monkeypatch.setattr(download, "_ANSWER_SECONDS", 5)
    with pytest.raises(DownloadError) as caught:
        weights.load("resnet18", progress=False)
    for part in ("https://download.pytorch.org/models/resnet18-f37072fd.pth", "resnet18-f37072fd.pth", str(own_cache)):
        assert part in str(caught.value)


def test_a_file_put_into_the_cache_by_hand_is_used(server, own_cache, tmp_path):
    variables, answers, _ = server
    own_cache.mkdir(parents=True)
    (own_cache / "resnet20.th").write_bytes((tmp_path / "file.th").read_bytes())
    assert_same(weights.load("resnet20", "cifar10")[0], variables)
    assert answers == []


def test_wrong_names():
    with pytest.raises(ValueError, match=r"'imagnet'; did you mean 'imagenet'\?.* are imagenet, imagenet_v2"):
        weights.load("resnet50", "imagnet")
    with pytest.raises(ValueError, match=r"resnet20 has no weights 'imagenet'.* its published weights are cifar10"):
        weights.load("resnet20", "imagenet")
    with pytest.raises(ValueError, match="none are published for it"):
        weights.load("srcnn", "imagenet")
    with pytest.raises(ValueError, match="no file of that name"):
        weights.load("resnet20", "/nowhere/weights.pth")
    with pytest.raises(ValueError, match="no network is called 'resnet19'"):
        weights.load("resnet19")


# By path.


@pytest.mark.parametrize("ending", ["pth", "safetensors", "npz"])
def test_files_under_pytorch_names(tmp_path, own_cache, ending):
    variables = random_variables("resnet20", num_classes=7)
    state = port.to_state_dict("resnet20", variables)
    path = tmp_path / f"w.{ending}"
    write = {
        "pth": torch_writer.write_pth,
        "safetensors": torch_writer.write_safetensors,
        "npz": lambda path, state: np.savez(path, **state),
    }
    write[ending](path, state)
    found, record = weights.load("resnet20", path)
    assert_same(found, variables)
    assert record == Record("resnet20", str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_published_files_are_recognized_wherever_they_lie(test_data, own_cache):
    variables, record = weights.load("resnet20", test_data / "weights" / "resnet20-12fca82f.th")
    assert models.parameter_count(variables) == 269_722
    assert record.sha256.startswith("12fca82f")
    assert record.class_names[0] == "airplane"
    assert record.preprocessing.crop == 32
    assert record.top1 == 91.73


@pytest.mark.parametrize("kept", [False, True])
def test_folded_statistics_are_noted_whether_they_are_left_out_or_neutral(kept, tmp_path, own_cache):
    state = port.to_state_dict("resnet20", random_variables("resnet20"))
    folded = {
        name: np.full_like(value, name.endswith("var")) if "running_" in name else value
        for name, value in state.items()
        if kept or "running_" not in name
    }
    torch_writer.write_pth(tmp_path / "own.pth", state)
    torch_writer.write_pth(tmp_path / "folded.pth", folded)
    assert not weights.load("resnet20", tmp_path / "own.pth")[1].note
    for _ in range(2):  # converted, then from the cache
        assert "folded into its weight" in weights.load("resnet20", tmp_path / "folded.pth")[1].note


def test_files_of_this_project(tmp_path, own_cache):
    variables = random_variables("cnn", num_classes=3, channels=(4, 5))
    preprocessing = Preprocessing(40, 32, "bicubic", (0.5, 0.4, 0.3), (1.0, 2.0, 3.0))
    record = Record(
        "cnn",
        "a run",
        "ab" * 32,
        options={"channels": [4, 5]},
        input_shape=(32, 32, 3),
        class_names=("a", "b", "c"),
        preprocessing=preprocessing,
        top1=None,
    )
    path = tmp_path / "own.safetensors"
    weights.save(path, variables, record)
    found, read = weights.load("cnn", path)
    assert_same(found, variables)
    assert read == record
    older = dataclasses.asdict(record) | {"licence": "MIT"}  # the key's name in version 0.1
    del older["license"]
    flat = {name: np.asarray(x) for name, x in traverse_util.flatten_dict(variables, sep="/").items()}
    torch_writer.write_safetensors(path, flat, {"vision_jax": json.dumps(older)})
    assert weights.load("cnn", path)[1] == dataclasses.replace(record, license="MIT")
    with pytest.raises(TorchFileError, match="holds weights of cnn, not of mlp"):
        weights.load("mlp", path)
    weights.save(path, variables, dataclasses.replace(record, options={"channels": [4, 6]}))
    with pytest.raises(TorchFileError, match=r"does not fit cnn:\n  other shape or type: params/"):
        weights.load("cnn", path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"model": "cnn"}', '{"class_names": null, "preprocessing": {"mean": 1}, "input_shape": null}'],
)
def test_a_damaged_record_is_refused(tmp_path, text):
    path = tmp_path / "own.safetensors"
    torch_writer.write_safetensors(path, {"a": np.zeros(1)}, {"vision_jax": text})
    with pytest.raises(TorchFileError, match="record is damaged"):
        weights.load("cnn", path)


def test_weights_of_another_network_are_refused_with_all_problems(tmp_path, own_cache):
    path = tmp_path / "w.pth"
    torch_writer.write_pth(path, port.to_state_dict("resnet20", random_variables("resnet20")))
    with pytest.raises(port.PortError, match=r"w\.pth: these weights do not fit resnet32"):
        weights.load("resnet32", path)


def test_preprocessing_is_checked():
    good = {"resize": 256, "crop": 224, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [1] * 3}
    assert Preprocessing.of(good).std == (1.0, 1.0, 1.0)
    assert Preprocessing.of({**good, "mean": [0.4] * 3, "transform_input": True}).std == (0.5, 0.5, 0.5)
    for change in ({"std": [0, 1, 1]}, {"crop": 300}, {"mean": [float("nan")] * 3}, {"mean": 1}, {"color": "bgr"}):
        with pytest.raises(ValueError, match="the preprocessing"):
            Preprocessing.of(good | change)
    assert json.dumps(dataclasses.asdict(Preprocessing.of(good)))

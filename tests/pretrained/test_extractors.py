"""Extractors: what images go through, what comes out, and that neither batches, sizes nor devices change it."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from PIL import Image

from vision_jax import models, parallel
from vision_jax.models.inception import InceptionV3
from vision_jax.pretrained import extractors, port, torch_writer, weights
from vision_jax.pretrained.weights import Preprocessing
from vision_jax.utils import download, trees

PREPROCESSING = Preprocessing(16, 12, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def random_variables(model, shape):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.3, leaf.shape).astype(np.float32), models.shapes(model, shape))


@pytest.fixture(scope="module")
def small():
    model = models.build("cnn", num_classes=5, channels=(4, 6), global_pool=True)
    return extractors.of_classifier("cnn", model, random_variables(model, (12, 12, 3)), PREPROCESSING, 3)


def pictures(count=23, height=20, width=15):
    return list(np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_a_classifier_s_features_are_those_before_its_head(small):
    assert (small.prefix, small.dimension, small.stage, small.model_name) == ("fd_cnn", 6, "features", "cnn")
    assert small.weights == trees.fingerprint(small.variables)
    x = np.stack(pictures(3))
    planes = [Image.fromarray(image[..., c].astype(np.float32)) for image in x for c in range(3)]
    resized = [np.asarray(plane.resize((12, 12), Image.Resampling.BICUBIC)).clip(0, 255) for plane in planes]
    seen = np.stack(resized).reshape(3, 3, 12, 12).transpose(0, 2, 3, 1) / 255.0
    seen = ((seen - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)).astype(np.float32)
    np.testing.assert_allclose(small.view(x), seen, atol=1e-4)
    found = jax.jit(small.apply)(small.variables, x)
    logits, kept = small.model.apply(small.variables, seen, train=False, mutable=["intermediates"])
    np.testing.assert_allclose(found["features"], kept["intermediates"]["features"][0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-3, atol=1e-4)
    assert found["features"].dtype == found["logits"].dtype == np.float32
    for words in ("to 12×12 by bicubic", "antialiased", "mean 0.5/0.4/0.3", "deviation 0.2/0.25/0.5"):
        assert words in small.resize
    assert dataclasses.asdict(small.protocol("digits", "test", "f" * 64)) == {
        "prefix": "fd_cnn",
        "extractor": "cnn, features",
        "weights": small.weights,
        "dimension": 6,
        "resize": small.resize,
        "reference": "digits",
        "split": "test",
        "fingerprint": "f" * 64,
    }


def test_gray_images_become_rgb_and_color_does_not_become_gray(small):
    gray = np.stack(pictures(2))[..., :1]
    np.testing.assert_array_equal(small.view(gray), small.view(np.repeat(gray, 3, -1)))
    model = models.build("cnn", num_classes=5, channels=(4,), global_pool=True)
    one = extractors.of_classifier(
        "cnn", model, random_variables(model, (8, 8, 1)), Preprocessing(8, 8, "nearest", (0.5,), (0.5,)), 1
    )
    np.testing.assert_allclose(one.view(np.full((1, 8, 8, 1), 255, np.uint8)), 1.0)
    with pytest.raises(ValueError, match="The extractor sees 1 channels, and the images have 3"):
        one.view(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("mode", "black", "white"), [("pytorch_fid", -1, 1), ("clean", -1, 127 / 128), ("tensorflow", -1, 127 / 128)]
)
def test_the_ranges_of_fid_s_views(mode, black, white):
    view = extractors.FID_VIEWS[mode]
    for value, expected in ((0, black), (255, white)):
        seen = np.asarray(view(np.full((1, 32, 32, 1), value, np.uint8)))
        assert seen.shape == (1, 299, 299, 3)
        np.testing.assert_allclose(seen, expected, atol=1e-5)
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    for seen in (view.on_host(edge), np.asarray(view(edge[None]))[0]):
        assert seen.min() >= black - 1e-6 and seen.max() <= white + 1e-6, "bicubic overshoots and is clipped"
    assert len({v.words for v in extractors.FID_VIEWS.values()}) == 3


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batches_and_order_change_nothing(small, batch_size):
    images = pictures()
    done = []
    found = extractors.collect(small, images, batch_size=batch_size, mesh=parallel.make_mesh(1), seen=done.append)
    expected = small.apply(small.variables, np.stack(images))
    np.testing.assert_allclose(found.features, expected["features"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=1e-4, atol=1e-5)
    assert found.count == done[-1] == 23
    backwards = extractors.collect(small, images[::-1], batch_size=batch_size, mesh=parallel.make_mesh(1))
    for one, other in zip(found.gaussian(), backwards.gaussian(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_devices_change_nothing(small):
    images = pictures()
    one = extractors.collect(small, images, batch_size=8, mesh=parallel.make_mesh(1))
    four = extractors.collect(small, images, batch_size=6, mesh=parallel.make_mesh(4))  # 8, for four devices.
    assert four.count == 23
    np.testing.assert_allclose(four.features, one.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(four.gaussian()[1], one.gaussian()[1], rtol=1e-4, atol=1e-7)


def test_pictures_of_many_sizes_are_seen_as_each_alone(small):
    images = [pictures(1, 10 + 7 * i, 30 - 3 * i)[0] for i in range(7)]
    images[3] = images[3][..., :1]
    found = extractors.collect(small, images, batch_size=3, mesh=parallel.make_mesh(1), limit=4)
    alone = np.concatenate([small.apply(small.variables, image[None])["features"] for image in images])
    np.testing.assert_allclose(found.gaussian()[0], alone.mean(0), rtol=1e-4, atol=1e-5)
    assert found.count == 7 and found.features.shape == (4, 6)


def test_a_file_of_weights_is_an_extractor(tmp_path):
    model = models.build("resnet20")
    variables = random_variables(model, (32, 32, 3))
    torch_writer.write_pth(tmp_path / "x.pth", port.to_state_dict("resnet20", variables))
    found = extractors.load("resnet20", str(tmp_path / "x.pth"))
    assert (found.prefix, found.dimension) == ("fd_resnet20", 64)
    assert "does not say its preprocessing; that of akamaster" in found.note
    assert found.view.shift == pytest.approx([255 * m for m in weights.published("resnet20").preprocessing.mean])
    assert found.weights == trees.fingerprint(variables)


@pytest.fixture
def fid_weights(monkeypatch):
    record = weights.Record("fid_inception", "a test")
    monkeypatch.setattr(weights, "load", lambda network, name: ({"params": {"x": np.zeros(1)}}, record))


@pytest.mark.parametrize(
    ("options", "prefix", "stage"),
    [
        ({}, "fid", "features"),
        ({"dims": 2048}, "fid", "features"),
        ({"dims": 64}, "fid_64", "pool1"),
        ({"mode": "clean"}, "fid_clean", "features"),
        ({"mode": "tensorflow", "dims": 768}, "fid_tensorflow_768", "Mixed_6e"),
    ],
)
def test_ways_of_reaching_fid_s_network_have_names_of_their_own(fid_weights, options, prefix, stage):
    found = extractors.load(**options)
    assert (found.prefix, found.stage, found.model_name) == (prefix, stage, "fid_inception")
    assert isinstance(found.model, InceptionV3) and found.model.fid


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "cleen"}, r"FID has no mode 'cleen'; did you mean 'clean'\?"),
        ({"dims": 100}, "FID's network has no 100 features; there are 64, 192, 768, 2048"),
        ({"network": "resnet20", "dims": 64}, "resnet20 has one preprocessing"),
        ({"network": "resnet20", "mode": "clean"}, "resnet20 has one preprocessing"),
        ({"network": "srcnn"}, "srcnn has no published weights"),
        ({"network": "resnet21"}, "no network is called 'resnet21'"),
        ({"weights": "imagenet"}, "fid_inception has no weights 'imagenet'"),
    ],
)
def test_what_cannot_be_had_is_refused_in_sentences(options, match):
    with pytest.raises(ValueError, match=match):
        extractors.load(**options)


def test_offline_it_says_where_to_put_fid_s_weights():
    row = weights.published("fid_inception")
    with pytest.raises(download.DownloadError) as error:
        extractors.load()
    for part in (row.url, row.file, "into the folder"):
        assert re.search(re.escape(part), str(error.value))

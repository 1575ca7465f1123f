"""FID's features and distances against pytorch-fid's and torch-fidelity's own code, with the same random weights."""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import types

import jax
import numpy as np
import pytest
from PIL import Image

from .needs import needs_references

needs_references()

import torch

from tests.metrics.references import torch_fidelity
from vision_jax import models
from vision_jax.pretrained import extractors, port
from vision_jax.tools import fid
from vision_jax.utils import trees

from . import references


@pytest.fixture(scope="module")
def network():
    return references.lively_fid_inception()


@pytest.fixture(scope="module")
def variables(network):
    return port.load_state_dict("fid_inception", {key: value.numpy() for key, value in network.state_dict().items()})


@pytest.fixture
def load(variables, monkeypatch):
    """`extractors.load` with those weights in place of the published ones."""
    record = types.SimpleNamespace(options={})
    monkeypatch.setattr(extractors.weights_lib, "load", lambda name, weights: (variables, record))
    return extractors.load


@pytest.fixture
def pytorch_fid(network, monkeypatch):
    """pytorch-fid's module `fid_score`, whose networks have those weights."""
    from pytorch_fid import fid_score, inception

    monkeypatch.setattr(inception, "fid_inception_v3", lambda: network)
    monkeypatch.setattr(fid_score, "tqdm", lambda batches: batches)
    return fid_score


def images(height=40, width=32):
    x = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    x[1] //= 4
    return x


def planes(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def relative(found, expected):
    """Largest difference over the largest value; the features of the two images have to be different ones."""
    assert np.abs(expected[0] - expected[1]).max() > 0.1 * np.abs(expected).max()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dims", [64, 192, pytest.param(768, marks=pytest.mark.full), 2048])
def test_features_are_pytorch_fid_s(dims, load, pytorch_fid):
    reference = pytorch_fid.InceptionV3([pytorch_fid.InceptionV3.BLOCK_INDEX_BY_DIM[dims]])
    with torch.no_grad():
        expected = reference(planes(images()).float() / 255.0)[0].mean((2, 3)).numpy()
    extractor = load(dims=dims)
    found = jax.jit(extractor.apply)(extractor.variables, images())
    assert found["features"].shape == (2, dims) == (2, extractor.dimension)
    assert found.keys() == ({"features", "logits"} if dims == 2048 else {"features"})
    assert relative(np.asarray(found["features"]), expected) < 1e-4
    jax.clear_caches()


def fidelity_network(network):
    """torch-fidelity's extractor with the weights of `network`."""
    module = torch_fidelity("feature_extractor_inceptionv3")
    state = network.state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: state)
        patch.setattr(torch, "compile", lambda model, *args, **kwargs: model)
        return module.FeatureExtractorInceptionV3("x", ["64", "2048", "logits_unbiased"], verbose=False)


@pytest.mark.full
def test_features_and_logits_are_torch_fidelity_s(load, network):
    with torch.no_grad():
        first, features, logits = fidelity_network(network)(planes(images()))
    extractor = load(mode="tensorflow")
    found = jax.jit(extractor.apply)(extractor.variables, images())
    assert relative(np.asarray(found["features"]), features.numpy()) < 1e-4
    assert relative(np.asarray(found["logits"]), logits.numpy()) < 1e-4
    pool = load(mode="tensorflow", dims=64)
    assert relative(np.asarray(pool.apply(pool.variables, images())["features"]), first.numpy()) < 1e-4
    jax.clear_caches()


def test_first_features_are_torch_fidelity_s(load, network):
    with torch.no_grad():
        first, _, _ = fidelity_network(network)(planes(images()))
    extractor = load(mode="tensorflow", dims=64)
    found = jax.jit(extractor.apply)(extractor.variables, images())
    assert relative(np.asarray(found["features"]), first.numpy()) < 1e-4


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of parts of a photo each, 32×32."""
    from sklearn.datasets import load_sample_images

    found = []
    for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
        folder = tmp_path_factory.mktemp(name)
        for number in range(36):
            y, x = 32 * (number // 10), 32 * (number % 10)
            Image.fromarray(photo[y : y + 32, x : x + 32]).save(folder / f"{number:03}.png")
        found.append(str(folder))
    return found


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # pytorch-fid's way
@pytest.mark.filterwarnings("ignore:Matrix is:scipy.linalg.LinAlgWarning")  # to the root.
@pytest.mark.parametrize("dims", [64, *(pytest.param(dims, marks=pytest.mark.full) for dims in (192, 2048))])
def test_the_distance_of_two_folders_is_pytorch_fid_s(dims, load, pytorch_fid, folders, tmp_path, monkeypatch):
    """Also through its statistics files, either way."""
    monkeypatch.setattr(fid, "load_extractor", lambda options: load(dims=options.dims))
    expected = pytorch_fid.calculate_fid_given_paths(folders, 12, "cpu", dims, num_workers=0)
    options = fid.Options(dims=dims, batch_size=12)
    (receipt,) = fid.compare(*folders, [], options).values()
    assert receipt.metric == ("fid36" if dims == 2048 else f"fid_{dims}_36")
    assert receipt.value == pytest.approx(expected, rel=1e-3)
    ours, theirs = str(tmp_path / "ours.npz"), str(tmp_path / "theirs.npz")
    fid.save_statistics(folders[0], ours, options)
    pytorch_fid.save_fid_stats([folders[1], theirs], 12, "cpu", dims, num_workers=0)
    (crossed,) = fid.compare(ours, theirs, [], options).values()
    assert crossed.value == pytest.approx(expected, rel=1e-3)
    crossed = pytorch_fid.calculate_fid_given_paths([ours, theirs], 12, "cpu", dims, num_workers=0)
    assert crossed == pytest.approx(expected, rel=1e-3)
    jax.clear_caches()


def test_published_weights_are_named_by_their_hash(load, variables):
    assert load().weights == load(mode="clean").weights == trees.fingerprint(variables)
    assert models.entry(extractors.FID_NETWORK).weights == "fid_inception"

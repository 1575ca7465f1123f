"""Losses of pixels by hand; the perceptual loss, value and gradient, against PyTorch on torchvision's VGG-16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import models
from vision_jax.pretrained import port, weights
from vision_jax.tasks import restoration_losses
from vision_jax.tasks.restoration_losses import Perceptual
from vision_jax.utils.options import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(seed, side=32):
    return np.random.default_rng(seed).uniform(size=(2, side, side, 3)).astype(np.float32)


def test_losses_of_pixels():
    restored, original = jnp.asarray([[0.0, 0.5]]), jnp.asarray([[0.0, 0.2]])
    assert float(restoration_losses.mse(restored, original)) == pytest.approx(0.045)
    assert float(restoration_losses.l1(restored, original)) == pytest.approx(0.15)
    expected = (1e-3 + np.sqrt(0.09 + 1e-6)) / 2
    assert float(restoration_losses.charbonnier(restored, original)) == pytest.approx(expected, rel=1e-6)
    # Smooth where the images are equal.
    assert jax.grad(lambda x: restoration_losses.charbonnier(x, original))(original).tolist() == [[0.0, 0.0]]


@pytest.fixture(scope="module")
def vgg():
    """torchvision's VGG-16 without its dense layers, random, and the same here."""
    torch = pytest.importorskip("torch")
    from tests.torchvision_import import import_torchvision

    torchvision = import_torchvision()
    torch.manual_seed(0)
    net = torchvision.models.vgg16(weights=None).features[:10].eval()  # To relu2_2.
    state = {f"features.{key}": value.numpy() for key, value in net.state_dict().items()}
    model = models.build("vgg16", include_top=False)
    shapes = {leaf.name: leaf for leaf in port.mapping(model, models.shapes(model, (32, 32, 3)))}
    params = {}
    for name, leaf in shapes.items():
        _, layer, kind = leaf.path.split("/")
        value = leaf.from_torch(state[name]) if name in state else np.zeros(leaf.shape, np.float32)
        params.setdefault(layer, {})[kind] = value
    return net, model, {"params": params}


def test_perceptual_loss_is_that_of_pytorch_in_value_and_gradient(vgg):
    import torch

    net, model, variables = vgg
    layers = {"relu1_2": 0.3, "relu2_2": 1.0}
    perceptual = Perceptual(model, variables, layers, mean=MEAN, std=STD)
    restored, original = images(0), images(1)
    loss, gradient = jax.jit(jax.value_and_grad(perceptual.loss, argnums=1))(
        variables, jnp.asarray(restored), jnp.asarray(original)
    )
    x = torch.from_numpy(restored.transpose(0, 3, 1, 2).copy()).requires_grad_()
    y = torch.from_numpy(original.transpose(0, 3, 1, 2).copy())
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    expected = 0.0
    for weight, depth in ((0.3, 4), (1.0, 9)):
        found, wanted = (net[:depth]((image - mean) / std) for image in (x, y))
        expected = expected + weight * torch.nn.functional.mse_loss(found, wanted)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-4)
    wanted = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, wanted, atol=1e-3 * np.abs(wanted).max())


def test_the_network_is_fixed_and_may_compute_in_bfloat16(vgg):
    _, model, variables = vgg
    exact = Perceptual(model, variables, {"relu2_2": 1.0}, mean=MEAN, std=STD)
    half = Perceptual(model.clone(dtype=jnp.bfloat16), variables, {"relu2_2": 1.0}, mean=MEAN, std=STD)
    a, b = jnp.asarray(images(0)), jnp.asarray(images(1))
    value = float(half.loss(variables, a, b))
    assert value == pytest.approx(float(exact.loss(variables, a, b)), rel=0.05)
    assert half.features(variables, a)["relu2_2"].dtype == jnp.float32
    assert float(exact.loss(variables, a, a)) == 0.0


def test_images_that_are_normalized_or_gray_already_are_refused(vgg):
    _, model, variables = vgg
    perceptual = Perceptual(model, variables, {"relu1_1": 1.0}, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"takes them in \[0, 1\]; found -2 to"):
        perceptual.features(variables, 4.0 * jnp.asarray(images(0)).at[0, 0, 0, 0].set(0.0) - 2.0)
    with pytest.raises(ValueError, match="sees RGB images"):
        perceptual.features(variables, jnp.zeros((1, 8, 8, 1)))


def test_layers_that_do_not_exist_are_refused(vgg):
    _, model, variables = vgg
    with pytest.raises(ConfigError, match=r"has no layer 'relu2_3' of features; did you mean 'relu"):
        Perceptual(model, variables, {"relu2_3": 1.0}, mean=MEAN, std=STD)
    with pytest.raises(ConfigError, match="layers is empty"):
        Perceptual(model, variables, {}, mean=MEAN, std=STD)


def test_a_network_of_ours_serves_as_the_loss(tmp_path):
    model = models.build("resnet20")
    shapes = models.shapes(model, (32, 32, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.abs(rng.normal(0.1, 0.1, leaf.shape)).astype(np.float32), shapes)
    preprocessing = weights.Preprocessing(32, 32, "bilinear", MEAN, STD)
    record = weights.Record("resnet20", "a test", preprocessing=preprocessing)
    weights.save(tmp_path / "ours.safetensors", variables, record)
    options = dict(
        network="resnet20", weights=str(tmp_path / "ours.safetensors"), layers=("layer1",), layer_weights=(2.0,)
    )
    perceptual = restoration_losses.load(options | dict(dtype="float32"))
    assert perceptual.name == "resnet20" and perceptual.layers == {"layer1": 2.0}
    features = perceptual.features(perceptual.variables, jnp.asarray(images(0)))
    assert features["layer1"].shape == (2, 32, 32, 16)
    with pytest.raises(ConfigError, match="1 layers and 2 layer_weights"):
        restoration_losses.load(options | dict(dtype="float32", layer_weights=(1.0, 2.0)))

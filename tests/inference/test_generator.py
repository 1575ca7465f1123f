"""A generator at work: what each image depends on, with and without classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import models
from vision_jax.inference import ImageGenerator
from vision_jax.tasks import latent


class Conditional(nn.Module):
    """Images 2x2 of which the first pixel tells the class and the second whether the noise is above zero."""

    @nn.compact
    def __call__(self, noise, labels, *, train):
        assert labels.dtype == jnp.int32 and not train
        scale = self.param("scale", nn.initializers.ones, ())
        label = labels.astype(jnp.float32) / 127.5 - 1.0
        sign = jnp.where(noise[:, 0] > 0, scale, -1.0)
        return jnp.stack([label, sign, sign, sign], -1).reshape(-1, 2, 2, 1)


def conditional():
    variables = {"params": {"scale": np.float32(1.0)}}
    return ImageGenerator("a test", Conditional(), variables, 5, ("a", "b", "c"), conditional=True)


@pytest.fixture(scope="module")
def plain():
    model = models.build("dcgan_generator", image_size=8, channels=1, width=4, latent=5)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(np.float32), models.shapes(model, (5,))
    )
    variables["params"] = jax.tree.map(lambda leaf: leaf - leaf.mean(), variables["params"])
    return ImageGenerator("a test", model, variables, 5, ("a", "b"))


def test_samples_are_the_network_s_on_its_noise(plain):
    found = plain.sample(6, seed=2)
    noise = latent.noise(jax.random.key(2), 6, 5)
    expected = (np.asarray(plain.model.apply(jax.device_put(plain.variables), noise, train=False)) + 1) / 2 * 255
    assert found.shape == (6, 8, 8, 1) and found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.51
    assert found.std() > 10


def test_an_image_depends_neither_on_their_number_nor_on_the_batch(plain):
    expected = plain.sample(7).astype(int)
    for n, batch_size in ((7, 3), (7, 1), (7, 100), (4, 64)):
        found = plain.sample(n, batch_size=batch_size)
        assert found.shape[0] == n
        assert np.abs(found - expected[:n]).max() <= 1
    assert np.abs(plain.sample(7, seed=1) - expected).max() > 10
    assert np.abs(plain.sample(7, truncation=0.3) - expected).max() > 10


def test_interpolations_run_between_the_samples_of_pairs_of_noise(plain):
    ways = plain.interpolate(3, 4, seed=5).reshape(3, 4, 8, 8, 1).astype(int)
    ends = plain.sample(6, seed=5)
    assert np.abs(ways[:, 0] - ends[0::2]).max() <= 1
    assert np.abs(ways[:, -1] - ends[1::2]).max() <= 1
    straight = plain.interpolate(3, 4, 5, spherical=False).reshape(3, 4, 8, 8, 1)
    assert np.abs(straight[:, 1] - ways[:, 1]).max() > 1


def test_classes_are_taken_in_turn_or_as_asked():
    generator = conditional()
    assert generator.sample(7, batch_size=2)[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert generator.sample(4, class_index=2)[:, 0, 0, 0].tolist() == [2] * 4
    assert generator.interpolate(2, 3)[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert generator.interpolate(2, 3, class_index=1)[:, 0, 0, 0].tolist() == [1] * 6
    assert set(generator.sample(40)[:, 1, 1, 0].tolist()) == {0, 255}


def test_what_cannot_be_made_is_refused(plain):
    with pytest.raises(ValueError, match="a test is not class-conditional"):
        plain.sample(1, class_index=0)
    with pytest.raises(ValueError, match="a test has no class 3; there are 0 to 2"):
        conditional().sample(1, class_index=3)
    with pytest.raises(ValueError, match="n=0, batch_size=64"):
        plain.sample(0)
    with pytest.raises(ValueError, match="two ends; found 1 step"):
        plain.interpolate(1, 1)

"""Images reach the FID network as pytorch-fid brings them there."""
# ruff: noqa: E402 (what may be absent is looked for before it is imported)

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference is pytorch-fid, which needs PyTorch")

from jax import numpy as jnp

from vision_jax.models import inception


class Recorder:
    """A network that only remembers its input."""

    def apply(self, variables, x, **options):
        self.input = np.asarray(x)
        return None, {"intermediates": {"features": (jnp.zeros((len(x), 2048)),)}}


@pytest.mark.parametrize("height,width", [(32, 32), (28, 40), (350, 310), (299, 299)])
def test_resize_and_range_are_pytorch_fids(height, width):
    images = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected = 2 * torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
    recorder = Recorder()
    inception.fid_features(recorder, {}, jnp.asarray(images))
    np.testing.assert_allclose(recorder.input, expected.numpy().transpose(0, 2, 3, 1), atol=2e-5)

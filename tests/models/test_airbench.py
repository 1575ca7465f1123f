"""The first layer of the speed runs' network whitens patches, and its kernels start as the identity."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from vision_jax import models


@pytest.fixture(scope="module")
def fitted():
    """The network with its first layer fitted to images of correlated pixels, and these images."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 16, 16, 3)).cumsum(axis=1).cumsum(axis=2).astype(np.float32) / 5
    images = images @ np.array([[1, 0.5, 0.2], [0, 1, 0.5], [0, 0, 1]], np.float32)
    model = models.build("airbench94", widths=(4, 6, 8))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    return model.fitted(jax.device_get(variables), images), variables, images


def test_the_first_layer_s_answers_are_uncorrelated_and_of_variance_one(fitted):
    params, _, images = fitted
    kernel = params["params"]["whitening"]["kernel"]
    answers = jax.lax.conv_general_dilated(
        jnp.asarray(images), jnp.asarray(kernel), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    answers = np.asarray(answers, np.float64).reshape(-1, 24)
    np.testing.assert_allclose(answers[:, 12:], -answers[:, :12], rtol=1e-5, atol=1e-6)
    moments = answers[:, :12].T @ answers[:, :12] / len(answers)
    strong = np.diag(moments) > 0.9  # Eigenvalues far above 5e-4, which bounds how much noise is amplified.
    assert strong.sum() >= 6 and (np.diag(moments) <= 1 + 1e-3).all()
    np.testing.assert_allclose(moments - np.diag(np.diag(moments)), 0, atol=1e-3)


def test_nothing_else_is_fitted(fitted):
    found, before, _ = fitted
    found["params"]["whitening"] = before["params"]["whitening"]
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(before))


def test_kernels_pass_their_inputs_on(fitted):
    _, variables, _ = fitted
    kernel = np.asarray(variables["params"]["group3"]["conv1"]["kernel"])  # 6 inputs, 8 outputs.
    expected = np.zeros((3, 3, 6, 6))
    expected[1, 1] = np.eye(6)
    np.testing.assert_array_equal(kernel[..., :6], expected)
    assert kernel[..., 6:].std() == pytest.approx((1 / 54 / 3) ** 0.5, rel=0.2)  # torch's uniform within 1/√fan_in.


def test_other_sizes_than_those_that_end_in_three_by_three_are_refused():
    model = models.build("airbench94")
    with pytest.raises(ValueError, match=r"images of 25 to 32 pixels; found \(2, 2\)"):
        models.shapes(model, (24, 24, 3))
    for side in (25, 32):
        assert models.shapes(model, (side, side, 3))["params"]["head"]["kernel"].shape == (256, 10)

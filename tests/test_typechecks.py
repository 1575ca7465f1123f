"""The annotations of shapes are checked while tests run: what does not fit is refused."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from vision_jax import ops
from vision_jax.data import augment
from vision_jax.metrics import frechet, image_quality
from vision_jax.models import layers


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: image_quality.psnr_y(zeros(1, 8, 8, 3), zeros(1, 8, 8, 1), 0), "f32[1,8,8,1]"),
        (lambda: frechet.distance(np.zeros(3), np.eye(3), np.zeros(2), np.eye(2)), "f64[2]"),
        (lambda: augment.parse("horizontal_flip()").apply(zeros(2, 8, 8, 3), jnp.array(True)), "f32[2,8,8,3]"),
        (lambda: layers.global_avg_pool(zeros(8, 8, 3)), "f32[8,8,3]"),
        (lambda: ops.moments(zeros(2, 4, 4, 3), zeros(1)), "f32[1]"),
        (lambda: ops.conv_transpose(zeros(1, 4, 4, 3), zeros(3, 3, 2, 5), (1, 1), "SAME"), "f32[3,3,2,5]"),
        (lambda: ops.max_pool(zeros(4, 4, 3), (2, 2), (2, 2), "SAME"), "f32[4,4,3]"),
        (lambda: ops.adam(*[zeros(3)] * 3, zeros(3), b1=0.9, b2=0.9, eps=0.1), "f32[3]"),
        (lambda: ops.square_sum(jnp.zeros(3, jnp.int32)), "i32[3]"),
    ],
)
def test_a_wrong_shape_or_type_is_refused(call, found):
    with pytest.raises(jaxtyping.TypeCheckError, match=re.escape(found)):
        jax.eval_shape(call)


def test_outside_of_tests_nothing_is_checked():
    code = "import sys; from vision_jax.metrics import image_quality; assert 'beartype' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

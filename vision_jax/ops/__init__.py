"""Convolutions, pooling, sums and updates that every step goes through: XLA's own, but on a CPU without its cliffs.

README.md tells how they are put together, what was measured, and what was tried and left out.
"""

from vision_jax.ops.channels import materialize as materialize
from vision_jax.ops.channels import moments as moments
from vision_jax.ops.channels import normalize as normalize
from vision_jax.ops.convolution import conv_general_dilated as conv_general_dilated
from vision_jax.ops.convolution import conv_transpose as conv_transpose
from vision_jax.ops.pooling import avg_pool as avg_pool
from vision_jax.ops.pooling import max_pool as max_pool
from vision_jax.ops.updates import adam as adam
from vision_jax.ops.updates import square_sum as square_sum

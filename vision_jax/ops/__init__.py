"""Convolutions and pooling that every model goes through."""

from vision_jax.ops.convolution import conv_general_dilated as conv_general_dilated
from vision_jax.ops.convolution import conv_transpose as conv_transpose
from vision_jax.ops.pooling import avg_pool as avg_pool
from vision_jax.ops.pooling import max_pool as max_pool

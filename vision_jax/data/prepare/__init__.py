"""Preparing data sets once, and opening what was prepared."""

from vision_jax.data.prepare.prepared import NotPreparedError as NotPreparedError
from vision_jax.data.prepare.prepared import is_prepared as is_prepared
from vision_jax.data.prepare.prepared import names as names
from vision_jax.data.prepare.prepared import open_prepared as open_prepared
from vision_jax.data.prepare.prepared import prepare as prepare

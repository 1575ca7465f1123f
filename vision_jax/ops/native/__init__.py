"""All that is compiled: C++ sources, how they are built and loaded. README.md says what for."""

from vision_jax.ops.native.build import FOLDER as FOLDER
from vision_jax.ops.native.build import UnavailableError as UnavailableError
from vision_jax.ops.native.build import processor as processor
from vision_jax.ops.native.loading import available as available
from vision_jax.ops.native.loading import register as register

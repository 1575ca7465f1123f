"""Networks: pure Flax (linen) modules, NHWC, built by name from the table in registry.py."""

from vision_jax.models.network import Classifier as Classifier
from vision_jax.models.network import Network as Network
from vision_jax.models.network_options import options as options
from vision_jax.models.registry import MODELS as MODELS
from vision_jax.models.registry import build as build
from vision_jax.models.registry import entry as entry
from vision_jax.models.registry import parameter_count as parameter_count
from vision_jax.models.registry import shapes as shapes

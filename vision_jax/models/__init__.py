"""Networks: pure Flax (linen) modules, NHWC, built by name from the table in registry.py."""

from vision_jax.models.registry import MODELS, Classifier, build, entry, options, parameter_count, shapes

__all__ = ["MODELS", "Classifier", "build", "entry", "options", "parameter_count", "shapes"]

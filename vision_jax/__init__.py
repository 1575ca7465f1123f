"""vision_jax: image classification, GANs and super-resolution in JAX, from one config and one loop."""

__version__ = "0.2.0"

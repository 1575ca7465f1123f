"""Commands, each run as `python -m vision_jax.tools.NAME`."""

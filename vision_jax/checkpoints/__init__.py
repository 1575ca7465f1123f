"""Checkpoints: the train state, the state of the input, the config and the history of a run, written by Orbax.

The only package that knows Orbax. A checkpoint is written asynchronously into a temporary folder and renamed when it is
complete, and renamed again before it is deleted.
"""

from vision_jax.checkpoints.contents import CheckpointError, DamagedCheckpoint, Restored
from vision_jax.checkpoints.of_run import Checkpoints, read

__all__ = ["CheckpointError", "Checkpoints", "DamagedCheckpoint", "Restored", "read"]

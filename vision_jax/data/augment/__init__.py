"""Augmentation on the device: named operations, built from a config's list of them."""

from vision_jax.data.augment.registry import OPERATIONS as OPERATIONS
from vision_jax.data.augment.registry import build as build
from vision_jax.data.augment.registry import build_paired as build_paired
from vision_jax.data.augment.registry import describe as describe
from vision_jax.data.augment.registry import mixes as mixes
from vision_jax.data.augment.registry import name_of as name_of
from vision_jax.data.augment.registry import parse as parse

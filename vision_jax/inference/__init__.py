"""Trained and published networks ready for pictures: what is on them, what decided, and new ones."""

from vision_jax.inference.answers import Answer, picture_files, predict
from vision_jax.inference.explain import grad_cam, last_map, overlay
from vision_jax.inference.generator import ImageGenerator, generator_of_run
from vision_jax.inference.upscaler import ImageUpscaler, upscaler_of_run
from vision_jax.pretrained.classifiers import (
    ImageClassifier,
    classifier_of_run,
    extractor_of_run,
    preprocessing_of_run,
    pretrained_classifier,
)
from vision_jax.pretrained.runs import TrainedRun, open_run

__all__ = [
    "Answer",
    "ImageClassifier",
    "ImageGenerator",
    "ImageUpscaler",
    "TrainedRun",
    "classifier_of_run",
    "extractor_of_run",
    "generator_of_run",
    "grad_cam",
    "last_map",
    "open_run",
    "overlay",
    "picture_files",
    "predict",
    "preprocessing_of_run",
    "pretrained_classifier",
    "upscaler_of_run",
]

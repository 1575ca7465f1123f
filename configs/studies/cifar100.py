"""CIFAR-100 with 57,332 parameters: the given network, a better recipe, a better network, a teacher.

    python -m vision_jax.tools.study configs/studies/cifar100.py --out=runs/study_cifar100

The teacher (`cifar10_speed.py:cifar100`) is the first run; the distilled ones look for it in runs/study_cifar100.
"""

from vision_jax.study import Run, Study

_TEACHER = {"classification.distillation.teachers": "('runs/study_cifar100/teacher',)"}


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has the two networks for seconds."""
    if variant == "smoke":
        runs = (
            Run("small", "configs/cifar100_small_cnn.py:smoke"),
            Run("tiny", "configs/cifar100_tiny.py:smoke"),
        )
    else:
        runs = (
            Run("teacher", "configs/cifar10_speed.py:cifar100"),
            Run("small_published", "configs/cifar100_small_cnn.py:published"),
            Run("small", "configs/cifar100_small_cnn.py"),
            Run("small_distilled", "configs/cifar100_small_cnn.py:distilled", _TEACHER),
            Run("tiny", "configs/cifar100_tiny.py"),
            Run("tiny_distilled", "configs/cifar100_tiny.py:distilled", _TEACHER),
        )
    return Study(question="How much of a small network's error is its recipe, its shape, its size?", runs=runs)

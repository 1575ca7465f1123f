"""SVHN: a CNN from scratch, a fine-tuned ResNet-18, and augmented training of both.

python -m vision_jax.tools.study configs/studies/svhn.py --out=runs/study_svhn
"""

from vision_jax.study import Run, Study

_RUNS = {
    "cnn": "svhn_cnn.py",
    "cnn_augmented": "svhn_cnn.py:augmented",
    "resnet18": "svhn_resnet18.py",
    "resnet18_augmented": "svhn_resnet18.py:augmented",
}


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has the two networks for seconds."""
    runs = {"cnn": "svhn_cnn.py:smoke", "resnet18": "svhn_resnet18.py:smoke"} if variant == "smoke" else _RUNS
    return Study(
        question="How far is a small CNN from a fine-tuned ResNet-18 on house numbers, with and without augmentation?",
        runs=tuple(Run(name, f"configs/{config}") for name, config in runs.items()),
    )

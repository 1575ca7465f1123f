"""CIFAR-10: four perceptrons as they are usually trained, one with care, and convolutional networks.

python -m vision_jax.tools.study configs/studies/cifar10.py --out=runs/study_cifar10
"""

from vision_jax.study import Run, Study

_RUNS = {
    **{f"fcn_{name}": f"cifar10_fcn.py:{name}" for name in ("baseline", "wide", "dropout", "deep", "best")},
    "cnn_published": "cifar10_cnn.py:published",
    "cnn": "cifar10_cnn.py",
}


def get_study(variant: str = ""):
    """Returns the study; 'smoke' has a perceptron and a CNN for seconds."""
    runs = {"fcn": "cifar10_fcn.py:smoke", "cnn": "cifar10_cnn.py:smoke"} if variant == "smoke" else _RUNS
    return Study(
        question="What do size, dropout and recipe do for perceptrons, and how far are they from convolutions?",
        runs=tuple(Run(name, f"configs/{config}") for name, config in runs.items()),
    )

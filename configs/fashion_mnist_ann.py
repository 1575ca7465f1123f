"""The perceptron of mnist_ann.py on Fashion-MNIST: mirror images and shifts by a pixel, more dropout.

    python -m vision_jax.main --config=configs/fashion_mnist_ann.py --workdir=runs/fashion_mnist_ann

Nothing has been measured with this code yet.
"""

import pathlib
import runpy

_MNIST = runpy.run_path(str(pathlib.Path(__file__).with_name("mnist_ann.py")))
VARIANTS = _MNIST["VARIANTS"]


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    config = _MNIST["get_config"](variant)
    if variant != "smoke":
        config.data.name = "fashion_mnist"
    if variant != "published":
        config.data.augment = ("random_crop(padding=1)", "horizontal_flip")
        config.data.mean, config.data.std = (0.2860,), (0.3530,)
        config.model.mlp.dropout = 0.25
        config.classification.test_time_augmentation = "flip"
    return config

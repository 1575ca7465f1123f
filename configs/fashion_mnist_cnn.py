"""The CNN of mnist_cnn.py on Fashion-MNIST: mirror images, small crops and erased rectangles in place of affine maps.

    python -m vision_jax.main --config=configs/fashion_mnist_cnn.py --workdir=runs/fashion_mnist_cnn

Nothing has been measured with this code yet; variant 'published', the experiment as its authors did it (two
convolutions, no augmentation), reached 91.8 % test accuracy in an earlier revision.
"""

import pathlib
import runpy

_MNIST = runpy.run_path(str(pathlib.Path(__file__).with_name("mnist_cnn.py")))
VARIANTS = _MNIST["VARIANTS"]


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    config = _MNIST["get_config"](variant)
    if variant != "smoke":
        config.data.name = "fashion_mnist"
    if variant != "published":
        config.data.augment = (
            "random_crop(padding=2)",
            "horizontal_flip",
            "random_erasing(p=0.4, scale=(0.02, 0.2), value='random')",
        )
        config.data.mean, config.data.std = (0.2860,), (0.3530,)
        config.classification.test_time_augmentation = "flip"
    if variant == "":
        config.model.cnn.channels = (32, 64, 128)
        config.train.epochs = 40.0
        config.eval.every_epochs = 4.0
    return config

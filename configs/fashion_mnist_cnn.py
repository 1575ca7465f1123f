"""The CNN of mnist_cnn.py on Fashion-MNIST."""

import pathlib
import runpy

_MNIST = runpy.run_path(str(pathlib.Path(__file__).with_name("mnist_cnn.py")))


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    config = _MNIST["get_config"](variant)
    if variant != "smoke":
        config.data.name = "fashion_mnist"
    return config

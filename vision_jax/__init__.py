"""vision_jax: image classification, GANs and super-resolution in JAX, from one config and one loop.

`fit` trains a config, `load` gives a network that is ready for images: published (`load("resnet18")`), from a file
(`load("resnet18", weights="mine.pth")`) or of a run's folder.

>>> import vision_jax
>>> results = vision_jax.fit("configs/digits_cnn.py:smoke", "runs/digits")
>>> results["evaluations"]["test"]["examples"]
200
>>> net = vision_jax.load("runs/digits")
>>> from sklearn.datasets import load_digits
>>> digits = (load_digits().images[:3, ..., None] * 255 / 16).round().astype("uint8")
>>> [len(answer.predictions) for answer in net.predict(digits, top=2)]
[2, 2, 2]
>>> net.logits(digits).shape, net.features(digits).shape
((3, 10), (3, 64))
>>> net.sample(4)
Traceback (most recent call last):
    ...
vision_jax.networks.WrongNetworkError: cnn of runs/digits, step 13 is a classifier, which has no `sample`; it has \
predict, logits, features, explain.

What a person reads of a run, its progress and tables, goes to stderr. Everything else is imported when it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_jax.networks import LoadedNetwork as LoadedNetwork
    from vision_jax.networks import WrongNetworkError as WrongNetworkError
    from vision_jax.networks import fit as fit
    from vision_jax.networks import load as load

__version__ = "0.2.0"
__all__ = ["LoadedNetwork", "WrongNetworkError", "__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("vision_jax.networks"), name)
    raise AttributeError(f"module 'vision_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

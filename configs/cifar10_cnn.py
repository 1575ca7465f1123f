"""A three-block CNN of fewer than two million parameters on CIFAR-10: what two cores do in an hour.

    python -m vision_jax.main --config=configs/cifar10_cnn.py --workdir=runs/cifar10_cnn

The network and the recipe of `cifar10_speed.py` in sixteen epochs, where that has ten: 93.4 % test accuracy (95 %
interval 92.9 to 93.9), 94.4 % as the mean of six views (93.9 to 94.8; 93.6 % on validation), after 51 minutes on one
core of an AMD EPYC (Zen 4), one run. Record: configs/results/cifar10_cnn. A step needs about 3 GB.

Variant 'published' is the recipe of the experiment that reached 82–83 %: three blocks of two 3×3 convolutions with
BatchNorm (551,466 parameters), dropout, crops and flips, weight decay and a cosine schedule, 40 epochs. It has not been
measured with this code yet.
"""

import pathlib
import runpy

from vision_jax import config as config_lib

VARIANTS = ("", "published", "smoke")
_SPEED = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10_speed.py")))


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    if variant not in VARIANTS:
        raise ValueError(f"cifar10_cnn has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    if variant == "published":
        return _published()
    config = _SPEED["get_config"](variant)
    if variant == "":
        config.train.epochs = 16.0
        config.log.every_epochs = 0.5
        config.eval.every_epochs = 4.0
    return config


def _published():
    config = config_lib.default("classification")
    config.data.name = "cifar10"
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.data.augment = ("random_crop(padding=4)", "horizontal_flip")
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)

    config.model.name = "cifar10_cnn"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    config.train.epochs = 40.0
    config.log.every_steps = 100
    return config

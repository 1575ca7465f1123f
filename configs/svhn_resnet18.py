"""ResNet-18 with ImageNet weights, fine-tuned on SVHN's cropped digits at 64 pixels; ':augmented' as in svhn_cnn.py.

    python -m vision_jax.main --config=configs/svhn_resnet18.py --workdir=runs/svhn_resnet18

All layers train, more slowly towards the input, with BatchNorm's statistics fixed (some files of weights have theirs
folded into the scale). Weights come from the cache or torchvision's site; `--config.model.weights=FILE` names a file.
An epoch is about 59 TFLOP forwards and backwards. Nothing has been measured with this code yet.
"""

import pathlib
import runpy

from vision_jax import config as config_lib

VARIANTS = ("", "augmented", "smoke")
_CNN = runpy.run_path(str(pathlib.Path(__file__).with_name("svhn_cnn.py")))


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits, without weights."""
    if variant not in VARIANTS:
        raise ValueError(f"svhn_resnet18 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "svhn_cropped"
    config.data.image_size = 64
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.batch_size = 128
    config.data.eval_batch_size = 500

    config.model.name = "resnet18"
    config.model.weights = "imagenet"
    config.model.freeze_statistics = True

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 2e-2
    config.optimizer.stage_decay = 0.7
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 0.25
    config.train.epochs = 5.0
    config.train.label_smoothing = 0.05
    config.log.every_steps = 50

    if variant == "augmented":
        config.data.augment = _CNN["AUGMENT"]
        config.train.epochs = 8.0
    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 100
        config.data.image_size = 32
        config.data.batch_size = 20
        config.data.mean, config.data.std = (0.3,), (0.4,)
        config.model.weights = ""
        config.model.resnet18 = dict(width=8)
        config.train.epochs = 2.0
        config.log.every_steps = 1
    return config

"""A two-convolution CNN from scratch on SVHN's cropped digits; ':augmented' shifts, turns and recolors them.

    python -m vision_jax.main --config=configs/svhn_cnn.py --workdir=runs/svhn_cnn

Nothing has been measured with this code yet.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "augmented", "smoke")
AUGMENT = (
    "random_crop(padding=3, mode='reflect')",
    "rotation(degrees=8)",
    "color_jitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)",
)


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    if variant not in VARIANTS:
        raise ValueError(f"svhn_cnn has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "svhn_cropped"
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.data.mean = (0.4377, 0.4438, 0.4728)
    config.data.std = (0.1980, 0.2010, 0.1970)

    config.model.name = "svhn_cnn"
    config.model.svhn_cnn = dict(dropout=0.5)

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    config.train.epochs = 15.0
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100

    if variant == "augmented":
        config.data.augment = AUGMENT
        config.model.svhn_cnn.dropout = 0.3
        config.train.epochs = 25.0
    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.mean, config.data.std = (0.3,), (0.4,)
        config.train.epochs = 4.0
        config.log.every_steps = 4
    return config

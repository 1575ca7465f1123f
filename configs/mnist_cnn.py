"""A CNN from scratch on MNIST: three blocks of two convolutions, small affine maps, one cycle.

    python -m vision_jax.main --config=configs/mnist_cnn.py --workdir=runs/mnist_cnn

99.77 % test accuracy (10,000 images), 162,562 parameters, 39 minutes on one core of an AMD EPYC that did other work
too. Record: configs/results/mnist_cnn. Variant 'published' is the experiment as its authors did it, two
convolutions on pixels / 255 without augmentation: 99.19 % test accuracy (10,000 images; best of 10 checkpoints on 6,000
held-out training images, 99.33 %), 3.6 minutes on 2 cores of an AMD EPYC that did other work too, 421,642 parameters.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "published", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    if variant not in VARIANTS:
        raise ValueError(f"mnist_cnn has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "mnist"
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.model.name = "cnn"
    config.log.every_steps = 100

    if variant == "published":
        config.model.cnn = dict(channels=(32, 64), hidden=(128,), dropout=0.5)
        config.optimizer.name = "adam"
        config.optimizer.learning_rate = 1e-3
        config.train.epochs = 10.0
        config.train.steps_per_dispatch = 10
        return config

    config.data.val_fraction = 0.05
    config.data.augment = ("affine(degrees=12, translate=0.1, scale=(0.88, 1.12), shear=8)",)
    config.data.mean, config.data.std = (0.1307,), (0.3081,)
    config.model.cnn = dict(
        channels=(24, 48, 96), convs_per_block=2, norm="batch", use_bias=False, global_pool=True, dropout=0.2
    )
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.weight_decay = 0.02
    config.optimizer.ema_decay = 0.998
    config.schedule.name = "one_cycle"
    config.schedule.peak_fraction = 0.2
    config.train.epochs = 20.0
    config.train.label_smoothing = 0.05
    config.eval.every_epochs = 2.0

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.model.cnn.channels = (8, 16, 16)
        config.train.epochs = 4.0
        config.log.every_steps = 4
    return config

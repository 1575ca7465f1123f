"""`small_filters_cnn` (57,332 parameters) on CIFAR-100 in 10,000 steps: what a recipe makes of a given network.

    python -m vision_jax.main --config=configs/cifar100_small_cnn.py --workdir=runs/cifar100_small_cnn

Published are 33.9 % test accuracy (41.2 % on the training images). Larger batches, crops and flips, a peak rate of one
cycle, a moving average: 48.5 % test accuracy (95 % interval 47.5 to 49.5), 51.7 % as the mean over mirror images
(`accuracy_tta2`), 10,000 steps in 40 minutes on one core of an AMD EPYC that did other work too. Record:
configs/results/cifar100_small_cnn.

'distilled' learns from the run of `cifar10_speed.py:cifar100`, asked once about every image, besides:

    --config=configs/cifar100_small_cnn.py:distilled \
    --config.classification.distillation.teachers="('runs/cifar100_speed',)"

Variant 'published' is the plain one, without augmentation and at a constant rate: this code reached 33.0 % with it
(step 4,000 of seed 0, 10 minutes of CPU time on a 2-core AMD EPYC VM), and over-fits from step 3,000.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "distilled", "published", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    if variant not in VARIANTS:
        raise ValueError(f"cifar100_small_cnn has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "cifar100"
    config.data.eval_batch_size = 500
    config.data.mean = (0.5071, 0.4865, 0.4409)
    config.data.std = (0.2673, 0.2564, 0.2762)
    config.model.name = "small_filters_cnn"
    config.train.steps = 10_000
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100
    config.eval.every_steps = 1000

    if variant == "published":
        config.data.batch_size = 128
        config.optimizer.name = "adam"
        config.optimizer.learning_rate = 1e-3
        return config

    config.data.val_fraction = 0.05
    config.data.batch_size = 1024
    config.data.augment = ("random_crop(padding=3, mode='reflect')", "horizontal_flip")
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 8e-3
    config.optimizer.weight_decay = 0.02
    config.optimizer.ema_decay = 0.99
    config.schedule.name = "one_cycle"
    config.schedule.peak_fraction = 0.2
    config.classification.test_time_augmentation = "flip"

    if variant == "distilled":
        config.classification.distillation.teachers = ("runs/cifar100_speed",)
        config.classification.distillation.precompute = True
    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.data.batch_size = 50
        config.data.mean, config.data.std = (0.3,), (0.4,)
        config.train.steps = 20
        config.log.every_steps = 5
        config.eval.every_steps = 10
    return config

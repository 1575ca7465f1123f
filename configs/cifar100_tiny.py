"""CIFAR-100 with at most 57,332 parameters: a narrow residual network, separable where it is wide, in an hour.

    python -m vision_jax.main --config=configs/cifar100_tiny.py --workdir=runs/cifar100_tiny

`tiny_resnet` has 57,252 parameters: 3×3 convolutions of 16 and 32 channels, then depthwise-separable ones of 80, global
pooling. Where channels are few, a CPU's time goes into passes over the maps and not into multiplications; images
that start at 24 pixels save a quarter of it.

64.8 % on test, 65.3 % over mirror images (10,000 images; 64.9 % on 2,000 validation images), in 101 minutes on one core
of an AMD EPYC that did other work too, one seed; the experiment's authors have 33.9 % with as many parameters. Record:
configs/results/cifar100_tiny.

'distilled' learns from the run of `cifar10_speed.py:cifar100`, asked once about every image, besides:

    --config=configs/cifar100_tiny.py:distilled \
    --config.classification.distillation.teachers="('runs/cifar100_speed',)"
"""

from vision_jax import config as config_lib

VARIANTS = ("", "distilled", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    if variant not in VARIANTS:
        raise ValueError(f"cifar100_tiny has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "cifar100"
    config.data.val_fraction = 0.04
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.data.augment = ("random_crop(padding=4, mode='reflect')", "horizontal_flip")
    config.data.mean = (0.5071, 0.4865, 0.4409)
    config.data.std = (0.2673, 0.2564, 0.2762)

    config.model.name = "tiny_resnet"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.3
    config.optimizer.weight_decay = 2e-4
    config.schedule.name = "one_cycle"
    config.schedule.peak_fraction = 0.15
    config.train.epochs = 100.0
    config.classification.train_sizes = (24, 28, 32)
    config.classification.test_time_augmentation = "flip"
    config.log.every_steps = 100
    config.eval.every_epochs = 5.0

    if variant == "distilled":
        config.classification.distillation.teachers = ("runs/cifar100_speed",)
        config.classification.distillation.precompute = True
    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.data.batch_size = 50
        config.data.mean, config.data.std = (0.3,), (0.4,)
        config.classification.train_sizes = (4, 8, 8)
        config.train.epochs = 6.0
        config.log.every_steps = 1
        config.eval.every_epochs = 2.0
    return config

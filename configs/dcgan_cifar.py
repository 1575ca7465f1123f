"""The DCGAN on CIFAR-10, or on CIFAR-100 as `dcgan_cifar.py:cifar100`: 50,000 steps of BCE.

    python -m vision_jax.main --config=configs/dcgan_cifar.py --workdir=runs/dcgan_cifar

The published figure, on CIFAR-100 after 50,000 steps, is an FID of 66.49 (protocol not stated). What this code has done
so far is a look at the beginning, on CIFAR-10 with seed 0 on a 2-core AMD EPYC VM:

    --config.train.steps=2000 --config.eval.every_steps=500     20 minutes of CPU time

Both networks learn and neither collapses (scores 0.78 on real and 0.22 on generated images), and the distance between
pooled images (`val/frechet_8x8`) falls from 1.64 after 500 steps to 0.96 after 1,500. The samples of that checkpoint
differ from each other and have the colors and layouts of the data (sky, grass, dark object on light ground), but no
recognizable objects yet.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "cifar100", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'cifar100' takes that data set, 'smoke' trains for seconds on digits."""
    if variant not in VARIANTS:
        raise ValueError(f"dcgan_cifar has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("gan")
    config.data.name = variant if variant == "cifar100" else "cifar10"
    # A GAN selects nothing on the validation split, which only feeds the cheap distance of its curve.
    config.data.val_fraction = 0.02
    config.data.batch_size = 128
    config.data.eval_batch_size = 500

    config.model.name = "dcgan"
    config.gan.latent_dim = 100

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.train.steps = 50_000
    config.log.every_steps = 100
    config.eval.every_steps = 2500

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.data.batch_size = 32
        config.train.steps = 20
        config.train.steps_per_dispatch = 5
        config.log.every_steps = 5
        config.eval.every_steps = 10
    return config

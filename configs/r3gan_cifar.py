"""R3GAN on CIFAR-10, for GPUs: 20.7 million parameters in each network, relativistic loss, R1 and R2, no normalization.

    python -m vision_jax.main --config=configs/r3gan_cifar.py --workdir=runs/r3gan_cifar

Huang et al. 2024 (arXiv 2501.05441) report an FID of 1.96 for their class-conditional model, trained on eight GPUs with
schedules of the learning rate, of the penalty and of the augmentation. This config keeps the penalty and the
augmentation constant, and nothing has been measured with it yet. Photos of your own:

    --config.data.name=folder --config.data.root=DIR --config.data.image_size=32
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains narrow networks for seconds on embedded photos."""
    if variant not in ("", "smoke"):
        raise ValueError(f"r3gan_cifar has no variant {variant!r}; it has 'smoke'.")
    config = config_lib.default("gan")
    config.data.name = "cifar10"
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.val_fraction = 0.02
    config.data.batch_size = 512
    config.data.eval_batch_size = 500
    config.data.augment = ("horizontal_flip",)

    config.model.name = "r3gan"
    config.gan.loss = "relativistic"
    config.gan.conditional = True
    config.gan.latent_dim = 64
    config.gan.r1 = 0.05
    config.gan.r2 = 0.05
    config.gan.augment = ("color", "translation", "cutout")

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.0
    config.optimizer.b2 = 0.99
    config.optimizer.ema_decay = 0.9999
    config.schedule.name = "cosine"
    config.schedule.final_fraction = 0.25
    config.train.dtype = "bfloat16"
    config.train.steps = 200_000
    config.log.every_steps = 100
    config.eval.every_steps = 10_000

    if variant == "smoke":
        config.data.name = "photo_tiles"
        config.data.limit = 40
        config.data.batch_size = 16
        config.data.val_fraction = 0.2
        config.model.r3gan_generator = dict(widths=(16, 16, 16, 8, 8), blocks=1)
        config.model.r3gan_discriminator = dict(widths=(8, 8, 16, 16, 16), blocks=1)
        config.train.dtype = "float32"
        config.train.steps = 6
        config.log.every_steps = 2
        config.eval.every_steps = 3
    return config

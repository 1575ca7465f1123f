"""The fully connected GAN on MNIST: 1,486,352 and 533,505 parameters, BCE, Adam of 2e-4 on both, 100 epochs.

    python -m vision_jax.main --config=configs/mlp_gan_mnist.py --workdir=runs/mlp_gan_mnist

Its authors show a 4x4 grid of digits and the loss of both networks per batch; the moving average and the falling rate
are ours. Nothing has been measured with this code yet. Other images of one size, also photos
(`--config.data.name=folder --config.data.root=DIR --config.data.image_size=28`), work alike.
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on digits."""
    if variant not in ("", "smoke"):
        raise ValueError(f"mlp_gan_mnist has no variant {variant!r}; it has 'smoke'.")
    config = config_lib.default("gan")
    config.data.name = "mnist"
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.val_fraction = 0.02
    config.data.batch_size = 128
    config.data.eval_batch_size = 500

    config.model.name = "mlp_gan"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.train.epochs = 100.0
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100
    config.eval.every_epochs = 5.0

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.val_fraction = 0.1
        config.data.batch_size = 32
        config.train.epochs = 4.0
        config.log.every_steps = 5
        config.eval.every_epochs = 2.0
    return config

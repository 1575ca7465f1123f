"""A small DCGAN on scikit-learn's 8x8 digits: two networks and two optimizers in one state, in a minute.

`python -m vision_jax.main --config=configs/dcgan_digits.py`

frechet_8x8 0.47 on test (359 images; Gaussians of the pixels, not FID) after 200 epochs, 14 s on 2 cores of an AMD
EPYC. Width 128 over 64 and 32 by the validation split (0.70, 0.82, 1.12). Record: configs/results/dcgan_digits.
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds."""
    config = config_lib.default("gan")
    config.data.name = "digits"
    config.data.batch_size = 64
    config.data.eval_batch_size = 256

    config.model.name = "dcgan"
    config.model.dcgan_generator = dict(width=128)
    config.model.dcgan_discriminator = dict(width=128)
    config.gan.latent_dim = 32

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.b1 = 0.5
    config.optimizer.ema_decay = 0.99
    config.train.epochs = 200.0
    config.train.steps_per_dispatch = 10
    config.log.every_epochs = 4.0
    config.eval.every_epochs = 20.0

    if variant == "smoke":
        config.data.limit = 200
        config.model.dcgan_generator.width = config.model.dcgan_discriminator.width = 16
        config.train.epochs = 4.0
        config.eval.every_epochs = 2.0
    return config

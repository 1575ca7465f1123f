"""A two-convolution CNN from scratch on SVHN's cropped digits."""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits."""
    config = config_lib.default("classification")
    config.data.name = "svhn_cropped"
    config.data.batch_size = 128
    config.data.eval_batch_size = 500
    config.data.mean = (0.4377, 0.4438, 0.4728)
    config.data.std = (0.1980, 0.2010, 0.1970)

    config.model.name = "svhn_cnn"
    config.model.svhn_cnn = dict(dropout=0.5)

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.train.epochs = 15.0
    config.train.steps_per_dispatch = 10
    config.log.every_steps = 100

    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 200
        config.data.mean = (0.3,)
        config.data.std = (0.4,)
        config.train.epochs = 4.0
        config.log.every_steps = 4
    return config

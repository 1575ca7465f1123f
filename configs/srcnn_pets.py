"""SRCNN 9-5-5 on the pets of Oxford-IIIT, 256x256, x2: the mean squared error alone."""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on tiles of scikit-learn's two photos."""
    config = config_lib.default("super_resolution")
    config.data.name = "oxford_iiit_pet"
    config.data.image_size = 256
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.interpolation = "bicubic"
    config.data.batch_size = 16
    config.data.augment = (
        "horizontal_flip",
        "vertical_flip",
        "color_jitter(brightness=0.2, contrast=0.2, saturation=0.2)",
    )

    config.model.name = "srcnn"
    config.super_resolution.scale = 2
    config.super_resolution.patch_size = 64

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "cosine"
    config.train.steps = 20_000
    config.log.every_steps = 100
    config.eval.every_steps = 2000

    if variant == "smoke":
        config.data.name = "photo_tiles"
        config.data.image_size = 64
        config.data.limit = 32
        config.model.srcnn = dict(features=(8, 8), kernel_sizes=(5, 1, 3))
        config.super_resolution.patch_size = 32
        config.train.steps = 12
        config.log.every_steps = 4
        config.eval.every_steps = 6
    return config

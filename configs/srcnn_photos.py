"""SRCNN 9-5-5, x2, on tiles of scikit-learn's two photos: PSNR against bicubic interpolation, in minutes.

`python -m vision_jax.main --config=configs/srcnn_photos.py`

psnr_y_x2_shave2 on 24 test tiles: 38.39 dB, bicubic 38.33 dB, after 1,000 steps in 251 s on 2 busy cores of an AMD
EPYC. Two photos are too few for more; without `residual` the network stayed below bicubic interpolation (37.39 dB
after 2,000 steps). Record: configs/results/srcnn_photos.
"""

from vision_jax import config as config_lib


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds."""
    config = config_lib.default("super_resolution")
    config.data.name = "photo_tiles"
    config.data.val_fraction = 0.1
    config.data.test_fraction = 0.2
    config.data.batch_size = 16
    config.data.augment = ("horizontal_flip", "rot90")

    config.model.name = "srcnn"
    config.model.srcnn = dict(residual=True)
    config.super_resolution.scale = 2
    config.super_resolution.patch_size = 32

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "cosine"
    config.train.steps = 1000
    config.log.every_steps = 50
    config.eval.every_steps = 100

    if variant == "smoke":
        config.data.limit = 32
        config.model.srcnn.update(features=(8, 8), kernel_sizes=(5, 1, 3))
        config.train.steps = 12
        config.log.every_steps = 4
        config.eval.every_steps = 6
    return config

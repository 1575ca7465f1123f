"""A three-layer CNN from scratch on a folder of photos, with augmentation.

Name the folder, one sub-folder per class, with or without train/val/test above them:

    python -m vision_jax.main --config=configs/photos_cnn.py --config.data.root=~/photos --workdir=runs/photos

On nine classes of clothing (CC0 photos, short side 256; 742 images train, 185 test cut from them, the given 232 are
validation), with `--config.data.cache=True`: 62.7 % test accuracy (59.5 % validation), 27 minutes on a busy core of an
AMD EPYC. Record: configs/results/photos_cnn.
"""

from vision_jax import config as config_lib
from vision_jax.data import samples


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on a folder of tiles of scikit-learn's two photos."""
    config = config_lib.default("classification")
    config.data.name = "folder"
    config.data.image_size = 128
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.batch_size = 32
    config.data.augment = (
        "random_resized_crop(scale=(0.5, 1.0))",
        "horizontal_flip",
        "color_jitter(brightness=0.2, contrast=0.2, saturation=0.2)",
    )
    config.data.mean = (0.5,)
    config.data.std = (0.25,)

    config.model.name = "garbage_cnn"
    config.model.garbage_cnn = dict(dropout=0.5)

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.train.epochs = 40.0
    config.log.every_epochs = 1.0
    config.eval.every_epochs = 2.0

    if variant == "smoke":
        config.data.root = samples.photo_folder()
        config.data.image_size = 32
        config.model.garbage_cnn.channels = (8, 16, 32)
        config.train.epochs = 4.0
        config.log.every_steps = 1
        config.log.every_epochs = 0.0
    return config

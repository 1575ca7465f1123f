"""Garbage by photo (TrashNet, six classes): a three-block CNN from scratch, with and without augmentation.

Name the folder, one sub-folder per class; it is split 70/15/15, stratified:

    python -m vision_jax.main --config=configs/garbage_cnn.py:augmented --config.data.root=~/dataset-resized \
        --workdir=runs/garbage_cnn_augmented

No variant is the experiment's own network, three convolutions and a hidden layer of 128 (4,288,454 parameters), without
augmentation: its authors reached 99.7 % on the training images. The training split is evaluated, too, so that the page
shows how far the two are apart. ':augmented' is the same network with augmentation (theirs: 77.27 %), ':best' four
blocks of two convolutions with BatchNorm, shortcuts and global pooling (1,217,862 parameters), longer: about 1.1 PFLOP
for TrashNet, an hour and a half on two cores. Nothing has been measured with this code yet.
"""

from vision_jax import config as config_lib
from vision_jax.data import samples

VARIANTS = ("", "augmented", "best", "smoke")
AUGMENT = (
    "random_resized_crop(scale=(0.4, 1.0))",
    "horizontal_flip",
    "vertical_flip",
    "color_jitter(brightness=0.2, contrast=0.2, saturation=0.2)",
)


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on a folder of tiles of scikit-learn's two photos."""
    if variant not in VARIANTS:
        raise ValueError(f"garbage_cnn has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "folder"
    config.data.test_fraction = 0.15
    config.data.val_fraction = 0.15 / 0.85  # Of what the test split leaves.
    config.data.image_size = 128
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.cache = True
    config.data.batch_size = 32
    config.data.mean = (0.5,)
    config.data.std = (0.25,)
    config.eval.train = True

    config.model.name = "garbage_cnn"
    config.model.garbage_cnn = dict(dropout=0.5)

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    config.train.epochs = 40.0
    config.log.every_epochs = 1.0
    config.eval.every_epochs = 2.0

    if variant in ("augmented", "best"):
        config.data.augment = AUGMENT
        config.train.epochs = 80.0
        config.classification.test_time_augmentation = "flip"
    if variant == "best":
        config.model.garbage_cnn = dict(
            channels=(32, 64, 128, 256),
            convs_per_block=2,
            norm="batch",
            use_bias=False,
            residual=True,
            hidden=(),
            global_pool=True,
            dropout=0.3,
        )
        config.optimizer.learning_rate = 3e-3
        config.optimizer.weight_decay = 5e-2
        config.schedule.name = "one_cycle"
        config.schedule.warmup_epochs = 0.0
        config.train.epochs = 120.0
        config.train.label_smoothing = 0.1
    if variant == "smoke":
        config.data.root = samples.photo_folder()
        config.data.image_size = 32
        config.data.cache = False
        config.model.garbage_cnn.channels = (8, 16, 32)
        config.train.epochs = 4.0
        config.log.every_steps, config.log.every_epochs = 1, 0.0
    return config

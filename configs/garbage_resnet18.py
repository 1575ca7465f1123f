"""Garbage by photo (TrashNet, six classes): ResNet-18 with ImageNet weights, its head alone or all of it.

Name the folder, one sub-folder per class; it is split 70/15/15, stratified:

    python -m vision_jax.main --config=configs/garbage_resnet18.py:fine_tuned_augmented \
        --config.data.root=~/dataset-resized --workdir=runs/garbage_resnet18_fine_tuned_augmented

No variant trains the head on features computed once (the experiment's authors: 83.06 %); ':augmented' trains the head
on augmented images (81.67 %), ':fine_tuned' and ':fine_tuned_augmented' all layers, at rates that fall towards the
input, with BatchNorm's statistics fixed. The photos' full height is seen, at more pixels where only the head trains.
Weights come from the cache or torchvision's site; `--config.model.weights=FILE` names a file. The training split is
evaluated, too. Nothing has been measured with this code yet; that the head's rate is 3e-3 comes from heads trained on
features of other photos, of which 1e-3 has two points less on validation.
"""

import pathlib
import runpy

from vision_jax import config as config_lib
from vision_jax.data import samples

VARIANTS = ("", "augmented", "fine_tuned", "fine_tuned_augmented", "smoke")
_CNN = runpy.run_path(str(pathlib.Path(__file__).with_name("garbage_cnn.py")))


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on tiles of scikit-learn's photos, without weights."""
    if variant not in VARIANTS:
        raise ValueError(f"garbage_resnet18 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "folder"
    config.data.test_fraction = 0.15
    config.data.val_fraction = 0.15 / 0.85  # Of what the test split leaves.
    config.data.image_size = 288
    config.data.crop_fraction = 1.0
    config.data.train_crop = "center"
    config.data.cache = True
    config.data.batch_size = 32
    config.eval.train = True

    config.model.name = "resnet18"
    config.model.weights = "imagenet"
    config.model.freeze = ("all_but", "head")
    config.model.cache_features = variant in ("", "smoke")

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.train.epochs = 30.0
    config.log.every_epochs = 1.0

    if variant.endswith("augmented"):
        config.data.augment = _CNN["AUGMENT"]
        config.train.epochs = 15.0
        config.eval.every_epochs = 3.0
        config.classification.test_time_augmentation = "flip"
    if variant.startswith("fine_tuned"):
        config.data.image_size = 256
        config.model.freeze = ()
        config.model.freeze_statistics = True  # Batches are small, and some files have theirs folded into the scale.
        config.optimizer.learning_rate = 1e-3
        config.optimizer.stage_decay = 0.5
        config.schedule.warmup_epochs = 1.0
        config.train.epochs = 20.0
        config.train.label_smoothing = 0.1
        config.eval.every_epochs = 4.0
    if variant == "smoke":
        config.data.root = samples.photo_folder()
        config.data.image_size = 32
        config.data.cache = False
        config.model.weights = ""
        config.model.resnet18 = dict(width=8)
        config.train.epochs = 2.0
    return config

"""ResNet-18 with ImageNet weights, fine-tuned on a folder of photos: the head alone, on features computed once.

    python -m vision_jax.main --config=configs/resnet18_photos.py --config.data.root=~/photos --workdir=runs/photos

Weights come from the cache or torchvision's site; `--config.model.weights=FILE` names a file. Variant 'layer4' trains
the last stage too, at a tenth of the head's rate, on random crops, with BatchNorm's statistics fixed.

On nine classes of clothing (CC0 photos, short side 256; 742 images train, 185 test cut from them, the given 232 are
validation), from an ImageNet ResNet-18 of 66.7 % top-1 with BatchNorm folded, whose file does not say how to
preprocess (`--config.data.image_size=224`, ImageNet's mean and std), on an AMD EPYC: the head alone 79.6 % test
accuracy (mean of seeds 0 to 2, deviation 0.3; 82 % validation), features and 30 epochs in 2 minutes on one core;
'layer4' 80.7 % (the same seeds, deviation 3.0; 82 % validation), within chance the same, after 4 minutes on 2 quiet
cores. From scratch, `photos_cnn.py` has 62.7 %. Records: configs/results/resnet18_photos, resnet18_photos_layer4, and
the same with _1 and _2.
"""

from vision_jax import config as config_lib
from vision_jax.data import samples

VARIANTS = ("", "layer4", "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on tiles of scikit-learn's photos, without weights."""
    if variant not in VARIANTS:
        raise ValueError(f"resnet18_photos has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "folder"
    config.data.batch_size = 32
    config.data.test_fraction = 0.2
    config.data.train_crop = "center"

    config.model.name = "resnet18"
    config.model.weights = "imagenet"
    config.model.freeze = ("all_but", "head")
    config.model.cache_features = True

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "cosine"
    config.train.epochs = 30.0
    config.log.every_epochs = 1.0

    if variant == "layer4":
        config.model.freeze = ("all_but", "layer4", "head")
        config.model.freeze_statistics = True  # The file's are folded into scale and bias; batches are small besides.
        config.model.cache_features = False
        config.data.train_crop = "random_resized"
        config.data.augment = ("horizontal_flip",)
        config.optimizer.stage_decay = 0.1
        config.eval.every_epochs = 2.0
        config.train.epochs = 10.0
    if variant == "smoke":
        config.data.root = samples.photo_folder()
        config.data.image_size = 32
        config.model.weights = ""
        config.train.epochs = 2.0
    return config

"""CIFAR-100 with pretrained networks, each with its own preprocessing: a new head on features computed once.

    python -m vision_jax.main --config=configs/cifar100_transfer.py:resnet50 --workdir=runs/cifar100_resnet50

Variants: 'resnet50' (also what no variant gives), 'vgg16', 'mobilenet_v2'; with '_fine_tuned' behind it all layers
train, at rates that fall towards the input, on random crops and mirror images. Images are resized to 224 pixels, mean
and standard deviation are the weights'. Weights come from the cache or torchvision's site;
`--config.model.weights=FILE` names a file. Features of 60,000 images are about 490 TFLOP for ResNet-50, 1,900 for
VGG-16 and 38 for MobileNet-v2, and are computed anew by each start; on two cores MobileNet's take minutes, VGG's hours,
and fine-tuning is for a GPU. Nothing has been measured with this code yet.
"""

from vision_jax import config as config_lib

NETWORKS = ("resnet50", "vgg16", "mobilenet_v2")
VARIANTS = ("", *NETWORKS, *(f"{name}_fine_tuned" for name in NETWORKS), "smoke")


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on scikit-learn's digits, without weights."""
    if variant not in VARIANTS:
        raise ValueError(f"cifar100_transfer has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}.")
    config = config_lib.default("classification")
    config.data.name = "cifar100"
    config.data.image_size = 224
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.interpolation = "bicubic"
    config.data.batch_size = 128

    network = variant.removesuffix("_fine_tuned")
    config.model.name = network if network in NETWORKS else NETWORKS[0]
    config.model.weights = "imagenet"
    config.model.freeze = ("all_but", "head")
    config.model.cache_features = True

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.name = "cosine"
    config.train.epochs = 30.0
    config.train.label_smoothing = 0.1
    config.log.every_epochs = 0.5

    if network != variant:
        config.data.batch_size = 64
        config.data.augment = ("random_crop(padding=28, mode='reflect')", "horizontal_flip")
        config.model.freeze = ()
        config.model.cache_features = False
        config.optimizer.stage_decay = 0.7
        if network == "vgg16":
            config.optimizer.learning_rate = 3e-4  # Large steps throw it off: it has no normalization.
        config.train.epochs = 8.0
        config.schedule.warmup_epochs = 0.5
    if variant == "smoke":
        config.data.name = "digits"
        config.data.limit = 60
        config.data.image_size = 32
        config.data.batch_size = 20
        config.data.mean, config.data.std = (0.3,), (0.4,)
        config.model.weights = ""
        config.model.resnet50 = dict(width=8)
        config.train.epochs = 3.0
    return config

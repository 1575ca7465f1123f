"""SRCNN as in its paper: trained on T91 alone, tested on Set5, luma, x2, x3 and x4; beside it FSRCNN and ESPCN."""

from vision_jax import config as config_lib

VARIANTS = (
    *("", "x2", "x3", "x4", "smoke"),
    *(f"{network}_{scale}" for network in ("935", "955", "fsrcnn", "espcn") for scale in ("x2", "x3", "x4")),
)


def get_config(variant: str = ""):
    if variant not in VARIANTS:
        raise ValueError(f"srcnn_t91 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}")
    network, _, scale = variant.rpartition("_")
    config = config_lib.default("super_resolution")
    config.data.name = "t91"
    config.data.val_fraction = 0.05
    config.data.test_fraction = 0.0
    config.data.batch_size = 16
    config.data.augment = ("horizontal_flip", "rot90")

    config.super_resolution.scale = int(scale.removeprefix("x")) if scale.startswith("x") else 2
    config.super_resolution.channels = "y"
    config.super_resolution.rounded = False
    config.super_resolution.shrink = (0.8, 0.6)
    if network in ("fsrcnn", "espcn"):
        config.model.name = network
        config.super_resolution.patch_size = 48
        config.super_resolution.border = 6
    else:
        config.model.name = "srcnn"
        sizes = {"": (9, 1, 5), "935": (9, 3, 5), "955": (9, 5, 5)}[network]
        config.model.srcnn = dict(kernel_sizes=sizes, residual=True)
        config.super_resolution.patch_size = 72
        config.super_resolution.border = 4

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.train.steps = 20_000
    config.log.every_steps = 100
    config.eval.every_steps = 1000

    if variant == "smoke":
        config.data.name = "photo_tiles"
        config.data.limit = 32
        config.data.batch_size = 4
        config.model.srcnn.update(features=(8, 8))
        config.super_resolution.patch_size = 40
        config.super_resolution.shrink = ()
        config.train.steps = 12
        config.log.every_steps = 4
        config.eval.every_steps = 6
    return config

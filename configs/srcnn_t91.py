"""SRCNN as in its paper: trained on T91 alone, tested on Set5, luma, x2, x3 and x4; beside it FSRCNN and ESPCN.

`python -m vision_jax.main --config=configs/srcnn_t91.py:x2 --config.data.data_dir=FOLDER` (of T91 and Set5)
`:x2`, `:x3`, `:x4` are 9-1-5; `:935_x2` and `:955_x2` have the larger kernels; `:fsrcnn_x2`, `:espcn_x2` …

9-1-5, x2: 36.49 dB (psnr_y_x2_shave2), SSIM 0.9530 on Set5; bicubic interpolation 33.66 dB, 0.9299; published 36.34.
20,000 steps in 18 min on one core of an AMD EPYC that was shared. Other than in the paper, the network learns the
difference to bicubic interpolation, by Adam with a cosine, and smaller copies of the pictures are added. Record:
configs/results/srcnn_t91_x2.
9-1-5, x3: 32.48 dB (psnr_y_x3_shave3), SSIM 0.9051; bicubic interpolation 30.39 dB, 0.8682; published 32.39. 13 min.
Record: configs/results/srcnn_t91_x3.
9-1-5, x4: 30.16 dB (psnr_y_x4_shave4), SSIM 0.8530; bicubic interpolation 28.42 dB, 0.8104; published 30.09. 10 min.
Record: configs/results/srcnn_t91_x4.
9-5-5, x2: 36.71 dB, SSIM 0.9545; published 36.66 after training on ImageNet. 20,000 steps, 75 min of one core's time
(4.5 steps/s). Record: configs/results/srcnn_t91_955_x2. The others: not measured yet.
"""

from vision_jax import config as config_lib

VARIANTS = (
    *("", "x2", "x3", "x4", "smoke"),
    *(f"{network}_{scale}" for network in ("935", "955", "fsrcnn", "espcn") for scale in ("x2", "x3", "x4")),
)


def get_config(variant: str = ""):
    if variant not in VARIANTS:
        raise ValueError(f"srcnn_t91 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}")
    network, _, scale = variant.rpartition("_")
    config = t91(scale)
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
        if network:  # At 0.001 from the first step on, the second layer of 9-5-5 died within 1,000 steps.
            config.optimizer.learning_rate = 3e-4
            config.schedule.warmup_steps = 500
    config.train.steps = 20_000
    if variant == "smoke":
        smoke(config)
        config.model.srcnn.update(features=(8, 8))
        config.super_resolution.patch_size = 40
    return config


def t91(scale: str):
    """Returns what networks trained on T91 have in common: luma, 'x2' to 'x4', Adam with a cosine."""
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

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.log.every_steps = 100
    config.eval.every_steps = 1000
    return config


def smoke(config):
    """Makes it a matter of seconds, on tiles of scikit-learn's photos."""
    config.data.name = "photo_tiles"
    config.data.limit = 32
    config.data.batch_size = 4
    config.super_resolution.shrink = ()
    config.schedule.warmup_steps = 0
    config.train.steps = 12
    config.log.every_steps = 4
    config.eval.every_steps = 6

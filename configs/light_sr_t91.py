"""A light network of 24,116 parameters, trained on T91 alone, tested on Set5, luma, x2, x3 and x4.

`python -m vision_jax.main --config=configs/light_sr_t91.py:x2 --config.data.data_dir=FOLDER` (of T91 and Set5)

x2: 37.34 dB (psnr_y_x2_shave2), SSIM 0.9578 on Set5; bicubic interpolation 33.66 dB, 0.9299. 30,000 steps in 29 min
on one core of an AMD EPYC, shared. Published: ESPCN 36.8 (21,000 parameters), FSRCNN 37.00 (12,000, more data).
It trains with 145,088 parameters. The learning rate was chosen on 5 held-out images of T91 after 800 steps: gains over
bicubic interpolation of 1.25 dB at 0.0005 and 1.40 at 0.001; from 0.002 on it stayed below. Record:
configs/results/light_sr_t91_x2.
x3: 33.38 dB (psnr_y_x3_shave3), SSIM 0.9187; bicubic interpolation 30.39 dB, 0.8682. 30,000 steps in 21 min. Record:
configs/results/light_sr_t91_x3.
x4: 30.93 dB (psnr_y_x4_shave4), SSIM 0.8755; bicubic interpolation 28.42 dB, 0.8104. 30,000 steps in 24 min. Record:
configs/results/light_sr_t91_x4.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "x2", "x3", "x4", "smoke")


def get_config(variant: str = ""):
    if variant not in VARIANTS:
        raise ValueError(f"light_sr_t91 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}")
    scale = int(variant.removeprefix("x")) if variant.startswith("x") else 2
    config = config_lib.default("super_resolution")
    config.data.name = "t91"
    config.data.val_fraction = 0.05
    config.data.test_fraction = 0.0
    config.data.batch_size = 16
    config.data.augment = ("horizontal_flip", "rot90")

    config.model.name = "light_sr"
    config.model.light_sr = dict(depth=9 if scale == 4 else 10)  # x4 ends in more channels; at most 25,000 in use.
    config.super_resolution.scale = scale
    config.super_resolution.channels = "y"
    config.super_resolution.rounded = False
    config.super_resolution.shrink = (0.8, 0.6)
    config.super_resolution.patch_size = 32 * scale
    config.super_resolution.border = 2 * scale
    config.super_resolution.losses.mse = 0.0
    config.super_resolution.losses.charbonnier = 1.0

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.ema_decay = 0.999
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = 500
    config.train.steps = 30_000
    config.log.every_steps = 100
    config.eval.every_steps = 1000

    if variant == "smoke":
        config.data.name = "photo_tiles"
        config.data.limit = 32
        config.data.batch_size = 4
        config.model.light_sr.update(features=4, depth=2)
        config.super_resolution.shrink = ()
        config.schedule.warmup_steps = 2
        config.train.steps = 12
        config.log.every_steps = 4
        config.eval.every_steps = 6
    return config

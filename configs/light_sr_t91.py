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

import pathlib
import runpy

_T91 = runpy.run_path(str(pathlib.Path(__file__).with_name("srcnn_t91.py")))

VARIANTS = ("", "x2", "x3", "x4", "smoke")


def get_config(variant: str = ""):
    if variant not in VARIANTS:
        raise ValueError(f"light_sr_t91 has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}")
    config = _T91["t91"](variant)
    scale = config.super_resolution.scale
    config.model.name = "light_sr"
    config.model.light_sr = dict(depth=9 if scale == 4 else 10)  # x4 ends in more channels; at most 25,000 in use.
    config.super_resolution.patch_size = 32 * scale
    config.super_resolution.border = 2 * scale
    config.super_resolution.losses.mse = 0.0
    config.super_resolution.losses.charbonnier = 1.0
    config.schedule.warmup_steps = 500
    config.train.steps = 30_000
    if variant == "smoke":
        _T91["smoke"](config)
        config.model.light_sr.update(features=4, depth=2)
    return config

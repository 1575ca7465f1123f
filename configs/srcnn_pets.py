"""SRCNN 9-5-5 on the pets of Oxford-IIIT, 256x256, x2: squared error and VGG-16's features, or the squared error alone.

`python -m vision_jax.main --config=configs/srcnn_pets.py` trains with the perceptual loss, `:mse` without; both are
evaluated by PSNR, SSIM and the distance in the same features, beside bicubic interpolation. `:photos` and `:photos_mse`
are the same on a folder of photos, for those who have their own, with ResNet-18 in place of VGG-16:
`--config.data.root=FOLDER --config.super_resolution.perceptual.weights=FILE`.

The pets are not measured yet. `:photos` was, on nine classes of clothing (742 training photos, 185 for test), each 52
minutes or less on one core of an AMD EPYC that did other work too, test split:

    loss                        luma PSNR   distance in ResNet-18's features
    squared error (photos_mse)  34.94 dB    0.0810
    and perceptual (photos)     34.52 dB    0.0734 (34 % less than bicubic)
    bicubic interpolation       33.06 dB    0.1107

The weight was chosen on validation: 0.1 for 3,000 steps gave 32 % less than bicubic, 0.2 for 6,000 steps 33 %. Records:
configs/results/srcnn_pets_photos, srcnn_pets_photos_mse. `:smoke` needs neither pets nor weights: it minimizes the
squared error alone.
"""

from vision_jax import config as config_lib

VARIANTS = ("", "mse", "photos", "photos_mse", "smoke")


def get_config(variant: str = ""):
    if variant not in VARIANTS:
        raise ValueError(f"srcnn_pets has no variant {variant!r}; it has {', '.join(filter(None, VARIANTS))}")
    config = config_lib.default("super_resolution")
    config.data.name = "oxford_iiit_pet"
    config.data.image_size = 256
    config.data.train_crop = "center"
    config.data.crop_fraction = 1.0
    config.data.interpolation = "bicubic"
    config.data.batch_size = 16
    config.data.augment = (
        "horizontal_flip",
        "vertical_flip",
        "color_jitter(brightness=0.2, contrast=0.2, saturation=0.2)",
    )

    config.model.name = "srcnn"
    config.model.srcnn = dict(residual=True)
    config.super_resolution.scale = 2
    config.super_resolution.patch_size = 64
    config.super_resolution.border = 4
    config.super_resolution.losses.mse = 1.0
    config.super_resolution.losses.perceptual = 0.0 if variant.endswith("mse") else 0.01
    config.super_resolution.perceptual.measure = True

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-4  # As `srcnn_t91.py:955_x2`, which died at 0.001.
    config.schedule.name = "cosine"
    config.schedule.warmup_steps = 500
    config.train.steps = 20_000
    config.log.every_steps = 100
    config.eval.every_steps = 2000

    if variant.startswith("photos"):
        config.data.name = "folder"
        config.data.batch_size = 8
        config.model.srcnn.kernel_sizes = (9, 1, 5)
        config.optimizer.learning_rate = 1e-3
        config.schedule.warmup_steps = 0
        config.super_resolution.losses.perceptual = 0.0 if variant == "photos_mse" else 0.2
        config.super_resolution.perceptual.network = "resnet18"
        config.super_resolution.perceptual.layers = ("stem", "layer1")
        config.super_resolution.perceptual.layer_weights = (1.0, 1.0)
        config.train.steps = 6000
        config.eval.every_steps = 1000
        config.eval.limit = 50
    if variant == "smoke":
        config.data.name = "photo_tiles"
        config.data.image_size = 64
        config.data.limit = 32
        config.data.batch_size = 4
        config.model.srcnn.update(features=(8, 8), kernel_sizes=(5, 1, 3))
        config.super_resolution.patch_size = 32
        config.super_resolution.losses.perceptual = 0.0
        config.super_resolution.perceptual.measure = False
        config.schedule.warmup_steps = 0
        config.train.steps = 12
        config.log.every_steps = 4
        config.eval.every_steps = 6
    return config

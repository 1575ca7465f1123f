"""A three-layer CNN from scratch on a folder of photos, with augmentation.

Name the folder, one sub-folder per class, with or without train/val/test above them:

    python -m vision_jax.main --config=configs/photos_cnn.py --config.data.root=~/photos --workdir=runs/photos
"""

from vision_jax import config as config_lib


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
    config.model.dropout = 0.5

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.train.epochs = 40.0
    config.log.every_epochs = 1.0
    config.eval.every_epochs = 2.0

    if variant == "smoke":
        config.data.root = _tiles()
        config.data.image_size = 32
        config.model.channels = (8, 16, 32)
        config.train.epochs = 4.0
        config.log.every_steps = 1
        config.log.every_epochs = 0.0
    return config


def _tiles() -> str:
    """Cuts scikit-learn's two photos into a folder of two classes with 60 JPEGs each, once."""
    import pathlib
    import tempfile

    from PIL import Image
    from sklearn.datasets import load_sample_images

    from vision_jax import cache

    folder = cache.cache_dir("data") / "photo_tiles_by_class"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            tiles = pathlib.Path(temporary, "tiles")
            for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
                (tiles / name).mkdir(parents=True)
                for number in range(60):
                    y, x = 64 * (number // 10), 64 * (number % 10)
                    Image.fromarray(photo[y : y + 64, x : x + 64]).save(tiles / name / f"{number:02}.jpg")
            tiles.rename(folder)
    return str(folder)

"""Sample data as users have theirs, made from what scikit-learn embeds: nothing is downloaded."""

import contextlib

from PIL import Image
from sklearn.datasets import load_sample_images

from vision_jax.utils import files


def photo_folder() -> str:
    """Cuts scikit-learn's two photos into 60 JPEGs of 64x64 each, once; returns the folder ROOT/{temple,flower}."""
    folder = files.cache_dir("data") / "photo_tiles_by_class"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Where another process is faster, its tiles are the same.
        with contextlib.suppress(FileExistsError), files.atomic_folder(folder) as tiles:
            for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
                (tiles / name).mkdir(parents=True)
                for number in range(60):
                    y, x = 64 * (number // 10), 64 * (number % 10)
                    Image.fromarray(photo[y : y + 64, x : x + 64]).save(tiles / name / f"{number:02}.jpg")
    return str(folder)

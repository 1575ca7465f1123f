"""Draws every augmentation on one picture: `python -m vision_jax.tools.show_augment --output=augmentations.png`.

With `--operation` (repeatable) it draws several draws of the operations given, as a configuration would apply them:

    python -m vision_jax.tools.show_augment --image=cat.jpg --operation="affine(degrees=30)" --operation=mixup
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vision_jax import command_line
from vision_jax.data import augment, decode

_OUTPUT = flags.DEFINE_string("output", "augmentations.png", "The PNG file to write.")
_IMAGE = flags.DEFINE_string("image", None, "A picture; by default scikit-learn's photo of a temple.")
_OPERATIONS = flags.DEFINE_multi_string("operation", [], "An augmentation to draw; by default one of each.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the draws.")

TILE = 128  # side of one picture in the grid, in pixels
COLUMNS = 6
_LABEL = 30  # height of the text below it

# Strong enough to be seen; operations that leave some images alone are made sure to act.
SHOWN = (
    "horizontal_flip(p=1)",
    "alternating_flip",
    "vertical_flip(p=1)",
    "transpose(p=1)",
    "rot90",
    "random_crop(padding=24, mode='reflect')",
    "random_resized_crop(scale=(0.2, 0.5))",
    "translate(x=0.25, y=0.25)",
    "rotation(degrees=45)",
    "affine(degrees=20, scale=(0.7, 0.9), shear=20)",
    "color_jitter(brightness=0.3, contrast=0.3, saturation=0.9, hue=0.4)",
    "grayscale(p=1)",
    "cutout(size=48)",
    "random_erasing(p=1, value='random')",
    "mixup(alpha=5)",
    "cutmix(alpha=5)",
    "rand_augment(magnitude=15)",
    "trivial_augment",
)


def draw(pictures: np.ndarray, specs: Sequence[str], seed: int, count: int) -> list[np.ndarray]:
    """Augments pictures with all of `specs` in turn.

    Args:
      pictures: uint8 [2, H, W, 3]; the first is shown, the second is the partner of operations that mix.
      specs: augmentations.
      seed: of the draws.
      count: how many draws to return.

    Returns:
      `count` float32 arrays [H, W, 3].
    """
    batch = {"image": np.tile(pictures, (count, 1, 1, 1)).astype(np.float32) / 255}
    batch["label"] = np.tile(np.arange(2, dtype=np.int32), count)
    images = jax.jit(augment.build(specs, num_classes=2))(jax.random.key(seed), batch)["image"]
    return list(np.asarray(images[::2]))


def grid(tiles: Sequence[np.ndarray], labels: Sequence[str]) -> Image.Image:
    """Lays pictures (float32 [TILE, TILE, 3] in [0, 1]) out in rows, each above its label."""
    rows = -(-len(tiles) // COLUMNS)
    step = TILE + 6
    sheet = Image.new("RGB", (COLUMNS * step + 6, rows * (step + _LABEL) + 6), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        x, y = 6 + index % COLUMNS * step, 6 + index // COLUMNS * (step + _LABEL)
        sheet.paste(Image.fromarray(np.rint(tile * 255).astype(np.uint8)), (x, y))
        pen.multiline_text((x, y + TILE + 1), _wrap(label, font), fill="black", font=font, spacing=1)
    return sheet


def _wrap(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Breaks a label into lines as wide as a tile."""
    lines = [""]
    for word in label.replace("(", " (", 1).split(" "):
        glue = " " if lines[-1] and not word.startswith("(") else ""
        if lines[-1] and font.getlength(lines[-1] + glue + word) > TILE:
            lines.append(word)
        else:
            lines[-1] += glue + word
    return "\n".join(lines)


def _load(path: str | None) -> np.ndarray:
    """The picture and a partner, cut to a square and resized: uint8 [2, TILE, TILE, 3]."""
    from sklearn.datasets import load_sample_image

    partner = Image.fromarray(load_sample_image("flower.jpg"))
    picture = Image.fromarray(decode.decode_image(path)) if path else Image.fromarray(load_sample_image("china.jpg"))
    fitted = [ImageOps.fit(p, (TILE, TILE), Image.Resampling.BICUBIC) for p in (picture, partner)]
    return np.stack([np.asarray(p) for p in fitted])


def main(argv: Sequence[str]) -> None:
    """Writes the picture."""
    if len(argv) > 1:
        sys.exit(f"ERROR: Unexpected argument {argv[1]!r}; flags start with '--', `--help` lists them.")
    command_line.quiet()
    with command_line.sentences(ValueError, OSError):
        pictures = _load(_IMAGE.value)
        if _OPERATIONS.value:
            tiles = draw(pictures, _OPERATIONS.value, _SEED.value, 3 * COLUMNS - 1)
            labels = [", ".join(_OPERATIONS.value), *[""] * (len(tiles) - 1)]
        else:
            tiles = [draw(pictures, (spec,), _SEED.value, 1)[0] for spec in SHOWN]
            labels = list(SHOWN)
    original = pictures[0].astype(np.float32) / 255
    sheet = grid([original, *tiles], ["original", *labels])
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    # A palette of 256 colors: a third of the size, and a README needs no more.
    sheet.quantize(256).save(output, optimize=True)
    print(f"Wrote {output} ({output.stat().st_size / 1000:.0f} kB).")


if __name__ == "__main__":
    command_line.run(main)

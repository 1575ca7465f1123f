"""Enlarges pictures with the super-resolution network of a run.

    python -m vision_jax.tools.upscale photo.jpg large.png --workdir=runs/light
    python -m vision_jax.tools.upscale photos/ enlarged/ --workdir=runs/light --scale=4

A folder's pictures are written to OUT as PNG files under the same names. A transparency is enlarged by bicubic
interpolation; a color profile is kept. Pictures larger than a tile are enlarged tile by tile, without seams.
A file that is no usable picture is reported on stderr and the rest goes on; the exit status is 0 when every picture was
enlarged, 1 when some were not, 2 when nothing was done.
"""

import io
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image, ImageOps
from tqdm import tqdm

from vision_jax import command_line, inference
from vision_jax.checkpoints import CheckpointError
from vision_jax.data import decode
from vision_jax.ops import resize
from vision_jax.utils import files
from vision_jax.utils.text import printable

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": dict(quality=95, subsampling=0), "WEBP": dict(lossless=True)}
_METHOD = "pillow_bicubic"  # Of the transparency.


def destinations(source: pathlib.Path, out: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Returns which files become which.

    Raises:
        ValueError: nothing to do, an ending that is not written, or two pictures for one file.
    """
    if not source.exists():
        raise ValueError(f"there is no file or folder {source}.")
    if source.is_file():
        if out.is_dir():
            out = out / f"{source.stem}.png"
        if out.suffix.lower() not in _FORMATS:
            raise ValueError(f"{out} ends in {out.suffix!r}; written are {', '.join(_FORMATS)}.")
        if out.resolve() == source.resolve():
            raise ValueError(f"{out} is the picture itself; name another file.")
        return [(source, out)]
    if out.suffix.lower() in _FORMATS or out.is_file():
        raise ValueError(f"{source} is a folder, so OUT has to be one, too; found {out}.")
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} is the folder of the pictures itself; name another.")
    found = [p for p in sorted(source.rglob("*")) if p.is_file() and p.suffix.lower() in decode.EXTENSIONS]
    found = [path for path in found if out.resolve() not in path.resolve().parents]  # An OUT inside of IN.
    if not found:
        raise ValueError(f"there is no picture ({', '.join(decode.EXTENSIONS)}) in {source}.")
    pairs = [(path, out / path.relative_to(source).with_suffix(".png")) for path in found]
    taken: dict[pathlib.Path, pathlib.Path] = {}
    for path, target in pairs:
        if target in taken:
            raise ValueError(f"{taken[target]} and {path} would both become {target}; rename one.")
        taken[target] = path
    return pairs


def read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None, bytes | None]:
    """Reads a picture, upright: pixels uint8 [H, W, 1 or 3], transparency [H, W, 1] or None, color profile or None.

    Raises:
        ImageError: it is no usable picture; the message says why.
        OSError: it cannot be read.
    """
    content = decode.FileContent.read(str(path))
    with decode.naming(content):
        image = decode.open_image(content)
        mode, profile = image.mode, image.info.get("icc_profile")
        pixels = np.array(decode.to_rgb(image))
    alpha = None
    if image.has_transparency_data:
        alpha = np.array(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))[..., None]
    if mode in ("L", "LA", "1"):
        pixels = pixels[..., :1]
    elif mode == "CMYK":  # The pixels are RGB now, which its profile does not describe.
        profile = None
    return pixels, alpha, profile


def write(path: pathlib.Path, pixels: np.ndarray, alpha: np.ndarray | None, profile: bytes | None) -> None:
    """Writes a picture whole or not at all, in the format that its ending says.

    Raises:
        ValueError: JPEG with a transparency.
    """
    form = _FORMATS[path.suffix.lower()]
    if alpha is not None:
        if form == "JPEG":
            raise ValueError(f"{path}: the picture has a transparency, which JPEG cannot hold; write a .png.")
        pixels = np.concatenate([pixels, alpha], 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    picture.save(buffer, form, icc_profile=profile, **_OPTIONS.get(form, {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        file.write(buffer.getvalue())


def enlarge(
    upscaler: inference.ImageUpscaler, source: pathlib.Path, out: pathlib.Path, scale: float | None, tile: int
) -> None:
    """Enlarges one file, with a progress bar where there are several tiles."""
    pixels, alpha, profile = read(source)
    with tqdm(desc=source.name, unit=" tiles", leave=False, disable=None) as bar:

        def seen(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        large = upscaler(pixels, scale, tile=tile, seen=seen)
    if alpha is not None:
        enlarged = resize.resize_on_host(alpha, large.shape[:2], _METHOD)
        alpha = np.round(np.clip(enlarged, 0.0, 255.0)).astype(np.uint8)
    write(out, large, alpha, profile)
    height, width = pixels.shape[:2]
    print(f"{printable(str(out))}: {width}x{height} -> {large.shape[1]}x{large.shape[0]}")


def run(
    arguments: Sequence[str],
    *,
    workdir: str | None,
    checkpoint: str = "best",
    scale: float | None = None,
    tile: int = inference.upscaler.TILE,
) -> int:
    """Enlarges as the flags of the same names say; returns the exit status."""
    failed = 0
    try:
        if len(arguments) != 2:
            raise ValueError(f"expected IN and OUT, two files or two folders; found {' '.join(arguments) or 'none'}.")
        if workdir is None:
            raise ValueError("which network? Give --workdir of a run of the task 'super_resolution'.")
        pairs = destinations(*map(pathlib.Path, arguments))
        step = int(checkpoint) if checkpoint.isdecimal() else checkpoint
        upscaler = inference.upscaler_of_run(pathlib.Path(workdir), step)
        print(f"{upscaler.name}.", file=sys.stderr)
        for source, out in tqdm(pairs, unit=" pictures", disable=None if len(pairs) > 1 else True):
            try:
                enlarge(upscaler, source, out, scale, tile)
            except (decode.ImageError, OSError) as error:
                failed += 1
                print(command_line.in_words(error, "Not enlarged"), file=sys.stderr)
    except (ValueError, OSError, CheckpointError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    if failed:
        print(f"{failed} of {len(pairs)} pictures could not be enlarged.", file=sys.stderr)
    return 2 if failed == len(pairs) else min(failed, 1)


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("workdir", None, "The run whose network enlarges.")
    flags.DEFINE_string("checkpoint", "best", "'best', 'newest' or the step of a checkpoint.")
    flags.DEFINE_float("scale", None, "How many times as large; unset, as the network was trained.", lower_bound=1.0)
    flags.DEFINE_integer("tile", inference.upscaler.TILE, "Side of a tile in pixels: less takes less memory.")


def main(argv: list[str]) -> int:
    """Enlarges the pictures given on the command line."""
    given = flags.FLAGS
    command_line.quiet()
    return run(argv[1:], workdir=given.workdir, checkpoint=given.checkpoint, scale=given.scale, tile=given.tile)


if __name__ == "__main__":
    define_flags()
    app.run(main)

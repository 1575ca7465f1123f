"""Makes images with the generator of a run.

    python -m vision_jax.tools.sample --workdir=runs/gan --n=1000 --out=samples/     # PNG files in a folder
    python -m vision_jax.tools.sample --workdir=runs/gan --n=64 --out=samples.png    # one picture, a grid
    python -m vision_jax.tools.sample --workdir=runs/gan --n=10000 --out=samples.npz # `images`, uint8 [N, H, W, C]
    python -m vision_jax.tools.sample --workdir=runs/gan --n=64 --interpolate --out=way.png  # eight rows of eight
    python -m vision_jax.tools.sample --workdir=runs/gan --n=8 --class=cat --truncation=0.5 --out=cats.png

The same seed gives the same first images whatever `--n` is. The exit status is 0, or 2 when nothing was made.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from vision_jax import command_line, inference
from vision_jax.checkpoints import CheckpointError
from vision_jax.utils import files
from vision_jax.utils.text import closest
from vision_jax.writers import pictures

_STEPS = 8  # Images on the way from one noise to another.


def class_index(given: str, names: Sequence[str]) -> int:
    """Returns the number of a class that is given by its name or, where none is called so, by its number.

    Raises:
        ValueError: there is no such class.
    """
    if given in names:
        return list(names).index(given)
    if given.isdecimal() and int(given) < len(names):
        return int(given)
    known = f"{', '.join(names[:20])}{', …' * (len(names) > 20)}"
    raise ValueError(f"there is no class {given!r}{closest(given, names)}; there are {known} (0 to {len(names) - 1})")


def write(out: pathlib.Path, images: np.ndarray, columns: int | None = None) -> None:
    """Writes images uint8 [N, H, W, C] as the name of `out` says, whole or not at all.

    Args:
        out: 'FILE.npz' for an array, 'FILE.png' for a grid, else a new or empty folder for a PNG file per image.
        images: to be written.
        columns: of a grid; unset: it is about square.
    """
    from PIL import Image

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".npz":
        with files.atomic_write(out) as file:
            np.savez(file, allow_pickle=False, images=images)
    elif out.suffix.lower() == ".png":
        pictures.write(out, images, columns)
    else:
        digits = max(5, len(str(len(images) - 1)))
        with files.atomic_folder(out) as folder:
            for number, image in enumerate(images):
                picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
                picture.save(folder / f"{number:0{digits}d}.png")


def run(
    arguments: Sequence[str] = (),
    *,
    workdir: str | None,
    n: int = 64,
    out: str = "samples",
    checkpoint: str = "best",
    seed: int = 0,
    class_name: str | None = None,
    interpolate: bool = False,
    truncation: float = 1.0,
    batch_size: int = 64,
) -> int:
    """Makes images as the flags of the same names say; returns the exit status."""
    try:
        if arguments:
            raise ValueError(f"unexpected arguments: {' '.join(arguments)}; everything is given by flags.")
        if workdir is None:
            raise ValueError("which generator? Give --workdir of a run of the task 'gan'.")
        if interpolate and n % _STEPS:
            raise ValueError(f"--n={n} is no multiple of {_STEPS}, the images in a row of --interpolate.")
        target = pathlib.Path(out)
        if target.suffix.lower() not in (".npz", ".png") and target.exists():
            if not target.is_dir():
                raise ValueError(f"{out} is a file, but neither .png nor .npz; give another --out.")
            if any(target.iterdir()):
                raise ValueError(f"the folder {out} is not empty; give another --out, or empty it.")
        step = int(checkpoint) if checkpoint.isdecimal() else checkpoint
        generator = inference.generator_of_run(pathlib.Path(workdir), step)
        if class_name is not None and not generator.conditional:
            raise ValueError(f"{generator.name}, is not class-conditional; leave --class out.")
        chosen = None if class_name is None else class_index(class_name, generator.class_names)
        print(f"{generator.name}.", file=sys.stderr)
        if interpolate:
            images = generator.interpolate(
                n // _STEPS, _STEPS, seed, class_index=chosen, truncation=truncation, batch_size=batch_size
            )
        else:
            images = generator.sample(n, seed=seed, class_index=chosen, truncation=truncation, batch_size=batch_size)
        write(target, images, _STEPS if interpolate else None)
    except (ValueError, OSError, CheckpointError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    print(f"Wrote {len(images)} images to {out}.")
    return 0


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("workdir", None, "The run whose generator makes the images.")
    flags.DEFINE_string("checkpoint", "best", "'best', 'newest' or the step of a checkpoint.")
    flags.DEFINE_integer("n", 64, "How many images.", lower_bound=1)
    flags.DEFINE_string("out", "samples", "FILE.npz, FILE.png for a grid, or else a folder for a PNG file per image.")
    flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
    flags.DEFINE_string("class", None, "Class-conditional generators: name or number of a class; unset, all in turn.")
    flags.DEFINE_bool("interpolate", False, f"Make rows of {_STEPS} images from one noise to another.")
    flags.DEFINE_float(
        "truncation",
        1.0,
        "Below 1, noise is this times a normal truncated to [-2, 2]: less variety, often better images.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_integer("batch_size", 64, "Images at a time, at most.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Makes the images that the command line asks for."""
    given = flags.FLAGS
    command_line.quiet()
    return run(
        argv[1:],
        workdir=given.workdir,
        n=given.n,
        out=given.out,
        checkpoint=given.checkpoint,
        seed=given.seed,
        class_name=given["class"].value,
        interpolate=given.interpolate,
        truncation=given.truncation,
        batch_size=given.batch_size,
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)

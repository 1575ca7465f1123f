"""The command `vision-jax`: one word for each thing to do, the programs behind it as they are.

Each word becomes `python -m MODULE …`, which is what a run notes of itself; imports nothing before that.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

# Word -> (module, flags put first, what stands without a flag means, what it does).
COMMANDS = {
    "train": ("vision_jax.main", ("--mode=train",), "config", "CONFIG [--workdir=DIR] [--config.OPTION=VALUE …]"),
    "eval": ("vision_jax.main", ("--mode=eval",), "workdir", "WORKDIR [--data=NAME or FOLDER]"),
    "predict": ("vision_jax.tools.predict", (), "", "PICTURES --workdir=DIR or --model=resnet18"),
    "sample": ("vision_jax.tools.sample", (), "workdir", "WORKDIR [--n=64] [--out=samples.png]"),
    "upscale": ("vision_jax.tools.upscale", (), "", "IN OUT --workdir=DIR [--scale=2]"),
    "compare": ("vision_jax.tools.compare", (), "", "WORKDIR WORKDIR … [--out=DIR]"),
    "study": ("vision_jax.tools.study", (), "", "STUDY [--out=DIR]"),
    "replay": ("vision_jax.tools.replay", (), "workdir", "WORKDIR --step=N"),
    "fid": ("vision_jax.tools.fid", (), "", "REAL GENERATED (folders, .npz, data sets, runs)"),
    "prepare": ("vision_jax.tools.prepare_data", (), "", "DATASET … [--archives=DIR]"),
    "inspect": ("vision_jax.tools.inspect_data", (), "config", "CONFIG or --workdir=DIR"),
    "port": ("vision_jax.tools.port_weights", (), "", "FILE --model=NETWORK or --workdir=DIR [--to_torch]"),
    "list": ("vision_jax.listing", (), "", "configs | data | networks | options [NETWORK]"),
}
_MEANINGS = {
    "train": "train a config, or continue its run",
    "eval": "metrics and report again, also on other data",
    "predict": "name what is on pictures",
    "sample": "make images with a GAN's generator",
    "upscale": "enlarge pictures",
    "compare": "one page about several runs",
    "study": "runs that answer a question together",
    "replay": "a step of a run again, and what happened in it",
    "fid": "distances between sets of images",
    "prepare": "fetch and prepare a data set, once",
    "inspect": "a page about a data set before training",
    "port": "weights from and to PyTorch",
    "list": "what there is to choose from",
}


def usage() -> str:
    """Returns the help, which fits on a screen."""
    lines = ["vision-jax COMMAND …    image classification, GANs and super-resolution in JAX", ""]
    for word, (_, _, _, arguments) in COMMANDS.items():
        lines.append(f"  {word:8} {_MEANINGS[word]}")
        lines.append(f"           {arguments}")
    lines += ["", "`vision-jax COMMAND --help` lists the flags of a command."]
    return "\n".join(lines)


def translate(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the module and its arguments for what stands after `vision-jax`.

    Raises:
        ValueError: no such command; the message says the closest.
    """
    word, *rest = arguments
    if word not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(COMMANDS)}."
        raise ValueError(f"There is no command {word!r}{hint}")
    module, first, positional, _ = COMMANDS[word]
    if positional and rest and not rest[0].startswith("-"):
        rest[0] = f"--{positional}={rest[0]}"
    return module, [*first, *rest]


def main(execute: Callable[[str, list[str]], None] = os.execv) -> int | None:
    """Runs the command line; does not return where a program takes this one's place."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(importlib.import_module("vision_jax").__version__)
        return 0
    try:
        module, rest = translate(arguments)
    except ValueError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    execute(sys.executable, [sys.executable, "-m", module, *rest])
    return None


if __name__ == "__main__":
    sys.exit(main())

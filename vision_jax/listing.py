"""What there is to choose from: configs, data sets, networks, and the options of a config and of each network.

vision-jax list                    # or python -m vision_jax.listing
vision-jax list networks
vision-jax list options mlp        # options alone: those that no network owns
"""

import ast
import sys
from collections.abc import Callable, Sequence

from vision_jax import config as config_lib
from vision_jax import config_files
from vision_jax.models import registry
from vision_jax.models.network_options import options as network_options
from vision_jax.option_table import OPTIONS
from vision_jax.utils.options import Option, type_name
from vision_jax.utils.text import closest

_ALL = "config"  # Names the options that no network owns.


def configs() -> str:
    """Returns one line for each config beside the package or in ./configs, from its docstring."""
    folder = config_files.folder()
    lines = ["Name a config with --config=FILE; every one also has a quick variant, --config=FILE:smoke."]
    for path in sorted(folder.glob("*.py")) if folder else ():
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  {path}  {doc.splitlines()[0] if doc else ''}")
    lines.append(f"Options: --options={_ALL}, or of a network: --options=NAME; `vision-jax list networks` names them.")
    return "\n".join(lines)


def data_sets() -> str:
    """Returns one line for each data set: examples, classes, license, and whether it is prepared here."""
    from vision_jax.data import prepare
    from vision_jax.data.datasets import DATASETS
    from vision_jax.data.prepare import manifest

    rows = []
    for name, function in DATASETS.items():
        if (entry := manifest.entries().get(name)) is None:
            rows.append((name, "", "", (function.__doc__ or "").splitlines()[0]))
            continue
        sizes = " + ".join(f"{count:,} {split}" for split, count in entry.examples.items())
        ready = "prepared" if prepare.is_prepared(name) else f"to prepare: vision-jax prepare {name}"
        rows.append((name, sizes, f"{len(entry.class_names)} classes", f"{entry.title}; {ready}"))
    rows.append(("tfds:NAME", "", "", "any other image-classification set of TensorFlow Datasets"))
    return _columns(("data set", "images", "", ""), rows)


def networks() -> str:
    """Returns one line for each network: parameters, size, published weights and their accuracy."""
    from vision_jax.pretrained import weights

    rows = []
    for name, entry in registry.MODELS.items():
        published = [row.weights for row in weights.manifest().values() if row.model == name]
        top1 = f"{entry.top1:.2f} %" if entry.top1 else ""
        size = f"{entry.parameters * 4 / 2**20:,.1f} MiB"
        rows.append((name, f"{entry.parameters:,}", size, ", ".join(published), top1))
    header = ("network", "parameters", "as float32", "published weights", "top-1 as published")
    return _columns(header, rows, right=(1, 2, 4))


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Returns rows of texts under each other."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = (
        "  ".join(cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row))
        for row in (header, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def options(name: str) -> str:
    """Returns a line for each option, with default, type and meaning.

    Args:
        name: of a network, or 'config' for all other options.

    Raises:
        ValueError: no network has that name.
    """
    if name == _ALL:
        found, prefix = dict(config_lib.walk(OPTIONS)), "config."
    elif name in registry.MODELS:
        found, prefix = network_options(name), f"config.model.{name}."
    else:
        names = (_ALL, *registry.MODELS)
        raise ValueError(f"{name!r} is no network{closest(name, names)}; `vision-jax list networks` shows them.")
    return "\n".join(_line(prefix + option, described) for option, described in found.items()) or f"{name} has none."


def _line(name: str, option: Option) -> str:
    choices = f"one of {', '.join(option.choices)}" if option.choices else type_name(option.type)
    return f"--{name}={option.default!r}  ({choices})\n    {option.meaning}"


_LISTS: dict[str, Callable[[], str]] = {"configs": configs, "data": data_sets, "networks": networks}


def main(arguments: Sequence[str]) -> int:
    """Prints a list; returns the exit status."""
    what, *rest = arguments or ["configs"]
    if what in ("-h", "--help"):
        print(__doc__)
    elif what in _LISTS and not rest:
        print(_LISTS[what]())
    elif what == "options" and len(rest) <= 1:
        try:
            print(options(rest[0] if rest else _ALL))
        except ValueError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            return 2
    else:
        names = (*_LISTS, "options")
        print(f"ERROR: There is no list {what!r}{closest(what, names)}; there are {', '.join(names)}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

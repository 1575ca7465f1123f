"""What there is to choose from: configs, and the options of a config and of each network."""

import ast

from vision_jax import config as config_lib
from vision_jax import config_files
from vision_jax.models import registry
from vision_jax.models.network_options import options as network_options
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
    lines.append(f"Options: --options={_ALL}, or of a network: --options=NAME, of {', '.join(registry.MODELS)}.")
    return "\n".join(lines)


def options(name: str) -> str:
    """Returns a line for each option, with default, type and meaning.

    Args:
        name: of a network, or 'config' for all other options.

    Raises:
        ValueError: no network has that name.
    """
    if name == _ALL:
        found, prefix = dict(config_lib.walk(config_lib.OPTIONS)), "config."
    elif name in registry.MODELS:
        found, prefix = network_options(name), f"config.model.{name}."
    else:
        names = (_ALL, *registry.MODELS)
        raise ValueError(f"--options={name} is no network{closest(name, names)}; there are {', '.join(names)}.")
    return "\n".join(_line(prefix + option, described) for option, described in found.items()) or f"{name} has none."


def _line(name: str, option: Option) -> str:
    choices = f"one of {', '.join(option.choices)}" if option.choices else type_name(option.type)
    return f"--{name}={option.default!r}  ({choices})\n    {option.meaning}"

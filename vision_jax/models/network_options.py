"""The options of the networks, read from where they stand: the fields of their modules and the docstrings' Attributes.

A config has a section per network whose options it sets, `config.model.cnn = dict(dropout=0.5)`. Switching
`config.model.name` to another network leaves that section without effect; None in it unsets an option.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vision_jax.models import registry
from vision_jax.models.network import Network
from vision_jax.utils.options import ConfigError, Option
from vision_jax.utils.text import closest


def options(name: str) -> dict[str, Option]:
    """Returns the options of network `name` by name; what a task sets itself (classes, types, shapes) is none."""
    row = registry.entry(name)
    meanings = _meanings(row.module)
    set_by_task = {field for cls in row.module.__mro__ for field in vars(cls).get("set_by_task", ())}
    return {
        field.name: Option.of_field(field.type, row.preset.get(field.name, field.default), meanings[field.name])
        for field in dataclasses.fields(row.module)
        if field.name not in ("parent", "name") and field.name not in set_by_task
    }


def given(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the options of network `name` that `section` (`config.model`) sets, with their values."""
    return {option: value for option, value in (section.get(name) or {}).items() if value is not None}


def check(section: Mapping[str, Any], suffixes: Sequence[str]) -> None:
    """Checks the network's name and every network's section in `config.model`.

    Args:
        section: `config.model`.
        suffixes: of the networks that the task takes by that name: ('',), or ('_generator', '_discriminator').

    Raises:
        ConfigError: with all problems found.
    """
    name, first = section["name"], suffixes[0]
    valid = {network.removesuffix(first) for network in registry.MODELS if network.endswith(first)}
    if name not in valid:
        raise ConfigError(
            f"config.model.name is {name!r}{closest(name, valid)}; there are {', '.join(sorted(valid))} for this task."
        )
    problems = []
    for network, values in section.items():
        if not isinstance(values, Mapping) and not hasattr(values, "items"):
            continue
        if network not in registry.MODELS:
            problems.append(f"config.model.{network} is no network's section{closest(network, registry.MODELS)}.")
            continue
        known = options(network)
        for option, value in values.items():
            if option not in known:
                problems.append(
                    f"config.model.{network}.{option} does not exist{closest(option, known)}; {network} has "
                    f"{', '.join(sorted(known)) or 'no options'}."
                )
            elif value is not None and (problem := known[option].problem(value)):
                problems.append(f"config.model.{network}.{option} {problem}. ({known[option].meaning})")
    if problems:
        raise ConfigError("\n".join(problems))


def without_effect(section: Mapping[str, Any], suffixes: Sequence[str]) -> list[str]:
    """Returns the networks for which `config.model` sets options although it trains another."""
    used = {section["name"] + suffix for suffix in suffixes}
    return [network for network, values in section.items() if hasattr(values, "items") and network not in used]


def _meanings(module: type[Network]) -> dict[str, str]:
    """Returns the entries of the sections 'Attributes' of a class and its bases."""
    meanings: dict[str, str] = {}
    for cls in reversed(module.__mro__):
        _, _, attributes = (inspect.cleandoc(cls.__doc__ or "")).partition("Attributes:\n")
        for entry in re.split(r"^ {4}(?=\S)", attributes, flags=re.MULTILINE)[1:]:
            names, _, text = entry.partition(": ")
            sentence = " ".join(text.split())
            meanings |= dict.fromkeys(names.split(", "), sentence[:1].upper() + sentence[1:])
    return meanings

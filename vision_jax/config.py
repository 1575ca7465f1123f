"""The config of a run: made, changed, compared, kept as JSON, and checked before anything is built.

A config file has `get_config(variant)` which starts from `default(task)` and sets what differs. The result is a locked
`ml_collections.ConfigDict`, so that `--config.optimizer.learning_rate=3e-4` works and a misspelt name is refused.
`validate` is called by `vision_jax.main` on the final values.

The options themselves stand in `option_table`, those of a network in its module: a config sets them in a section of the
network's name, `config.model.cnn = dict(dropout=0.3)`, which counts where `config.model.name` is that network.
"""

import ast
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from vision_jax.option_table import DURATION_UNITS, OPTIONS, TASKS
from vision_jax.utils.options import ConfigError as ConfigError
from vision_jax.utils.options import Option
from vision_jax.utils.text import closest

_DURATIONS = (
    ("train", ""),
    ("schedule", "warmup_"),
    ("log", "every_"),
    ("eval", "every_"),
    ("eval.gan", "every_"),
    ("checkpoint", "every_"),
)
_FINE_TUNING = ("weights", "freeze", "freeze_statistics", "cache_features")
_ABSENT = "(absent)"


def default(task: str = "classification") -> ConfigDict:
    """Returns a config with every option of `task` at its default, locked but for the networks' sections in `model`."""
    if task not in TASKS:
        raise ConfigError(f"There is no task {task!r}; there are {', '.join(TASKS)}{closest(task, TASKS)}")

    def build(options: Mapping[str, Any]) -> ConfigDict:
        config = ConfigDict()
        for name, option in options.items():
            if isinstance(option, Option):
                config[name] = option.default
            elif name not in TASKS or name == task:
                config[name] = build(option)
        return config

    config = build(OPTIONS)
    config.task = task
    config.lock()
    config.model.unlock()
    return config


def walk(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Option]]:
    """Yields `('section.name', option)` for every option below `options`."""
    for name, option in options.items():
        if isinstance(option, Option):
            yield prefix + name, option
        else:
            yield from walk(option, f"{prefix}{name}.")


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as plain JSON types (tuples become lists)."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: Mapping[str, Any]) -> ConfigDict:
    """Returns the config that `to_dict` wrote; raises `ConfigError` for options that no longer exist."""
    config = default(values.get("task", "classification"))
    known = flatten(config.to_dict())
    for name, value in flatten(values).items():
        if name not in known and not _of_a_network(name):
            raise ConfigError(f"There is no option {name!r}{closest(name, known)}")
        assign(config, name, tuple(value) if isinstance(value, list) else value)
    return config


def assign(config: ConfigDict, name: str, value: Any) -> None:
    """Sets the option 'section.name' or 'model.NETWORK.name'; a network's section is made where there is none."""
    *sections, leaf = name.split(".")
    parent = config
    for section in sections:
        if section not in parent:
            with config.unlocked():
                parent[section] = ConfigDict()
        parent = parent[section]
    if _of_a_network(name):
        with config.unlocked(), config.ignore_type():
            parent[leaf] = value
    else:
        parent[leaf] = value


def _of_a_network(name: str) -> bool:
    """Whether a name is 'model.NETWORK.name': such options are known to the network alone."""
    section, *rest = name.split(".")
    return section == "model" and len(rest) == 2


def assign_text(config: ConfigDict, name: str, text: str) -> None:
    """Sets an option to what a text means for its type; 'None' unsets an option of a network.

    Raises:
        ConfigError: there is no such option, it is another task's, or the value is of another type or range.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if _of_a_network(name):
        assign(config, name, value)
        return
    known = dict(walk(OPTIONS))
    if name not in known:
        raise ConfigError(f"config.{name} does not exist{closest(name, known)}")
    option = known[name]
    if option.type is str:
        value = text
    elif option.type is bool and text.lower() in ("true", "false"):
        value = text.lower() == "true"
    elif option.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if problem := option.problem(value):
        raise ConfigError(f"config.{name} {problem}. ({option.meaning})")
    section = name.partition(".")[0]
    if section in TASKS and section != config.task:
        raise ConfigError(f"config.{name} is of the task {section}; this config's task is {config.task}.")
    with config.ignore_type():  # Which would not let a tuple take the place of an empty one of another kind.
        assign(config, name, tuple(value) if isinstance(value, list) else value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {'section.name': value} of a nested mapping."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns one line for each option that differs and may change what a run computes."""
    neutral = {name for name, option in walk(OPTIONS) if option.neutral}
    old, new = flatten(old), flatten(new)
    return [
        f"{name}: {old.get(name, _ABSENT)!r} -> {new.get(name, _ABSENT)!r}"
        for name in sorted(old.keys() | new.keys())
        if name not in neutral and old.get(name, _ABSENT) != new.get(name, _ABSENT)
    ]


def validate(config: ConfigDict) -> None:
    """Checks types, ranges, choices and contradictions; raises `ConfigError` with all problems found.

    The networks' own sections are checked by `vision_jax.models.network_options`, where their options are known.
    """
    known = dict(walk(OPTIONS))
    values = {name: value for name, value in flatten(config.to_dict()).items() if not _of_a_network(name)}
    problems = []
    for name, value in values.items():
        if name not in known:
            problems.append(f"config.{name} does not exist{closest(name, known)}")
        elif problem := known[name].problem(value):
            problems.append(f"config.{name} {problem}. ({known[name].meaning})")
    if problems:
        raise ConfigError("\n".join(problems))
    for section, prefix in _DURATIONS:
        given = [prefix + unit for unit in DURATION_UNITS if values.get(f"{section}.{prefix}{unit}")]
        if len(given) > 1:
            found = " and ".join(f"config.{section}.{name}={values[f'{section}.{name}']}" for name in given)
            problems.append(f"{found} contradict each other: keep one and set the others to 0.")
        elif not given and section == "train":
            problems.append("One of config.train.steps, config.train.epochs, config.train.examples must be above 0.")
    problems += _channel_problems(values)
    if values["optimizer.average_last"] and values["optimizer.ema_decay"]:
        problems.append(
            "config.optimizer.average_last and ema_decay are two averages: keep one and set the other to 0."
        )
    if values["optimizer.average_last"] and config.task == "gan":
        problems.append("config.optimizer.average_last is not for the task gan; config.optimizer.ema_decay is.")
    if config.task != "classification":
        problems += [
            f"config.model.{option} is for classification; {config.task} starts from scratch."
            for option in _FINE_TUNING
            if config.model[option]
        ]
    if problems:
        raise ConfigError("\n".join(problems))


def _channel_problems(values: Mapping[str, Any]) -> list[str]:
    problems = []
    for name in ("mean", "std"):
        value = values[f"data.{name}"]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            problems.append(f"config.data.{name} is {value!r}, expected a tuple of numbers, one or one per channel.")
        elif name == "std" and min(value, default=1) <= 0:
            problems.append(f"config.data.std is {value!r}, expected numbers above 0.")
    return problems


def steps(section: Mapping[str, Any], prefix: str, *, batch_size: int, train_examples: int) -> int:
    """Returns a duration in optimization steps, rounded up; 0 when no unit is set.

    Args:
        section: a section of the config with `{prefix}steps`, `{prefix}epochs` and `{prefix}examples`.
        prefix: '', 'every_' or 'warmup_'.
        batch_size: examples per step.
        train_examples: size of the training split, an epoch.
    """
    examples = section[prefix + "epochs"] * train_examples or section[prefix + "examples"]
    return section[prefix + "steps"] or math.ceil(examples / batch_size - 1e-9)

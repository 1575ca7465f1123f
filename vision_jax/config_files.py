"""Config files: found by name from any folder, loaded, and what is wrong with one in a sentence.

A config file has `get_config(variant)`. The variants that it has stand in its `VARIANTS`; one without that table has
'smoke' alone, besides '', the full experiment.
"""

import json
import pathlib
import runpy
import traceback
from collections.abc import Mapping

from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

_PACKAGE = pathlib.Path(__file__).resolve().parent
_VARIANTS = ("", "smoke")


def folder() -> pathlib.Path | None:
    """Returns the folder of configs: ./configs, that of a checkout, or that of an installed wheel; None without any."""
    folders = (pathlib.Path("configs"), _PACKAGE.parent / "configs", _PACKAGE / "configs")
    return next((f for f in folders if f.is_dir()), None)


def find(name: str) -> pathlib.Path:
    """Returns the path of a config file.

    Args:
        name: a path; or a packaged config from any folder: 'configs/digits_cnn.py', 'digits_cnn.py' or 'digits_cnn'.

    Raises:
        ConfigError: there is no such file; the message says the closest.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    packaged = {
        file.stem: file
        for place in (_PACKAGE / "configs", _PACKAGE.parent / "configs", folder())
        if place is not None
        for file in sorted(place.glob("*.py"))
    }
    # A folder of one's own is meant as it is; 'configs' also means the packaged ones.
    if path.parent.name in ("", "configs") and not path.is_absolute() and path.stem in packaged:
        return packaged[path.stem]
    there = f"configs/{path.stem}.py" if path.stem in packaged else ""
    hint = f"; did you mean {there!r}?" if there else closest(path.stem, packaged)
    raise ConfigError(f"There is no config file {name!r}{hint or ';'} `vision-jax list configs` shows those there are.")


def load(name: str) -> ConfigDict:
    """Returns the config of a file, 'FILE.py' or 'FILE.py:VARIANT'; see `find`.

    Raises:
        ConfigError: no such file or variant, or a file that is no config or fails.
    """
    file, _, variant = name.partition(":")
    path = find(file)
    try:
        module = runpy.run_path(str(path))
        if "get_config" not in module:
            raise ConfigError(f"{path} is no config file: it has no function `get_config(variant)`.")
        variants = tuple(module.get("VARIANTS", _VARIANTS))
        if variant not in variants:
            known = ", ".join(filter(None, variants)) or "none"
            raise ConfigError(f"{path} has no variant {variant!r}{closest(variant, variants)}; it has {known}.")
        config = module["get_config"](variant) if variant else module["get_config"]()
    except ConfigError:
        raise
    except Exception as error:  # Whatever the code of a file that somebody is writing raises.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}, line {line}" if line else str(path)
        words = error.msg if isinstance(error, SyntaxError) else " ".join(str(argument) for argument in error.args)
        raise ConfigError(f"The config file fails: {where}: {type(error).__name__}: {words}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config() returned {type(config).__name__}, expected a ConfigDict.")
    return config


def chosen(name: str | None, workdir: pathlib.Path, values: Mapping[str, str]) -> ConfigDict:
    """Returns the validated config `name`, or without one that of the run in `workdir`, with options set as texts say.

    Raises:
        ConfigError: as `load`, `of_run` and `override` do, or values that do not go together.
    """
    config = of_run(workdir) if name is None else load(name)
    override(config, values)
    config_lib.validate(config)
    return config


def of_run(workdir: pathlib.Path) -> ConfigDict:
    """Returns the config that a run was trained with.

    Raises:
        ConfigError: there is no run in `workdir`, its config is damaged, or has options that no longer exist.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ConfigError(
            f"There is no run in {workdir} (no config.json); name its folder, or a config with --config=FILE."
        )
    try:
        return config_lib.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {str(error)[:200]}") from None


def name_of(name: str) -> str:
    """Returns what a run of a config is called by default: 'configs/digits_cnn.py:smoke' is 'digits_cnn_smoke'."""
    path, _, variant = name.partition(":")
    return "_".join(filter(None, (pathlib.Path(path).stem, variant)))


def override(config: ConfigDict, values: Mapping[str, str]) -> None:
    """Sets options as texts say, such as {'optimizer.learning_rate': '3e-4'}.

    Raises:
        ConfigError: an option that does not exist or a value of another type, with the closest or the expected one.
    """
    for name, text in values.items():
        config_lib.assign_text(config, name, text)

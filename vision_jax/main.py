"""Trains or evaluates one config: `python -m vision_jax.main --config=configs/digits_cnn.py --workdir=runs/digits`.

Options of the config are set after it: `--config.optimizer.learning_rate=3e-4`. Without --config, lists the configs.
"""

import ast
import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence

from vision_jax import allocator

if __name__ == "__main__":
    allocator.start("vision_jax.main")  # May start the program again: before JAX is imported.

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from vision_jax import config as config_lib
from vision_jax import memory, parallel
from vision_jax.utils import files

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, FILE.py or FILE.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of all that the run writes; by default runs/<config name>.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval"],
    "'train' starts or continues training; 'eval' makes metrics and report again from a checkpoint in --workdir.",
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Step of the checkpoint to evaluate; by default the best.")
_ALLOW_CHANGE = flags.DEFINE_bool("allow_config_change", False, "Continue a run although its config has changed.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "'host:port' of process 0 when several processes make up the run; 'auto' asks the cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes make up the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")


def list_configs() -> str:
    """Returns one line for each config beside the package or in ./configs, from its docstring."""
    here = pathlib.Path(__file__).resolve().parent
    folders = (pathlib.Path("configs"), here.parent / "configs", here / "configs")
    folder = next((f for f in folders if f.is_dir()), None)
    lines = ["Name a config with --config=FILE; every one also has a quick variant, --config=FILE:smoke."]
    for path in sorted(folder.glob("*.py")) if folder else ():
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  {path}  {doc.splitlines()[0] if doc else ''}")
    return "\n".join(lines)


def _config_name() -> str:
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return "_".join(filter(None, (pathlib.Path(path).stem, variant)))


def main(argv: Sequence[str]) -> None:
    """Sets up processes and compilation cache, then trains or evaluates."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax describes every file it writes.
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; flags start with '--'.")
    if _CONFIG.value is None:
        print(list_configs())
        return
    config = _CONFIG.value
    with _sentences(config_lib.ConfigError):
        config_lib.validate(config)
    memory.keep_freed_memory()
    parallel.start_processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / _config_name())
    if not _WORKDIR.value and jax.process_index() == 0:
        print(f"No --workdir given; writing to {workdir}.")
    if config.train.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(files.cache_dir("compilation")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    from vision_jax import checkpoints, evaluate, monitor, run, train  # After the processes have found each other.

    with _sentences(ValueError, OSError):
        built = run.build(config, workdir)
    expected = checkpoints.CheckpointError, monitor.NotFiniteError, memory.OutOfMemoryError
    with built, _sentences(*expected), memory.explained():
        if _MODE.value == "train":
            train.train(built, allow_config_change=_ALLOW_CHANGE.value)
        else:
            run.refuse_other_config(built, allow=_ALLOW_CHANGE.value)
            evaluate.final(built, built.checkpoints.best() if _CHECKPOINT.value is None else _CHECKPOINT.value)


@contextlib.contextmanager
def _sentences(*expected: type[Exception]) -> Iterator[None]:
    """Ends the program with the message of an expected error; --verbosity=1 shows where it came from."""
    try:
        yield
    except expected as error:
        logging.debug("Traceback:", exc_info=True)
        raise SystemExit(f"ERROR: {error}") from error


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags; a wrong option of the config is a sentence, not a traceback."""
    try:
        return app.parse_flags_with_usage(list(argv))
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f"ERROR: {' '.join(str(argument) for argument in error.args)}")


def run_main() -> None:
    """Entry point of `python -m vision_jax.main`."""
    app.run(main, flags_parser=_parse_flags)


if __name__ == "__main__":
    run_main()

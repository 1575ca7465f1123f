"""Trains or evaluates one config: `python -m vision_jax.main --config=configs/digits_cnn.py --workdir=runs/digits`.

Options of the config are set after it: `--config.optimizer.learning_rate=3e-4`. Without --config, lists the configs.
"""

import pathlib
from collections.abc import Sequence

from vision_jax import allocator

if __name__ == "__main__":
    allocator.start("vision_jax.main")  # May start the program again: before JAX is imported.

import jax
from absl import app, flags
from ml_collections import config_flags

from vision_jax import command_line, listing, memory, parallel
from vision_jax import config as config_lib
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
_OPTIONS = flags.DEFINE_string("options", "", "List the options: 'config', or those of a network by its name.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "'host:port' of process 0 when several processes make up the run; 'auto' asks the cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes make up the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")


def _config_name() -> str:
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return "_".join(filter(None, (pathlib.Path(path).stem, variant)))


def main(argv: Sequence[str]) -> None:
    """Sets up processes and compilation cache, then trains or evaluates."""
    command_line.quiet()
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; flags start with '--'.")
    if _OPTIONS.value:
        with command_line.sentences(ValueError):
            print(listing.options(_OPTIONS.value))
        return
    if _CONFIG.value is None:
        print(listing.configs())
        return
    config = _CONFIG.value
    with command_line.sentences(config_lib.ConfigError):
        for name, value in command_line.network_options.items():
            config_lib.assign(config, name, value)
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

    with command_line.sentences(ValueError, OSError):
        built = run.build(config, workdir)
    expected = checkpoints.CheckpointError, monitor.NotFiniteError, memory.OutOfMemoryError
    with built, command_line.sentences(*expected), memory.explained():
        if _MODE.value == "train":
            train.train(built, allow_config_change=_ALLOW_CHANGE.value)
        else:
            if not _ALLOW_CHANGE.value:
                built.checkpoints.refuse_other_config(config_lib.to_dict(built.config))
            step = built.checkpoints.best() if _CHECKPOINT.value is None else _CHECKPOINT.value
            evaluate.final(built, step, evaluate.Evaluation(built))


def run_main() -> None:
    """Entry point of `python -m vision_jax.main`."""
    app.run(main, flags_parser=command_line.parse_flags)


if __name__ == "__main__":
    run_main()

"""Trains or evaluates one config: `python -m vision_jax.main --config=configs/digits_cnn.py --workdir=runs/digits`.

Options of the config are set after it: `--config.optimizer.learning_rate=3e-4`. Without --config, a --workdir that has
a run continues or evaluates that run; without either, the configs are listed.
"""

import pathlib
from collections.abc import Sequence

from vision_jax import allocator, ending

if __name__ == "__main__":
    allocator.start("vision_jax.main")  # May start the program again: before JAX is imported.
    ending.watch_signals()

import jax
from absl import flags
from ml_collections import ConfigDict

from vision_jax import command_line, config_files, listing, memory, parallel, peers
from vision_jax import config as config_lib
from vision_jax.config import ConfigError
from vision_jax.utils import files

_CONFIG = flags.DEFINE_string("config", None, "Config file, FILE.py or FILE.py:VARIANT; also a packaged one's name.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of all that the run writes; by default runs/<config name>.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval"], "'train' starts or continues training; 'eval' makes metrics and report again."
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Step of the checkpoint to evaluate; by default the best.")
_DATA = flags.DEFINE_string("data", "", "With --mode=eval: another data set or folder of photos, of the same classes.")
_PREPARE = flags.DEFINE_bool("prepare", False, "Fetch and prepare the config's data set first, if that was not done.")
_ALLOW_CHANGE = flags.DEFINE_bool("allow_config_change", False, "Continue a run although its config has changed.")
_OPTIONS = flags.DEFINE_string("options", "", "List the options: 'config', or those of a network by its name.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "With several processes: 'host:port' of process 0, or 'auto'.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes make up the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")
_LOST_AFTER = flags.DEFINE_float("lost_after", 60.0, "Seconds without a sign of one process after which all end.", 0.1)


def main(argv: Sequence[str]) -> None:
    """Sets up processes and compilation cache, then trains or evaluates."""
    command_line.quiet()
    if len(argv) > 1:
        raise SystemExit(f"ERROR: Unexpected argument {argv[1]!r}; flags start with '--', `--help` lists them.")
    if _OPTIONS.value:
        with command_line.sentences(ValueError):
            print(listing.options(_OPTIONS.value))
        return
    if _CONFIG.value is None and not _WORKDIR.value:
        if command_line.options or _MODE.value != "train":
            raise SystemExit("ERROR: Which run? Name a config with --config=FILE, or the folder of a run by --workdir.")
        print(listing.configs())
        return
    with command_line.sentences(ValueError, OSError):
        workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / config_files.name_of(_CONFIG.value or ""))
        config = config_files.chosen(_CONFIG.value, workdir, command_line.options)
        if _DATA.value and _MODE.value == "train":
            raise ConfigError("--data is for --mode=eval; training data is chosen by --config.data.name.")
        if _MODE.value == "eval" and not (workdir / "checkpoints").is_dir():
            raise ConfigError(f"There is no trained run in {workdir}; train first, with --mode=train.")
        if workdir.exists() and not workdir.is_dir():
            raise ConfigError(f"--workdir={workdir} is a file; name a folder.")
        processes = parallel.processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    memory.keep_freed_memory()
    watched = peers.watched(workdir, processes.index, processes.count, _LOST_AFTER.value)
    joined = parallel.joined(processes, _LOST_AFTER.value)
    with command_line.sentences(OSError, memory.OutOfMemoryError), memory.explained(), watched, joined:
        _run(config, workdir)


def _run(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains or evaluates, in one of the run's processes."""
    if not _WORKDIR.value and jax.process_index() == 0:
        print(f"No --workdir given; writing to {workdir}.")
    if config.train.compilation_cache:
        parallel.keep_programs(files.cache_dir("compilation"))
    from vision_jax import checkpoints, evaluate, monitor, run, train  # After the processes have found each other.

    with command_line.sentences(ValueError, OSError):
        if _PREPARE.value:
            run.prepare_data(config)
        built = run.build_for(config, workdir, _DATA.value) if _DATA.value else run.build(config, workdir)
    expected = ConfigError, checkpoints.CheckpointError, monitor.NotFiniteError, memory.OutOfMemoryError
    with command_line.sentences(*expected), memory.explained(), built:  # Also why a checkpoint was not written.
        if _MODE.value == "train":
            train.train(built, allow_config_change=_ALLOW_CHANGE.value)
        else:
            if (_CONFIG.value or command_line.options) and not _ALLOW_CHANGE.value:
                built.checkpoints.refuse_other_config(config_lib.to_dict(built.config))
            evaluate.final(built, _CHECKPOINT.value, evaluate.Evaluation(built))


def run_main() -> None:
    """Entry point of `python -m vision_jax.main`."""
    command_line.run(main, command_line.parse_flags_and_options)


if __name__ == "__main__":
    run_main()

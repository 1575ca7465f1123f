"""Converts weights: PyTorch's files to this project's, and what was trained here to files that PyTorch loads.

    python -m vision_jax.tools.port_weights resnet18-f37072fd.pth --model=resnet18 --out=resnet18.safetensors
    python -m vision_jax.tools.port_weights mine.pth --model=resnet18 --preprocessing=resnet18
    python -m vision_jax.tools.port_weights resnet18.safetensors --to_torch --out=for_torch.pth
    python -m vision_jax.tools.port_weights --workdir=runs/clothing --to_torch --out=for_torch.pth
    python -m vision_jax.tools.port_weights --workdir=runs/clothing --out=clothing.safetensors

What PyTorch's file is for (`--to_torch`): `model.load_state_dict(torch.load("for_torch.pth"), strict=True)` of the same
network of torchvision with as many classes. It ends in `.pth` (or `.pt`, `.th`) or `.safetensors`. A file of this
project is a .safetensors that remembers network, preprocessing (given by `--preprocessing`, else the network's
published one where the file does not say it) and class names; `config.model.weights` and
`vision_jax.tools.predict` take it by its path.
"""

import dataclasses
import json
import pathlib
import sys
from typing import Any

from absl import flags

from vision_jax import command_line, inference, models
from vision_jax.checkpoints import CheckpointError
from vision_jax.models import network_options
from vision_jax.pretrained import port, torch_file, torch_writer, weights
from vision_jax.pretrained.weights import Record

_TORCH_ENDINGS = (".pth", ".pt", ".th")


def from_file(
    path: pathlib.Path, model: str | None, options: dict[str, Any], preprocessing: str = ""
) -> tuple[dict[str, Any], Record]:
    """Returns variables and record of a weight file of any kind.

    Args:
        path: of the file.
        model: its network; None where the file says it.
        options: of the network.
        preprocessing: of the file: the name of a network whose published one it is, or JSON. By default what the file
            says, or what was published for its network.

    Raises:
        ValueError: the file is damaged or of another network, or it is not known of which; or no such preprocessing.
    """
    name = model or weights.model_of(path)
    if name is None:
        other = port.looks_like(torch_file.state_dict(path))
        which = f"its shapes are those of {other}: add --model={other}" if other else "add --model, one of "
        raise ValueError(
            f"{path} does not say of which network it is; {which}{'' if other else ', '.join(models.MODELS)}"
        )
    variables, record = weights.load(name, path, **options)
    if preprocessing:
        return variables, dataclasses.replace(record, preprocessing=_preprocessing(preprocessing))
    return variables, weights.with_preprocessing(record) if weights.published(name) else record


def _preprocessing(text: str) -> weights.Preprocessing:
    if text.startswith("{"):
        return weights.Preprocessing.of(json.loads(text))
    row = weights.published(text)
    if row is None:
        raise ValueError(f"--preprocessing={text}: no preprocessing was published for {text}; give it as JSON.")
    return row.preprocessing


def from_run(workdir: pathlib.Path, step: int | str, network: str) -> tuple[dict[str, Any], Record]:
    """Returns variables and record of a network of a run.

    Raises:
        CheckpointError: the workdir has no such checkpoint.
        ValueError: the run has no such network, or has several and none was named.
    """
    run = inference.open_run(workdir, step)
    if not network and len(run.variables) > 1:
        raise ValueError(f"{workdir} has several networks; add --network, one of {', '.join(run.variables)}.")
    network = network or next(iter(run.variables))
    if network not in run.variables:
        raise ValueError(f"{workdir} has no network {network!r}; it has {', '.join(run.variables)}")
    name = run.config.model.name + ("" if network == "model" else f"_{network}")
    options = network_options.given(run.config.model, name)
    record = Record(name, f"{workdir}, step {run.step}", options=options)
    if network != "generator":  # which takes no images
        record = dataclasses.replace(record, input_shape=run.image_shape)
    if run.config.task == "classification":
        record = dataclasses.replace(
            record, class_names=run.class_names, preprocessing=inference.preprocessing_of_run(run)
        )
    return run.variables[network], record


def to_torch(path: pathlib.Path, variables: dict[str, Any], record: Record) -> None:
    """Writes a state dict under PyTorch's names, as .pth or .safetensors by the ending of `path`.

    Raises:
        ValueError: another ending.
    """
    state = port.to_state_dict(record.model, variables, **record.options)
    if path.suffix in _TORCH_ENDINGS:
        torch_writer.write_pth(path, state)
    elif path.suffix == ".safetensors":
        torch_writer.write_safetensors(path, state, {"format": "pt"})
    else:
        raise ValueError(f"--out={path} has to end in {', '.join(_TORCH_ENDINGS)} or .safetensors")


def convert(
    file: str | None,
    out: str,
    *,
    torch: bool,
    model: str | None,
    options: dict[str, Any],
    preprocessing: str,
    workdir: str | None,
    checkpoint: str,
    network: str,
) -> str:
    """Does what the flags say; returns what was written, in words.

    Raises:
        ValueError, OSError, CheckpointError: with a sentence for the person at the keyboard.
    """
    if out and not torch and pathlib.Path(out).suffix != ".safetensors":
        raise ValueError(f"--out={out} has to end in .safetensors (or add --to_torch for a file for PyTorch)")
    if workdir is not None and file is None:
        step = int(checkpoint) if checkpoint.isdigit() else checkpoint
        variables, record = from_run(pathlib.Path(workdir), step, network)
    elif file is not None and workdir is None:
        variables, record = from_file(pathlib.Path(file), model, options, preprocessing)
    else:
        raise ValueError("name one file, or --workdir of a run")
    target = pathlib.Path(out or record.model + (".pth" if torch else ".safetensors"))
    if not out and target.exists():
        raise ValueError(f"{target} is there already; name another file with --out.")
    if torch:
        to_torch(target, variables, record)
    else:
        weights.save(target, variables, record)
    said = f"{target}: {record.model}, {models.parameter_count(variables):,} parameters, from {record.source}"
    return f"{said}\n{record.note}".strip()


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("out", "", "The file to write; by default NETWORK.safetensors, for PyTorch NETWORK.pth.")
    flags.DEFINE_bool("to_torch", False, "Write a state dict for PyTorch instead of a file of this project.")
    flags.DEFINE_string("model", None, "The network that the file is of, where the file does not tell.")
    flags.DEFINE_string("options", "{}", "Options of the network as JSON, such as '{\"aux_logits\": true}'.")
    flags.DEFINE_string(
        "preprocessing",
        "",
        "Where the file does not say its own: a network whose published one it is, or JSON, such as "
        '\'{"resize": 256, "crop": 224, "interpolation": "bilinear", "mean": [0.5], "std": [0.5]}\'.',
    )
    flags.DEFINE_string("workdir", None, "Instead of a file: the folder of a run.")
    flags.DEFINE_string("checkpoint", "best", "With --workdir: 'best', 'newest' or the step of a checkpoint.")
    flags.DEFINE_string("network", "", "With --workdir: which network, where the run has several.")


def main(argv: list[str]) -> None:
    """Converts the file or run named on the command line."""
    given = flags.FLAGS
    command_line.quiet()
    try:
        if len(argv) > 2:
            raise ValueError(f"one file at a time; found {', '.join(argv[1:])}")
        print(
            convert(
                argv[1] if len(argv) == 2 else None,
                given.out,
                torch=given.to_torch,
                model=given.model,
                options=json.loads(given.options),
                preprocessing=given.preprocessing,
                workdir=given.workdir,
                checkpoint=given.checkpoint,
                network=given.network,
            )
        )
    except (ValueError, OSError, CheckpointError) as error:
        sys.exit(command_line.in_words(error))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)

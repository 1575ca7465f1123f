"""Names what is on pictures.

    python -m vision_jax.tools.predict photo.jpg folder/ --model=resnet18           # published weights
    python -m vision_jax.tools.predict folder/ --model=resnet50 --weights=imagenet_v2 --format=csv > found.csv
    python -m vision_jax.tools.predict folder/ --workdir=runs/clothing --explain=pictures/

A file that is no usable picture is reported on stderr (and in JSON and CSV) and the rest goes on; the exit status is 0
when every picture was read, 1 when some were not, 2 when nothing was done.
"""

import csv
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

from absl import flags

from vision_jax import command_line, inference, progress
from vision_jax.checkpoints import CheckpointError
from vision_jax.data.decode import EXTENSIONS


def write(answers: Iterable[inference.Answer], form: str, explained: bool) -> tuple[int, int]:
    """Writes the answers to stdout as 'table', 'json' or 'csv'; returns how many pictures were read and were not."""
    read = unread = 0

    def counted() -> Iterator[inference.Answer]:
        nonlocal read, unread
        for answer in answers:
            if answer.error:
                unread += 1
                print(f"Not read: {answer.error}", file=sys.stderr)
            else:
                read += 1
            yield answer

    if form == "csv":
        header = ["image", "rank", "class", "index", "probability", "error"] + ["explanation"] * explained
        writer = csv.writer(sys.stdout)
        writer.writerow(header)
        for answer in counted():
            for rank, (name, index, probability) in enumerate(answer.predictions, 1):
                row = [answer.image, rank, name, index, f"{probability:.6f}", ""]
                writer.writerow(row + [answer.explanation] * explained)
            if answer.error:
                writer.writerow([answer.image, "", "", "", "", answer.error] + [""] * explained)
    elif form == "json":
        print("[")
        for i, answer in enumerate(counted()):
            predictions = [{"class": n, "index": c, "probability": round(p, 6)} for n, c, p in answer.predictions]
            entry = {"image": answer.image, "predictions": predictions}
            entry |= {"error": answer.error} if answer.error else {}
            entry |= {"explanation": answer.explanation} if answer.explanation else {}
            print(("  " if i == 0 else ", ") + json.dumps(entry))
        print("]")
    else:
        rows = [
            (answer.image, rank, name, f"{100 * probability:.2f} %")
            for answer in counted()
            for rank, (name, _, probability) in enumerate(answer.predictions, 1)
        ]
        progress.print_table(("picture", "rank", "class", "probability"), rows)
    return read, unread


def run(
    paths: Sequence[str],
    *,
    workdir: str | None,
    checkpoint: str,
    model: str | None,
    weights: str,
    top: int,
    form: str,
    batch_size: int,
    explain_in: str | None,
) -> int:
    """Answers on stdout for files and folders, as the flags of the same names say; returns the exit status."""
    try:
        if not paths:
            raise ValueError("which pictures? Name files or folders.")
        if workdir is not None and model is None:
            step = int(checkpoint) if checkpoint.isdigit() else checkpoint
            network = inference.classifier_of_run(pathlib.Path(workdir), step)
        elif model is not None and workdir is None:
            network = inference.pretrained_classifier(model, weights)
        else:
            raise ValueError("give either --workdir of a run or --model with the name of a network.")
        print(f"{network.name}. {network.note}".strip(), file=sys.stderr)
        folder = pathlib.Path(explain_in) if explain_in else None
        answers = inference.predict(
            network, inference.picture_files(paths), top=top, batch_size=batch_size, explain_in=folder
        )
        read, unread = write(answers, form, folder is not None)
        if not read + unread:
            raise ValueError(f"there is no picture ({', '.join(EXTENSIONS)}) in {', '.join(paths)}.")
    except (ValueError, OSError, CheckpointError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    if unread:
        print(f"{unread} of {read + unread} pictures could not be read.", file=sys.stderr)
    return 1 if unread else 0


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_string("workdir", None, "Use the network of this run.")
    flags.DEFINE_string("checkpoint", "best", "With --workdir: 'best', 'newest' or the step of a checkpoint.")
    flags.DEFINE_string("model", None, "Use this network, with published weights or those in a file.")
    flags.DEFINE_string("weights", "", "With --model: 'imagenet', 'imagenet_v2', 'cifar10', or a file.")
    flags.DEFINE_integer("top", 5, "How many classes to name for a picture.", lower_bound=1)
    flags.DEFINE_enum("format", "table", ["table", "json", "csv"], "Form of the answer on stdout.")
    flags.DEFINE_integer("batch_size", 32, "Pictures at a time, at most.", lower_bound=1)
    flags.DEFINE_string("explain", None, "Folder for Grad-CAM pictures of the likeliest class of each picture.")


def main(argv: list[str]) -> int:
    """Names what is on the pictures given on the command line."""
    given = flags.FLAGS
    command_line.quiet()
    return run(
        argv[1:],
        workdir=given.workdir,
        checkpoint=given.checkpoint,
        model=given.model,
        weights=given.weights,
        top=given.top,
        form=given.format,
        batch_size=given.batch_size,
        explain_in=given.explain,
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)

"""What the page of a classifier shows: confusion matrix, images with errors marked, a table of the classes."""

import numpy as np

from vision_jax.analysis.record import Record
from vision_jax.metrics import classification as metrics
from vision_jax.report import page, plots
from vision_jax.report.images import ImagesOf

_GRID = 64  # Images shown.


def sections(record: Record, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the sections."""
    from sklearn.metrics import confusion_matrix

    folder, evaluator, names = record.workdir / "report", record.best_test(), record.dataset["class_names"]
    outputs = record.outputs(evaluator)
    labels, predicted = outputs["label"], np.argmax(outputs["logits"], -1)
    confusion = confusion_matrix(labels, predicted, labels=range(len(names)))
    matrix = folder / "confusion_matrix.png"
    plots.confusion_matrix(matrix, confusion, names)
    shown = min(_GRID, len(labels))
    captions = [
        names[found] if true == found else f"{names[true]} → {names[found]}"
        for true, found in zip(labels[:shown], predicted[:shown], strict=True)
    ]
    wrong = labels[:shown] != predicted[:shown]
    grid = folder / "images.png"
    plots.image_grid(grid, images_of(evaluator, shown), captions, colors=["crimson" if w else None for w in wrong])
    rows = [[name, *row] for name, row in zip(names, metrics.per_class(confusion), strict=True)]
    return [
        page.Section(
            "Pictures",
            [
                page.picture(
                    matrix,
                    f"Confusion matrix ({evaluator})",
                    f"Rows: true class; columns: predicted; {len(labels)} images.",
                ),
                page.picture(
                    grid,
                    f"First {shown} images ({evaluator})",
                    "An arrow leads from the true to the predicted class of errors.",
                ),
            ],
        ),
        page.Section(f"Classes ({evaluator})", [page.Table(("class", "images", "recall", "precision"), rows)]),
    ]

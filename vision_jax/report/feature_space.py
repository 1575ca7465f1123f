"""What a page shows of the features that a network's head sees: t-SNE, and where mistakes lie among the classes."""

from collections.abc import Iterator

import numpy as np

from vision_jax.analysis import centroids, embeddings
from vision_jax.analysis.errors import Predictions
from vision_jax.analysis.record import Record
from vision_jax.report import page, plots, points3d, prediction_plots
from vision_jax.report.images import ImagesOf, thumbnails

_POINTS = 2000
_FEWEST = 5  # Examples of which t-SNE is made.
_THUMBNAIL = 40  # pixels
_TURNS = (0.0, 120.0, 240.0)
_MANY = 20  # Classes, beyond which superclasses give the colors.


def sections(record: Record, evaluator: str, images_of: ImagesOf) -> list[page.Section]:
    """Draws the pictures into `WORKDIR/report` and returns the sections; none where the run kept no features."""
    outputs = record.outputs(evaluator)
    if "features" not in outputs:
        return []
    predictions = Predictions.of(outputs)
    features = centroids.flat(outputs["features"])
    found = [page.Section("Mistakes and centroids", list(_distances(record, evaluator, predictions, features)))]
    if len(features) >= _FEWEST:
        shown = list(_embeddings(record, evaluator, predictions, features, images_of))
        found.insert(0, page.Section("Feature space", shown))
    return found


def _embeddings(
    record: Record, evaluator: str, predictions: Predictions, features: np.ndarray, images_of: ImagesOf
) -> Iterator[page.Block]:
    folder, names = record.workdir / "report", record.dataset["class_names"]
    rows = embeddings.subset(len(features), _POINTS)
    label, predicted, wrong = predictions.label[rows], predictions.predicted[rows], ~predictions.hit[rows]
    groups, group_names = label, names
    superclasses = record.dataset.get("superclasses", [])
    if superclasses and len(names) > _MANY:
        group_names = sorted(set(superclasses))
        groups = np.array([group_names.index(name) for name in superclasses])[label]
    of = f"{len(rows):,} of {len(features):,} images" if len(rows) < len(features) else f"{len(rows):,} images"
    color = "superclass" if group_names is not names else "class"
    yield page.Text(
        f"The features of {of} ({evaluator}), what the network's last layer sees, in two and in three dimensions by "
        f"t-SNE of their first 50 principal components. Color is the true {color}; crosses are mistakes. Near "
        "neighbors stay near each other; sizes of clusters and distances between them say little."
    )
    for dimensions, turns in ((2, (0.0,)), (3, _TURNS)):
        points = embeddings.tsne(features[rows], dimensions)
        path = folder / f"tsne_{dimensions}d.png"
        title = f"t-SNE in {'two' if dimensions == 2 else 'three'} dimensions"
        prediction_plots.embedding(path, points, groups, group_names, wrong, title=title, turns=turns)
        yield page.picture(
            path, f"{title} ({evaluator})", "" if dimensions == 2 else "The same points from three sides."
        )
    yield page.Text(
        "Turn it with the mouse or the arrow keys; Ctrl or Shift with the wheel, or + and −, enlarge; a double click "
        "turns back. Under the pointer a point shows its image. A click on a name lets the others pale."
    )
    split = record.results["evaluations"][evaluator]["split"]
    texts = [
        f"{names[true]}" if true == said else f"true: {names[true]}\npredicted: {names[said]}"
        for true, said in zip(label, predicted, strict=True)
    ]
    yield points3d.block(
        points,
        groups,
        group_names,
        prediction_plots.class_colors(len(group_names)),
        wrong,
        [f"{text}\n{100 * sure:.1f} % sure" for text, sure in zip(texts, predictions.confidence[rows], strict=True)],
        thumbnails(images_of, split, predictions.index[rows], _THUMBNAIL),
        label=f"t-SNE of the features of {len(rows)} images in three dimensions, to be turned.",
    )


def _distances(record: Record, evaluator: str, predictions: Predictions, features: np.ndarray) -> Iterator[page.Block]:
    folder = record.workdir / "report"
    middle, of = centroids.of_run(record, evaluator)
    found = centroids.of_mistakes(features, predictions.label, predictions.predicted, middle)
    if not len(found.rows):
        yield page.Text(f"There is no mistake in {evaluator} whose true and predicted class both have a centroid.")
        return
    share = found.nearer_to_predicted
    yield page.Text(
        f"Of {len(found.rows):,} mistakes {100 * share:.1f} % have features nearer to the centroid of the class that "
        f"they are taken for than to that of their own (Euclidean distance). The centroids are the means of {of}."
    )
    path = folder / "centroid_scatter.png"
    prediction_plots.centroid_scatter(path, found.true, found.predicted)
    yield page.picture(path, "Distances of mistakes to two centroids", "Below the line: nearer to the predicted class.")
    path = folder / "centroid_histogram.png"
    plots.histograms(
        path,
        {"mistakes": found.true - found.predicted},
        title="How much nearer the predicted class is",
        xlabel="distance to the true class − distance to the predicted class",
        mark=0.0,
    )
    yield page.picture(path, "Differences of the two distances", "Right of the line: nearer to the predicted class.")

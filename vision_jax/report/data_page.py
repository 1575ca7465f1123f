"""The page about the data of a config: what there is, what it looks like, and what training will make of it."""

import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from vision_jax import config as config_lib
from vision_jax.analysis import errors, labels
from vision_jax.analysis.record import Record
from vision_jax.data import augment, datasets, sources, transforms
from vision_jax.data.inspect import near_duplicates, survey
from vision_jax.data.sources import Dataset, Source
from vision_jax.report import image_plots, page, plots

_THUMBNAIL = 96  # pixels; photos of any size are shown within such a square
_PER_CLASS = 10
_MANY_CLASSES = 20  # beyond, what has a picture per class is folded
_MAX_CLASSES = 100
_MAX_LISTED = 40
_AUGMENTED = 7  # versions beside the original


def write(
    folder: str | os.PathLike[str],
    dataset: Dataset,
    config: ConfigDict,
    *,
    near: bool = True,
    record: Record | None = None,
) -> pathlib.Path:
    """Surveys the data set and writes `FOLDER/index.html` with its pictures beside it.

    Args:
        folder: where to write.
        dataset: what `datasets.of_config(config)` gave.
        config: the options of the run; its transforms and augmentation are shown on the training images.
        near: whether to look for near-duplicates, for which every picture is decoded.
        record: the files of a run on this data, whose network's disagreement with the labels is shown.

    Returns:
        The path of the page.

    Raises:
        ValueError: the run was evaluated on other examples than these.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    disagreeing = list(_labels(folder, dataset, record)) if record else []
    groups = survey.duplicates(dataset.splits)
    counts = survey.counts(dataset.splits, len(dataset.class_names)) if dataset.class_names else {}
    long = len(dataset.class_names) > _MANY_CLASSES
    sections = [
        page.Section("Data set", [_splits(dataset, counts), page.KeyValues(dict(dataset.provenance))]),
        page.Section("Examples per class", list(_class_bars(folder, dataset, counts)), folded=long),
        page.Section("Pictures of the training split", list(_grids(folder, dataset)), folded=long),
        page.Section("Pixels", list(_pixels(dataset, config))),
        page.Section("Sizes", list(_sizes(folder, dataset))),
        page.Section("Duplicates", list(_duplicates(folder, dataset, groups))),
        page.Section("Near-duplicates", list(_near_duplicates(folder, dataset, groups)) if near else []),
        page.Section("Labels that a network disagrees with", disagreeing),
        page.Section("As training sees them", list(_augmented(folder, dataset, config))),
        page.Section(
            "Configuration", [page.Code(json.dumps(config_lib.to_dict(config)["data"], indent=2))], folded=True
        ),
    ]
    path = folder / "index.html"
    page.write(path, title=f"The data set {dataset.name}", sections=[section for section in sections if section.blocks])
    return path


def _splits(dataset: Dataset, counts: dict[str, np.ndarray]) -> page.Table:
    if not counts:
        return page.Table(("split", "examples"), [(split, len(source)) for split, source in dataset.splits.items()])
    names = dataset.class_names
    rows = []
    for split, count in counts.items():
        least, most = int(count.argmin()), int(count.argmax())
        absent = int((count == 0).sum())
        if len(set(count)) == 1:
            extremes = (f"{count[0]} (all classes)",) * 2
        else:
            extremes = (f"{count[least]} ({names[least]})", f"{count[most]} ({names[most]})")
        rows.append((split, int(count.sum()), len(names) - absent, *extremes))
    header = ("split", "examples", "classes that occur", "smallest class", "largest class")
    return page.Table(header, rows)


def _class_bars(folder: pathlib.Path, dataset: Dataset, counts: dict[str, np.ndarray]) -> Iterator[page.Block]:
    for split, count in counts.items():
        path = folder / f"classes_{split}.png"
        plots.bars(path, {split: count}, dataset.class_names, title=f"{split}: examples per class", xlabel="examples")
        yield page.Picture(path, alt=f"Bar plot of the examples per class in {split}: {count.min()} to {count.max()}.")


def _grids(folder: pathlib.Path, dataset: Dataset) -> Iterator[page.Block]:
    source = dataset.splits["train"]
    if not dataset.class_names:
        picked = np.unique(np.linspace(0, len(source) - 1, min(len(source), 40)).astype(np.int64))
        path = folder / "pictures.png"
        image_plots.image_grid(path, _thumbnails(_pictures(source, picked)))
        yield page.Picture(path, alt=f"{len(picked)} pictures, evenly spread over the training split.")
        return
    for label, name in enumerate(dataset.class_names[:_MAX_CLASSES]):
        picked = survey.spread(source.labels, label, _PER_CLASS)
        if len(picked):
            path = folder / f"class_{label:03d}.png"
            image_plots.image_grid(path, _thumbnails(_pictures(source, picked)), columns=_PER_CLASS // 2)
            yield page.Picture(
                path, alt=f"{len(picked)} training pictures of the class {name}.", caption=f"{label}: {name}"
            )
    if len(dataset.class_names) > _MAX_CLASSES:
        yield page.Text(f"Shown are the first {_MAX_CLASSES} of {len(dataset.class_names)} classes.")


def _pixels(dataset: Dataset, config: ConfigDict) -> Iterator[page.Block]:
    mean, std, number = survey.channel_statistics(dataset.splits["train"])
    given = [
        np.broadcast_to(np.asarray(values, np.float64), mean.shape).tolist() if values else ["not set"] * len(mean)
        for values in (config.data.mean, config.data.std)
    ]
    channels = ("red", "green", "blue") if len(mean) == 3 else ("gray",)
    rows = list(zip(channels, mean.tolist(), std.tolist(), *given, strict=True))
    header = ("channel", "mean", "standard deviation", "config.data.mean", "config.data.std")
    yield page.Table(header, rows, caption=f"Pixels in [0, 1], of {number:,} training images, each weighing the same")
    own = (tuple(round(float(value), 4) for value in values) for values in (mean, std))
    yield page.Text("To normalize with the training split's own values, write")
    yield page.Code("config.data.mean = {}\nconfig.data.std = {}".format(*own))


def _sizes(folder: pathlib.Path, dataset: Dataset) -> Iterator[page.Block]:
    found = {split: survey.sizes(source) for split, source in dataset.splits.items()}
    everything = np.concatenate(list(found.values()))
    if (everything == everything[0]).all():
        height, width = everything[0]
        yield page.Text(f"All pictures are {width} pixels wide and {height} high.")
        return
    for what, values in (
        ("short side in pixels", {split: size.min(1) for split, size in found.items()}),
        ("width / height", {split: size[:, 1] / size[:, 0] for split, size in found.items()}),
    ):
        pooled = np.concatenate(list(values.values()))
        if pooled.min() == pooled.max():
            yield page.Text(f"All pictures have the same {what}: {pooled[0]:g}.")
            continue
        edges = np.unique(np.histogram_bin_edges(pooled, bins=10).round(0 if what.startswith("short") else 2))
        labels = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
        parts = {  # clipped, as the rounded edges may leave out the extremes
            split: 100 * np.histogram(value.clip(edges[0], edges[-1]), edges)[0] / len(value)
            for split, value in values.items()
        }
        path = folder / f"sizes_{what.split()[0]}.png"
        plots.bars(path, parts, labels, title=what, xlabel="percent of the split")
        yield page.Picture(path, alt=f"Histogram of {what}: {pooled.min():g} to {pooled.max():g}.")


def _place(dataset: Dataset, place: survey.Place) -> str:
    """Returns 'split index (class)'."""
    split, index = place
    name = dataset.class_names[dataset.splits[split].labels[index]] if dataset.class_names else ""
    return f"{split} {index}" + (f" ({name})" if name else "")


def _conflicts(dataset: Dataset, groups: list[list[survey.Place]]) -> list[list[survey.Place]]:
    """Returns the groups whose members have different labels."""
    return [group for group in groups if len({int(dataset.splits[split].labels[i]) for split, i in group}) > 1]


def _counted(dataset: Dataset, groups: list[list[survey.Place]]) -> page.Table:
    pairs = {
        f"in both {first} and {second}": sum({first, second} <= {split for split, _ in group} for group in groups)
        for first, second in itertools.combinations(dataset.splits, 2)
    }
    conflicts = len(_conflicts(dataset, groups))
    found = {**pairs, "more than once in all": len(groups), "under different classes": conflicts}
    return page.Table(("pictures that stand", "number"), list(found.items()))


def _near_duplicates(folder: pathlib.Path, dataset: Dataset, equal: list[list[survey.Place]]) -> Iterator[page.Block]:
    """Shows groups of pictures that show the same, but for those whose members are all equal."""
    same = {place: number for number, group in enumerate(equal) for place in group}
    near = [
        group
        for group in near_duplicates.near_duplicates(dataset.splits)
        if len({same.get(place, place) for place in group}) > 1
    ]
    yield _counted(dataset, near)
    yield page.Text(
        "Pictures that show the same without being equal: saved again, resized, brighter (perceptual hashes that "
        "differ in few bits, and small pictures that agree). Of drawings of few strokes, look-alikes are among them; "
        "what was cropped, turned or mirrored is not found."
    )
    if not near:
        return
    first = [*survey.across_splits(near), *_conflicts(dataset, near)]
    listed = (first + [group for group in near if group not in first])[:_MAX_LISTED]
    listed = [group for number, group in enumerate(listed) if group not in listed[:number]]
    more = f", {len(listed)} of {len(near)}" if len(listed) < len(near) else ""
    rows = [(", ".join(_place(dataset, place) for place in group),) for group in listed]
    yield page.Table(("split, index (class)",), rows, caption=f"Near-duplicates, those across splits first{more}")
    members = [place for group in listed for place in group[:2]]
    shown = _thumbnails([dataset.splits[split][index]["image"] for split, index in members])
    path = folder / "near_duplicates.png"
    image_plots.image_grid(path, shown, [_place(dataset, place) for place in members], columns=8)
    yield page.Picture(path, alt="Two pictures of each group of the table above, side by side.")


def _labels(folder: pathlib.Path, dataset: Dataset, record: Record) -> Iterator[page.Block]:
    """Shows the examples of each evaluation whose label the network of a run believes least."""
    names = dataset.class_names
    yield page.Text(
        f"Of the run {record.workdir}: pictures ranked by the probability that its network gives their label. Suspects "
        "are those of which another class reaches the probability that it has on average where it is the label "
        "(confident learning, Northcutt et al. 2021). Some are wrong labels, others mistakes of the network."
    )
    for evaluator, evaluation in record.results["evaluations"].items():
        outputs, split = record.outputs(evaluator), evaluation["split"]
        if "logits" not in outputs or split not in dataset.splits:
            continue
        source = dataset.splits[split]
        seen = datasets.limited(source, evaluation["examples"])
        if len(seen) != evaluation["examples"] or sources.fingerprint(seen) != evaluation["fingerprint"]:
            raise ValueError(
                f"The run {record.workdir} was evaluated on other examples than those of {split!r} of {dataset.name}; "
                "inspect the data of its own config."
            )
        predictions = errors.Predictions.of(outputs)
        found = labels.disagreements(predictions.label, predictions.probabilities)
        rows = found.rows[(predictions.predicted != predictions.label)[found.rows]][:_MAX_LISTED]
        learned = " The network was trained on these labels: it has learned wrong ones, too." * (split == "train")
        yield page.Text(
            f"{evaluator}: {len(found.suspects):,} suspects among {len(predictions.label):,} pictures.{learned}"
        )
        if not len(rows):
            continue
        suspects = set(found.suspects.tolist())
        table = [
            (
                int(predictions.index[i]),
                names[predictions.label[i]],
                names[predictions.predicted[i]],
                float(found.probability[i]),
                float(predictions.confidence[i]),
                "yes" if int(i) in suspects else "no",
            )
            for i in rows
        ]
        header = ("index", "label", "predicted", "probability of the label", "of the predicted class", "suspect")
        yield page.Table(header, table, caption=f"{evaluator}: the {len(rows)} least believed labels")
        captions = [f"{names[predictions.label[i]]} or {names[predictions.predicted[i]]}?" for i in rows]
        path = folder / f"labels_{evaluator}.png"
        image_plots.image_grid(path, _thumbnails(_pictures(source, predictions.index[rows])), captions)
        yield page.Picture(path, alt=f"The pictures of the table above ({evaluator}).")


def _duplicates(folder: pathlib.Path, dataset: Dataset, groups: list[list[survey.Place]]) -> Iterator[page.Block]:
    across, conflicts = survey.across_splits(groups), _conflicts(dataset, groups)
    yield _counted(dataset, groups)
    yield page.Text("Compared are the pixels, of photos in files the files: these are equal.")
    for title, listed in (("In more than one split", across), ("Under different classes", conflicts)):
        if not listed:
            continue
        rows = [(", ".join(_place(dataset, place) for place in group),) for group in listed[:_MAX_LISTED]]
        more = f", the first {_MAX_LISTED} of {len(listed)}" if len(listed) > _MAX_LISTED else ""
        yield page.Table(("split, index (class)",), rows, caption=f"{title}{more}")
        path = folder / f"duplicates_{'splits' if listed is across else 'classes'}.png"
        shown = _thumbnails([dataset.splits[split][index]["image"] for (split, index), *_ in listed[:_MAX_LISTED]])
        image_plots.image_grid(path, shown, [_place(dataset, group[0]) for group in listed[:_MAX_LISTED]])
        yield page.Picture(path, alt=f"The pictures of the table above ({title.lower()}).")


def _augmented(folder: pathlib.Path, dataset: Dataset, config: ConfigDict) -> Iterator[page.Block]:
    """Draws training images after transforms and augmentation; the first column is the image in the data set."""
    source = dataset.splits["train"]
    picked = np.linspace(0, len(source) - 1, min(6, len(source))).astype(np.int64)
    on_host, _ = transforms.for_config(config.data)
    rng = np.random.default_rng(config.seed)
    rows = [_thumbnails(_pictures(source, picked))]
    for draw in range(_AUGMENTED):
        examples = [source[int(i)] for i in picked]
        examples = [on_host(example, rng) for example in examples] if on_host else examples
        if len({example["image"].shape for example in examples}) > 1:
            yield page.Text(
                "The pictures have different sizes, and config.data.image_size is not set: no batch of them."
            )
            return
        images = np.stack([example["image"] for example in examples]).astype(np.float32) / 255
        batch: dict[str, np.ndarray] = {
            "image": images,
            "label": np.array([example["label"] for example in examples], np.int32),
        }
        rows.append(_augment(batch, config, len(dataset.class_names), draw))
    height, width = rows[-1].shape[1:3]
    if rows[0].shape[1:3] != (height, width):
        rows[0] = np.stack([_fit(image, width, height) for image in rows[0]])
    names = [dataset.class_names[source.labels[i]] if dataset.class_names else "" for i in picked]
    captions = [caption for name in names for caption in [name or "as stored", *[""] * _AUGMENTED]]
    path = folder / "augmented.png"
    columns = 1 + _AUGMENTED
    colored = [np.broadcast_to(row, (*row.shape[:3], 3)) for row in rows]
    image_plots.image_grid(path, np.stack(colored, axis=1).reshape(-1, height, width, 3), captions, columns=columns)
    steps = ", then ".join(config.data.augment) or "no augmentation"
    crop = f"{config.data.train_crop} crop to {config.data.image_size} pixels, then " if on_host else ""
    if config.task == "super_resolution":
        crop += f"(after a random patch of {config.super_resolution.patch_size} pixels was cut out, not shown) "
    yield page.Text(f"On the left the picture as stored, beside it what training may get of it: {crop}{steps}.")
    yield page.Picture(path, alt=f"{len(picked)} training pictures and {_AUGMENTED} augmented versions of each.")


def _augment(batch: dict[str, np.ndarray], config: ConfigDict, num_classes: int, draw: int) -> np.ndarray:
    key = jax.random.fold_in(jax.random.key(config.seed), draw)
    if config.task == "super_resolution":
        scale = config.super_resolution.scale
        height, width = (side - side % scale for side in batch["image"].shape[1:3])
        high = batch["image"][:, :height, :width]
        pair = {"low": high[:, ::scale, ::scale], "high": high}  # pairs are drawn alike, so any small one serves
        images = augment.build_paired(config.data.augment)(key, jax.device_put(pair))["high"]
    else:
        images = augment.build(config.data.augment, num_classes=num_classes or None)(key, jax.device_put(batch))[
            "image"
        ]
    return np.asarray((np.clip(images, 0, 1) * 255).round()).astype(np.uint8)


def _pictures(source: Source, indices: Iterable[int]) -> list[np.ndarray]:
    return [source[int(i)]["image"] for i in indices]


def _thumbnails(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images as uint8 [N, H, W, C]; large ones, and those of different sizes, within a small square."""
    if len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= _THUMBNAIL:
        return np.stack(images)
    return np.stack([_fit(image, _THUMBNAIL, _THUMBNAIL) for image in images])


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    return np.asarray(ImageOps.pad(picture, (width, height), color="white"))

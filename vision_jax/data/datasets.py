"""Data sets by name: `load(config.data)` gives the splits 'train', 'val' and (mostly) 'test' of any of them.

To add one, write a function `(options) -> Dataset` and put it in `DATASETS`. The splits it lacks are cut from 'train'
here, seeded and stratified, so that they are a function of the data and `split_seed` alone; `config.data.val_fraction`
never moves an example into or out of the test split.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vision_jax.data import splits
from vision_jax.data.sources import ArraySource, Dataset, Relabeled, Source, Subset
from vision_jax.utils import files
from vision_jax.utils.text import closest

Options = Mapping[str, Any]


def digits(options: Options) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels, embedded in scikit-learn (Alpaydin & Kaynak 1998, UCI): no download."""
    del options
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    provenance = {
        "source": "scikit-learn load_digits: the test set of Optical Recognition of Handwritten Digits, UCI",
        "license": "CC BY 4.0",
        "citation": "E. Alpaydin and C. Kaynak, 1998, doi:10.24432/C50P49",
    }
    return Dataset("digits", {"train": ArraySource(images, bunch.target)}, tuple("0123456789"), provenance)


def photo_tiles(options: Options) -> Dataset:
    """120 tiles of 64x64 pixels of the two photos embedded in scikit-learn (china.jpg, flower.jpg), without classes."""
    del options
    from sklearn import datasets

    side, tiles = 64, []
    for photo in datasets.load_sample_images().images:
        rows, columns = photo.shape[0] // side, photo.shape[1] // side
        cut = photo[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        tiles.append(cut.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3))
    images = np.concatenate(tiles).astype(np.uint8)
    provenance = {
        "source": "scikit-learn load_sample_images: china.jpg (photo: Danielle Buma), flower.jpg (photo: vultilion)",
        "license": "CC BY 2.0",
    }
    return Dataset("photo_tiles", {"train": ArraySource(images, np.zeros(len(images)))}, (), provenance)


def folder(options: Options, *, classes: bool = True) -> Dataset:
    """A folder of images, one folder per class below `config.data.root`."""
    from vision_jax.data import folder as folder_lib

    if not options["root"]:
        raise ValueError("config.data.name='folder' needs config.data.root, the folder with a folder per class.")
    return folder_lib.load(
        options["root"],
        val_fraction=options["val_fraction"],
        test_fraction=options["test_fraction"],
        seed=options["split_seed"],
        on_broken=options["on_broken"],
        classes=classes,
    )


def t91(options: Options) -> Dataset:
    """The 91 training pictures of super-resolution (Yang et al. 2010), and the test sets that lie beside them.

    Folders of picture files in `config.data.data_dir`: T91, and any of `_RESTORATION_TESTS`, each a split of its name.
    """
    from vision_jax.data import folder as folder_lib

    place = pathlib.Path(options["data_dir"] or files.cache_dir("data")).expanduser()
    if not (place / "T91").is_dir():
        raise FileNotFoundError(
            f"There is no folder {place / 'T91'}. Put the 91 training pictures there, as many repositories on "
            f"super-resolution offer them, and test sets beside it ({', '.join(_RESTORATION_TESTS)}); or name the "
            "folder that holds them by --config.data.data_dir=FOLDER."
        )

    def read(name: str, val_fraction: float, test_fraction: float) -> Dataset:
        return folder_lib.load(
            place / name, val_fraction=val_fraction, test_fraction=test_fraction, seed=options["split_seed"]
        )

    trained = read("T91", options["val_fraction"], options["test_fraction"])
    made: dict[str, Source] = dict(trained.splits)
    for name in _RESTORATION_TESTS:
        if (place / name).is_dir():
            found = read(name, 0.0, 0.0).splits["train"]
            assert isinstance(found, folder_lib.FolderSource)
            # Some publishers put pictures in low resolution beside the originals.
            originals = [i for i, path in enumerate(found.paths) if "_LR" not in pathlib.Path(path).stem.upper()]
            made[name] = found.subset(np.array(originals))
    provenance = {
        "source": "T91 of Yang, Wright, Huang & Ma 2010, Image super-resolution via sparse representation",
        "fingerprint": trained.provenance["fingerprint"],
    }
    return Dataset("t91", made, (), provenance)


def _prepared(name: str) -> Callable[[Options], Dataset]:
    def load_prepared(options: Options) -> Dataset:
        from vision_jax.data import prepare

        return prepare.open_prepared(name, pathlib.Path(options["data_dir"] or files.cache_dir("data")))

    load_prepared.__doc__ = f"The prepared data set {name}."
    return load_prepared


_RESTORATION_TESTS = ("Set5", "Set14", "BSD100", "Urban100", "Manga109")
_PREPARED = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped", "oxford_iiit_pet")
DATASETS: dict[str, Callable[[Options], Dataset]] = {
    "digits": digits,
    "photo_tiles": photo_tiles,
    "folder": folder,
    "t91": t91,
    **{name: _prepared(name) for name in _PREPARED},
}


def original(options: Options, *, classes: bool = True) -> Dataset:
    """Returns the data set that `options` (the config's section `data`) names, with its publisher's own splits.

    Without `classes`, those of a folder of photos are no matter: see `folder.load`.

    Raises:
        ValueError: no data set has that name.
        FileNotFoundError: the data set is not prepared; the message is the command that prepares it.
    """
    name = options["name"]
    if name.startswith("tfds:"):
        return _prepared(name)(options)
    if name == "folder":
        return folder(options, classes=classes)
    if name in DATASETS:
        return DATASETS[name](options)
    raise ValueError(
        f"config.data.name={name!r} is no data set{closest(name, DATASETS)}; there are {', '.join(DATASETS)} "
        "and 'tfds:NAME' for other sets of TensorFlow Datasets."
    )


def of_config(config: ConfigDict) -> Dataset:
    """Returns the data set of a config, see `load`; a folder of photos needs classes only for what is told them."""
    return load(config.data, classes=told_classes(config))


def told_classes(config: ConfigDict) -> bool:
    """Returns whether the networks of a config are told classes."""
    return config.task == "classification" or (config.task == "gan" and config.gan.conditional)


def load(options: Options, *, classes: bool = True) -> Dataset:
    """Returns the data set that `options` (the config's section `data`) names, with 'train', 'val' and 'test'.

    Where the data has no test split and `test_fraction` is 0, there is none.

    Raises:
        ValueError: no data set has that name, or a split would be empty.
        FileNotFoundError: the data set is not prepared; the message is the command that prepares it.
    """
    name, dataset = options["name"], original(options, classes=classes)
    made = dict(dataset.splits)
    # The test split is cut first and alone, so that it does not depend on the validation split's size.
    for split in ("test", "val"):
        fraction = options[f"{split}_fraction"]
        if split not in made and (fraction or split == "val"):
            cut = splits.stratified(made["train"].labels, {split: fraction}, options["split_seed"])
            source = made["train"]
            made |= {part: take(source, indices) for part, indices in cut.items()}
    for split, source in made.items():
        if not len(source):
            raise ValueError(_empty(split, name, dataset, options))
        made[split] = limited(source, options["limit"])
    ordered = {split: made[split] for split in dict.fromkeys(("train", "val", "test", *made)) if split in made}
    return dataclasses.replace(dataset, splits=ordered)


def _empty(split: str, name: str, dataset: Dataset, options: Options) -> str:
    """Returns a sentence about a split without an example."""
    train, count = dataset.splits["train"], max(len(dataset.class_names), 1)
    if split == "train":
        return f"The training split of {name} is empty; lower config.data.val_fraction and test_fraction."
    fraction = options[f"{split}_fraction"]
    if not fraction:
        return f"The split {split!r} of {name} is empty; set config.data.{split}_fraction above 0."
    return (
        f"The split {split!r} of {name} is empty: of {len(train):,} training images in {count} "
        f"class{'es' * (count > 1)}, each of which keeps one to train on, config.data.{split}_fraction={fraction:g} "
        "leaves none. Add images, or raise it."
    )


def is_name(data: str) -> bool:
    """Returns whether this names a data set, and no folder."""
    return data in DATASETS or data.startswith("tfds:")


def for_evaluation(data: str, options: Options, class_names: tuple[str, ...]) -> Dataset:
    """Returns other data to evaluate a network on, as the one split 'test'.

    Args:
        data: name of a data set, whose test split is taken (all of one without), or a folder of photos, of which all
            are taken, or its test folder.
        options: the config's section `data`, of which the rest holds.
        class_names: that the network knows; labels become places among them. Empty where it knows no classes.

    Raises:
        ValueError: neither a data set nor a folder, or classes that the network does not know.
    """
    if is_name(data):
        found = original({**options, "name": data})
    elif pathlib.Path(data).expanduser().is_dir():
        from vision_jax.data import folder as folder_lib

        whole = folder_lib.load(
            data,
            val_fraction=0.0,
            test_fraction=0.0,
            seed=0,
            on_broken=options["on_broken"],
            classes=bool(class_names),
        )
        found = dataclasses.replace(whole, name=data)
    else:
        raise ValueError(
            f"--data={data} is no folder and no data set{closest(data, DATASETS)}; there are {', '.join(DATASETS)}."
        )
    source = found.splits.get("test", found.splits["train"])
    if class_names and found.class_names != class_names:
        if unknown := [name for name in found.class_names if name not in class_names]:
            raise ValueError(
                f"{data} has {', '.join(unknown[:5])}{', …' * (len(unknown) > 5)}{closest(unknown[0], class_names)}, "
                f"which the network does not know; its classes are {', '.join(class_names[:20])}."
            )
        if not found.class_names:
            raise ValueError(f"{data} has no classes; put its photos into folders named {', '.join(class_names[:20])}.")
        source = Relabeled(source, np.array([class_names.index(name) for name in found.class_names], np.int32))
    return dataclasses.replace(found, splits={"test": source}, class_names=class_names, superclasses=())


def evenly(count: int, limit: int) -> np.ndarray:
    """Returns the numbers of at most `limit` of `count` examples, spread evenly (0: all), int64."""
    return np.arange(count) if not 0 < limit < count else np.linspace(0, count - 1, limit).astype(np.int64)


def limited(source: Source, limit: int) -> Source:
    """Returns a source with at most `limit` examples of this one, spread evenly; 0 takes all."""
    return take(source, evenly(len(source), limit)) if 0 < limit < len(source) else source


def take(source: Source, indices: np.ndarray) -> Source:
    """Returns the examples at `indices`: an array source stays one."""
    if isinstance(source, ArraySource):
        return ArraySource(source.images[indices], source.labels[indices])
    return Subset(source, indices)

"""Measures how far generated images are from real ones: FID and its relatives, each with its receipt.

    python -m vision_jax.tools.fid REAL GENERATED                    # FID, as `pytorch-fid REAL GENERATED`
    python -m vision_jax.tools.fid cifar10+test runs/dcgan --all     # + KID, precision, recall, Inception Score, FID∞
    python -m vision_jax.tools.fid cifar10+test samples/ --extractor=resnet56 --weights=resnet56-4bfd9763.th
    python -m vision_jax.tools.fid --save-stats REAL statistics.npz  # mu and sigma for later, and for pytorch-fid

Each side is one of:

- a folder of pictures, those of all folders in it (upright, by their EXIF tag, which pytorch-fid ignores);
- an .npz with `mu` and `sigma`, of this tool or of pytorch-fid, or else with uint8 images [N, H, W, C] as `images` or
  `arr_0`;
- a data set and its split, NAME+SPLIT: the publisher's own split (`cifar10+train`: all 50,000), or where there is none
  that which a run cuts by default (`digits+test`);
- the folder of a GAN's run, whose generator (EMA, checkpoint `--checkpoint`) then draws `--n` samples, of a conditional
  one the classes in turn (in its own evaluations the run draws the class of each real image). A run is the generated
  side wherever it stands.

Flags are written with - or _. `--self-check` is for a machine with the real Inception weights and CIFAR-10: it repeats
torch-fidelity's own test (tests/tf1/numerical_precision/test_metric_fid_fidelity.py there, of version 0.4), in which
5,000 training images are compared with 5,000 test images. Each are drawn by `RandomState(2020).choice(n, 5000,
replace=False)` over the publisher's order, written as PNG by index (utils/util_dump_dataset_as_images.py) and read in
that order. FID is 10.3233274 there; the other figures are those of its test_versions.py. What is off by more than the
bounds, which allow for another order of float32 sums, makes the exit status 1.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import flags

from vision_jax import command_line, inference, progress
from vision_jax import config as config_lib
from vision_jax.checkpoints import CheckpointError
from vision_jax.data import datasets, decode, sources
from vision_jax.metrics import frechet, generative, kernel, manifold
from vision_jax.metrics.generative import FeatureSet
from vision_jax.metrics.inception_score import inception_score
from vision_jax.metrics.receipt import UNKNOWN, Protocol, Receipt
from vision_jax.pretrained import extractors, reference
from vision_jax.pretrained.extractors import Extractor
from vision_jax.utils import files as files_lib
from vision_jax.utils.text import closest

_KEPT = 10_000  # Features of each side that are kept for all but the Fréchet distance.
_CHUNK = 256  # Files decoded ahead.
_FLAGS = {"infinity": "infinity", "kernel": "kid", "manifold": "prdc", "score": "isc"}  # Of `generative.PARTS`.


@dataclasses.dataclass(frozen=True)
class Images:
    """One side, read when it is needed.

    Attributes:
        name, split, fingerprint: as a protocol names a reference.
        count: number of images.
        read: yields them, uint8 [H, W, C].
        generated: they are samples of a run.
    """

    name: str
    split: str
    fingerprint: str
    count: int
    read: Callable[[], Iterator[np.ndarray]]
    generated: bool = False


@dataclasses.dataclass(frozen=True)
class Statistics:
    """One side of which mean and covariance are known, the number of images maybe, and how they were measured maybe."""

    name: str
    fingerprint: str
    mean: np.ndarray
    covariance: np.ndarray
    count: int | None
    protocol: Protocol | None
    generated: bool = False


@dataclasses.dataclass(frozen=True)
class Options:
    """What the flags of the same names say."""

    extractor: str = extractors.FID_NETWORK
    weights: str = ""
    mode: str = "pytorch_fid"
    dims: int = 0
    batch_size: int = 50
    n: int = 0
    seed: int = 0
    checkpoint: str = "best"
    data_dir: str = ""
    resamples: int = 50


def side(text: str, options: Options) -> Images | Statistics:
    """Returns what one argument names; see the top of this file.

    Raises:
        ValueError, OSError, CheckpointError: nothing of that name, or it cannot be read.
    """
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        return _run(path, options) if (path / "checkpoints").is_dir() else _folder(path)
    if path.is_file():
        return _npz(path)
    if "+" in text:
        return _data_set(text, options)
    raise ValueError(
        f"{text!r} is neither a folder of pictures, an .npz, a run nor a data set and its split (cifar10+test)"
    )


def load_extractor(options: Options) -> Extractor:
    """Returns the extractor that the flags name; a folder is that of a classifier's run."""
    if pathlib.Path(options.extractor).is_dir():
        return inference.extractor_of_run(pathlib.Path(options.extractor), _step(options.checkpoint))
    return extractors.load(options.extractor, options.weights, mode=options.mode, dims=options.dims)


def features(extractor: Extractor, images: Images, batch_size: int) -> FeatureSet:
    """Returns the features of one side, with a progress bar."""
    print(f"{extractor.prefix}: {images.count:,} images of {images.name} {images.split}".rstrip(), file=sys.stderr)
    with progress.Progress(images.count, unit="image") as bar:
        tenths = -1

        def seen(done: int) -> None:
            nonlocal tenths
            line, tenths = 10 * done // images.count > tenths, 10 * done // images.count
            bar.update(done, {} if line else None)

        given = map(_gray, images.read()) if len(extractor.view.shift) == 1 else images.read()
        return extractors.collect(extractor, given, batch_size=batch_size, limit=_KEPT, seen=seen)


def _gray(image: np.ndarray) -> np.ndarray:
    """Returns one channel of a picture whose channels are equal, as those of gray files are when decoded."""
    return image[..., :1] if (image == image[..., :1]).all() else image


def feature_set(extractor: Extractor, given: Images | Statistics, options: Options, *, keep: bool) -> FeatureSet:
    """Returns the features of a side; those of a reference (`keep`) come from the cache and go there.

    Raises:
        ValueError: statistics that were measured in another way.
    """
    if isinstance(given, Statistics):
        _check_statistics(extractor, given)
        return FeatureSet.of_gaussian(given.mean, given.covariance, given.count)
    if not keep or given.generated:
        return features(extractor, given, options.batch_size)
    protocol = extractor.protocol(given.name, given.split, given.fingerprint)
    return reference.cached(protocol, _KEPT, lambda: features(extractor, given, options.batch_size))


def compare(first: str, second: str, parts: Sequence[str], options: Options) -> dict[str, Receipt]:
    """Returns the receipts of all measures asked for, the Fréchet distance first.

    Raises:
        ValueError, OSError, CheckpointError: with a sentence for the person at the keyboard.
    """
    sides = [side(text, options) for text in (first, second)]
    if sides[0].generated and not sides[1].generated:
        sides.reverse()
    real, fake = sides
    if isinstance(fake, Images) and not fake.generated:
        fake = _at_most(fake, options.n)
    needing = [part for part in parts if part != "interval"]
    for given in sides if {"kernel", "manifold"} & set(needing) else sides[1:] if needing else ():
        if isinstance(given, Statistics):
            raise ValueError(f"{given.name} holds statistics alone; images are needed for {', '.join(needing)}")
    extractor = load_extractor(options)
    if extractor.note:
        print(extractor.note, file=sys.stderr)
    if isinstance(real, Statistics) and real.protocol is not None:
        protocol = extractor.protocol(real.protocol.reference, real.protocol.split, real.protocol.fingerprint)
    else:
        protocol = extractor.protocol(real.name, getattr(real, "split", ""), real.fingerprint)
    known = feature_set(extractor, real, options, keep=True)
    found = feature_set(extractor, fake, options, keep=False)
    for part, reason in generative.left_out(known, found, parts).items():
        if part in _FLAGS:
            print(f"--{_FLAGS[part]} is left out: {reason}.", file=sys.stderr)
    return generative.measure(known, found, protocol, parts=parts, resamples=options.resamples)[1]


def save_statistics(source: str, target: str, options: Options) -> str:
    """Writes mean and covariance of one side as pytorch-fid does, with how they were measured; returns what was done.

    Raises:
        ValueError, OSError, CheckpointError: the target is there already, or the source cannot be read.
    """
    if pathlib.Path(target).exists():
        raise ValueError(f"{target} is there already; delete it or write another file")
    given = side(source, options)
    if isinstance(given, Statistics):
        raise ValueError(f"{source} holds statistics already")
    extractor = load_extractor(options)
    found = feature_set(extractor, _at_most(given, options.n), options, keep=True)
    protocol = extractor.protocol(given.name, given.split, given.fingerprint)
    frechet.save(target, *found.gaussian(), n=given.count, protocol=json.dumps(dataclasses.asdict(protocol)))
    return f"{target}: mu and sigma of {found.count:,} images, {extractor.dimension} features ({extractor.prefix})"


def self_check(
    train: sources.Source, test: sources.Source, options: Options, *, count: int = 5000
) -> list[tuple[str, float, float, float]]:
    """Returns rows (measure, expected, found, bound) of torch-fidelity's own test; see the top of this file.

    The expected values are those of `count` = 5,000 images of each split of CIFAR-10.
    """
    extractor = extractors.load(weights=options.weights, mode="tensorflow")
    sets = []
    for split, source in (("train", train), ("test", test)):
        chosen = np.sort(np.random.RandomState(2020).choice(len(source), count, replace=False))
        read = (source[int(i)]["image"] for i in chosen)
        images = Images("cifar10", split, UNKNOWN, len(chosen), lambda read=read: read)  # type: ignore[misc]
        sets.append(features(extractor, images, options.batch_size))
    fake, real = sets
    kid, kid_std = kernel.distance(fake.features, real.features)
    score, score_std = inception_score(fake.logits)
    precision, recall = manifold.precision_recall(real.features, fake.features)
    return [
        ("fid", 10.3233274, frechet.distance(*real.gaussian(), *fake.gaussian()), 1e-3 * 10.3233274),
        ("inception_score", 10.75051, score, 1e-2),
        ("inception_score_std", 0.5778723, score_std, 1e-2),
        ("kid", -2.907863e-05, kid, 1e-6),
        ("kid_std", 0.0001023118, kid_std, 1e-6),
        ("precision", 0.6852, precision, 2e-3),
        ("recall", 0.6908, recall, 2e-3),
    ]


def _step(checkpoint: str) -> int | str:
    return int(checkpoint) if checkpoint.isdigit() else checkpoint


def _at_most(images: Images, n: int) -> Images:
    """Returns at most n of the images (0: all), evenly spread."""
    chosen = set(datasets.evenly(images.count, n).tolist())
    if len(chosen) == images.count:
        return images
    name = f"{images.split} ({len(chosen)} of {images.count})".strip()
    digest = hashlib.sha256(f"{images.fingerprint} {len(chosen)}".encode()).hexdigest()
    return dataclasses.replace(
        images,
        split=name,
        fingerprint=digest,
        count=len(chosen),
        read=lambda: (image for number, image in enumerate(images.read()) if number in chosen),
    )


def _folder(path: pathlib.Path) -> Images:
    files = list(inference.picture_files([path]))
    if not files:
        raise ValueError(f"there is no picture ({', '.join(decode.EXTENSIONS)}) in {path}")

    def digest(file: pathlib.Path) -> bytes:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()

    def read() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(files), _CHUNK):
                yield from pool.map(decode.decode_image, files[start : start + _CHUNK])

    with ThreadPoolExecutor() as pool:
        digests = sorted(pool.map(digest, files))  # Names and order are nobody's business.
    return Images(str(path), "", hashlib.sha256(b"".join(digests)).hexdigest(), len(files), read)


def _npz(path: pathlib.Path) -> Images | Statistics:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        with path.open("rb") as file, files_lib.open_npz(file) as archive:
            names = set(archive.files)
            images = next((archive[name] for name in ("images", "arr_0") if name in names), None)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no .npz of plain arrays: {error}") from error
    if {"mu", "sigma"} <= names:
        mean, covariance, facts = frechet.load(path)
        try:
            count = int(facts["n"]) if "n" in facts else None
            protocol = Protocol(**json.loads(facts["protocol"])) if "protocol" in facts else None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} does not say properly how its statistics were measured: {error}") from error
        return Statistics(str(path), digest, mean, covariance, count, protocol)
    if images is None:
        raise ValueError(f"{path} holds {', '.join(sorted(names))}; expected images (or arr_0), or mu and sigma")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{path} holds {images.dtype} {images.shape}; expected uint8 images [N, H, W, 1 or 3]")
    return Images(str(path), "", digest, len(images), lambda: iter(images))


def _data_set(text: str, options: Options) -> Images:
    name, _, split = text.rpartition("+")
    data = config_lib.default().data
    data.name, data.data_dir = name, options.data_dir
    splits = datasets.original(data).splits
    if split not in splits:
        splits = datasets.load(data).splits
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}{closest(split, splits)}; there are {', '.join(splits)}")
    source = splits[split]

    def read() -> Iterator[np.ndarray]:
        return (source[i]["image"] for i in range(len(source)))

    return Images(name, split, sources.fingerprint(source), len(source), read)


def _run(path: pathlib.Path, options: Options) -> Images:
    generator, count = inference.generator_of_run(path, _step(options.checkpoint)), options.n or _KEPT

    def read() -> Iterator[np.ndarray]:
        return iter(generator.sample(count, seed=options.seed, batch_size=options.batch_size))

    split = f"checkpoint {options.checkpoint}, seed {options.seed}{', classes in turn' * generator.conditional}"
    return Images(str(path), split, UNKNOWN, count, read, True)


def _check_statistics(extractor: Extractor, given: Statistics) -> None:
    if len(given.mean) != extractor.dimension:
        raise ValueError(
            f"{given.name} holds statistics of {len(given.mean)} features, and {extractor.prefix} has "
            f"{extractor.dimension}; choose the extractor (--dims) that they were measured with"
        )
    if given.protocol is None:
        print(f"{given.name} does not say how it was measured; taken for {extractor.prefix}.", file=sys.stderr)
        return
    ours = extractor.protocol(given.protocol.reference, given.protocol.split, given.protocol.fingerprint)
    differing = [
        f"its {field.name} is {theirs!r}, here {mine!r}"
        for field in dataclasses.fields(Protocol)
        if (theirs := getattr(given.protocol, field.name)) != (mine := getattr(ours, field.name))
    ]
    if differing:
        raise ValueError(f"{given.name} was measured in another way and cannot be compared: {'; '.join(differing)}")


def define_flags() -> None:
    """Defines the command line."""
    flags.DEFINE_integer("batch_size", 50, "Images at a time.", lower_bound=1)
    flags.DEFINE_integer("dims", 0, "FID's network: 64, 192, 768 or 2048 features; 0 is all it has.", lower_bound=0)
    flags.DEFINE_bool("save_stats", False, "Write mu and sigma of the first argument to the second, an .npz.")
    flags.DEFINE_string("extractor", extractors.FID_NETWORK, "Network, or the folder of a classifier's run.")
    flags.DEFINE_string("weights", "", "Its weights, if not the published ones: their name, or a file.")
    flags.DEFINE_enum("mode", "pytorch_fid", list(extractors.FID_VIEWS), "How FID's network sees images.")
    flags.DEFINE_integer("n", 0, "Generated images: so many samples of a run (0: 10,000), else at most.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Of a run's samples.")
    flags.DEFINE_string("checkpoint", "best", "Of a run: 'best', 'newest' or its step.")
    flags.DEFINE_string("data_dir", "", "Where prepared data sets lie; '' is $VISION_JAX_HOME/data.")
    flags.DEFINE_integer("resamples", 50, "Of the bootstrap of the interval; 0 leaves it out.", lower_bound=0)
    flags.DEFINE_bool("json", False, "Write receipts as JSON.")
    flags.DEFINE_bool("infinity", False, "Add FID∞, extrapolated to infinitely many generated images.")
    flags.DEFINE_bool("kid", False, "Add the kernel distance.")
    flags.DEFINE_bool("isc", False, "Add the Inception Score of the generated images.")
    flags.DEFINE_bool("prdc", False, "Add precision, recall, density and coverage.")
    flags.DEFINE_bool("all", False, "Add all of these.")
    flags.DEFINE_bool("self_check", False, "Repeat torch-fidelity's own test; needs the real weights and CIFAR-10.")


def main(argv: list[str]) -> int:
    """Measures what the command line names."""
    given = flags.FLAGS
    command_line.quiet()
    values: dict[str, Any] = {field.name: given[field.name].value for field in dataclasses.fields(Options)}
    options = Options(**values)
    try:
        if given.self_check:
            data = config_lib.default().data
            data.name, data.data_dir = "cifar10", options.data_dir
            splits = datasets.original(data).splits
            rows = self_check(splits["train"], splits["test"], options)
            progress.print_table(("measure", "expected", "found", "bound"), rows)
            wrong = [name for name, expected, found, bound in rows if not abs(found - expected) <= bound]
            print(f"Off: {', '.join(wrong)}." if wrong else "All as torch-fidelity's.")
            return 1 if wrong else 0
        if len(argv) != 3:
            raise ValueError(f"two arguments are compared; found {', '.join(argv[1:]) or 'none'}. See --help.")
        if given.save_stats:
            print(save_statistics(argv[1], argv[2], options))
            return 0
        parts = [part for part, flag in _FLAGS.items() if given[flag].value or given.all]
        receipts = compare(argv[1], argv[2], ["interval"] * (options.resamples > 1) + parts, options)
    except (ValueError, OSError, CheckpointError) as error:
        print(command_line.in_words(error), file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps({name: receipt.to_json() for name, receipt in receipts.items()}, indent=2, ensure_ascii=False))
        return 0
    distance, *others = receipts.values()
    print(distance.text())
    if others:
        print()
        progress.print_table(
            ("measure", "value", "settings"),
            [(r.metric, r.value, ", ".join(f"{k} {v}" for k, v in r.settings.items())) for r in others],
        )
    return 0


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl's flags, also where their names are written with '-', as pytorch-fid's."""
    written = []
    for argument in argv:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = "--" + name[2:].replace("-", "_") + equals + value
        written.append(argument)
    return command_line.parse_flags(written)


if __name__ == "__main__":
    define_flags()
    command_line.run(main, parse_flags)

"""Networks and training from Python: what `vision_jax.load` and `vision_jax.fit` are.

`load` returns one of three networks, each of which does what it was trained for; the methods of the others raise
`WrongNetworkError`, which names the ones it has.
"""

import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vision_jax import config_files, inference, models, run, train
from vision_jax.data import decode
from vision_jax.models.layers import at_least_float32
from vision_jax.utils.text import closest

Picture = str | os.PathLike[str] | np.ndarray


class WrongNetworkError(TypeError):
    """A network was asked for what networks of another task do."""


class LoadedNetwork:
    """A network that is ready for images.

    Attributes:
        name: what it is and where its weights are from, for people.
        class_names: of the data set, empty where there are none.
        variables: {'params', 'batch_stats'}, NumPy arrays.
    """

    name: str
    class_names: tuple[str, ...]
    variables: Mapping[str, Any]
    _can: tuple[str, ...] = ()

    def predict(self, pictures: Picture | Iterable[Picture], *, top: int = 5) -> list[inference.Answer]:
        """Names what is on pictures (classifiers); see `Classifier.predict`."""
        raise self._refusal("predict")

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns scores of the classes (classifiers); see `Classifier.logits`."""
        raise self._refusal("logits")

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the vectors that the last layer sees (classifiers); see `Classifier.features`."""
        raise self._refusal("features")

    def explain(self, picture: Picture) -> np.ndarray:
        """Returns a picture with what decided on top (classifiers); see `Classifier.explain`."""
        raise self._refusal("explain")

    def sample(self, n: int, *, seed: int = 0, class_name: str | None = None, truncation: float = 1.0) -> np.ndarray:
        """Makes images (generators); see `Generator.sample`."""
        raise self._refusal("sample")

    def upscale(self, image: Picture, scale: float | None = None) -> np.ndarray:
        """Returns an enlarged image (super-resolution networks); see `Upscaler.upscale`."""
        raise self._refusal("upscale")

    def _refusal(self, wanted: str) -> WrongNetworkError:
        kind = type(self).__name__.lower()
        return WrongNetworkError(f"{self.name} is a {kind}, which has no `{wanted}`; it has {', '.join(self._can)}.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


class Classifier(LoadedNetwork):
    """A classifier; `network` is the `vision_jax.inference.ImageClassifier` that it asks."""

    _can = ("predict", "logits", "features", "explain")

    def __init__(self, network: inference.ImageClassifier):
        self.network = network
        self.name, self.class_names, self.variables = network.name, network.class_names, network.variables

    def predict(self, pictures: Picture | Iterable[Picture], *, top: int = 5) -> list[inference.Answer]:
        """Names what is on pictures.

        Args:
            pictures: a file, a folder (its picture files at any depth, sorted), an array, uint8 [H, W, 3 or 1] or a
                batch of them [N, H, W, C]; or several of these. They are resized and cropped as the network wants.
            top: how many classes to name, at most.

        Returns:
            An answer per picture, in order: `predictions` are (class name, index, probability), best first; `label`
            and `probability` are the first's; `error` says why a picture could not be read.
        """
        return list(inference.predict(self.network, _pictures(pictures), top=top, batch_size=32))

    def prepare(self, pictures: Picture | Iterable[Picture]) -> np.ndarray:
        """Returns pictures, as `predict` takes them, resized and cropped for the network: uint8 [N, S, S, C].

        Raises:
            ImageError, OSError: one cannot be read.
        """
        found = [self.network.open(picture) for picture in _pictures(pictures)]
        if not found:
            raise ValueError("There is no picture to prepare.")
        return np.stack(found)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns scores of the classes, float32 [N, K].

        Args:
            images: uint8, or float in [0, 1], [N, H, W, C]: at the network's size, as `prepare` returns them; they are
                normalized, not resized.

        Raises:
            ValueError: of another shape or type, or floats that are normalized already or reach to 255.
        """
        return self._run(images)[0]

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the vectors that the last layer sees, float32 [N, F], of images as `logits` takes them."""
        return self._run(images)[1]

    def explain(self, picture: Picture) -> np.ndarray:
        """Returns the prepared picture with Grad-CAM of its likeliest class on top, uint8 [S, S, 3].

        Raises:
            ValueError: the network has no feature map with positions, as perceptrons.
        """
        network, image = self.network, self.prepare([picture])
        stage = inference.last_map(network.model, network.variables, jax.ShapeDtypeStruct(image.shape, np.float32))
        best = self.logits(image).argmax(-1)
        cam = inference.grad_cam(
            network.model, network.variables, network.normalize(jax.numpy.asarray(image)), best, stage
        )
        return np.asarray(inference.overlay(image[0], np.asarray(cam)[0]))

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != self.network.channels or images.dtype.kind not in "uf":
            raise ValueError(
                f"Expected images [N, H, W, {self.network.channels}], uint8 or float in [0, 1]; found {images.dtype} "
                f"{list(images.shape)}. `prepare` makes them of pictures."
            )
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
            if not np.all(np.abs(images - 0.5) <= 1.0):  # Wide enough for what resizing overshoots.
                raise ValueError(
                    "Expected float images in [0, 1], before normalization; found values from "
                    f"{images.min():.3g} to {images.max():.3g}."
                )
        logits, features = self._program(images)
        return np.asarray(logits), np.asarray(features)

    @functools.cached_property
    def _program(self) -> Callable[[np.ndarray], tuple[jax.Array, jax.Array]]:
        @jax.jit
        def computed(variables: Mapping[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = self.network.normalize(images)
            logits, kept = self.network.model.apply(variables, inputs, train=False, mutable=["intermediates"])
            return logits, at_least_float32(kept["intermediates"]["features"][0])

        return functools.partial(computed, jax.device_put(self.variables))


class Generator(LoadedNetwork):
    """A generator; `network` is the `vision_jax.inference.ImageGenerator` that it asks."""

    _can = ("sample", "interpolate")

    def __init__(self, network: inference.ImageGenerator):
        self.network = network
        self.name, self.class_names, self.variables = network.name, network.class_names, network.variables

    def sample(self, n: int, *, seed: int = 0, class_name: str | None = None, truncation: float = 1.0) -> np.ndarray:
        """Makes `n` images, uint8 [n, H, W, C]; image `i` depends on `seed` and `i` alone.

        Args:
            n: how many.
            seed: of the noise.
            class_name: their class, of a class-conditional generator; None goes through all in turn.
            truncation: below 1: less variety, often better images.

        Raises:
            ValueError: no such class, or a number out of range.
        """
        index = None
        if class_name is not None:
            if class_name not in self.class_names:
                known = ", ".join(self.class_names)
                raise ValueError(
                    f"There is no class {class_name!r}{closest(class_name, self.class_names)}; of {known}."
                )
            index = self.class_names.index(class_name)
        return self.network.sample(n, seed=seed, class_index=index, truncation=truncation)

    def interpolate(self, rows: int, steps: int = 8, *, seed: int = 0) -> np.ndarray:
        """Makes `rows` ways of `steps` images from one noise to another, uint8 [rows * steps, H, W, C]."""
        return self.network.interpolate(rows, steps, seed)


class Upscaler(LoadedNetwork):
    """A super-resolution network; `network` is the `vision_jax.inference.ImageUpscaler` that it asks."""

    _can = ("upscale",)

    def __init__(self, network: inference.ImageUpscaler):
        self.network = network
        self.name, self.class_names, self.variables = network.name, (), network.variables

    def upscale(self, image: Picture, scale: float | None = None) -> np.ndarray:
        """Returns an enlarged image.

        Args:
            image: a file, or an array uint8 [H, W, 1 or 3].
            scale: how many times as large the result is; None is the network's own.

        Returns:
            uint8 [round(H * scale), round(W * scale), channels].

        Raises:
            ValueError: another type or shape, or a scale of 1 or less.
            ImageError, OSError: the file cannot be read.
        """
        return self.network(image if isinstance(image, np.ndarray) else decode.decode_image(image), scale)


def load(
    source: str | os.PathLike[str], *, weights: str | os.PathLike[str] = "", checkpoint: int | str = "best"
) -> LoadedNetwork:
    """Returns a network that is ready for images.

    Args:
        source: the folder of a run of any task; or the name of a network ('resnet18'), of which published weights are
            taken from the cache or fetched.
        weights: of a named network: 'imagenet_v2', or a file (PyTorch's in either format, .safetensors, this
            project's).
        checkpoint: of a run: 'best', 'newest' or a step.

    Raises:
        ValueError: there is no such network, run or file of weights, or it does not fit; the message says the closest.
        CheckpointError: the run has no such checkpoint, or it is damaged.
        DownloadError: an OSError: the weights are not in the cache and cannot be fetched.
    """
    folder = pathlib.Path(source).expanduser()
    if not folder.is_dir():
        if str(source) not in models.MODELS:
            known = closest(str(source), models.MODELS)
            raise ValueError(f"{str(source)!r} is neither the folder of a run nor a network{known}.")
        return Classifier(inference.pretrained_classifier(str(source), os.fspath(weights)))
    if weights:
        raise ValueError(f"{folder} is the folder of a run, which has weights of its own; leave `weights` out.")
    task = config_files.of_run(folder).task
    if task == "classification":
        return Classifier(inference.classifier_of_run(folder, checkpoint))
    if task == "gan":
        return Generator(inference.generator_of_run(folder, checkpoint))
    return Upscaler(inference.upscaler_of_run(folder, checkpoint))


def fit(
    config: ConfigDict | str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    allow_config_change: bool = False,
) -> dict[str, Any]:
    """Trains a config to its end, or continues a run that was stopped, and returns the results.

    Args:
        config: a config, or its file and variant, 'configs/digits_cnn.py:smoke'; packaged ones are found from any
            folder.
        workdir: the folder of everything that the run writes; `vision_jax.load` takes it.
        options: set after the config, {'optimizer.learning_rate': 3e-4}.
        allow_config_change: continue although the config has changed.

    Returns:
        What `WORKDIR/report/results.json` holds: `metrics` by 'evaluation/metric', numbers of examples, and more.

    Raises:
        ConfigError: a ValueError: options that are wrong, or contradict the data or the weights.
        CheckpointError: the checkpoints in `workdir` are of another config, or damaged.
        NotFiniteError: an ArithmeticError: a metric or the state became NaN or infinite.
        OSError: something cannot be read or written.
    """
    found = config if isinstance(config, ConfigDict) else config_files.load(os.fspath(config))
    found = found.copy_and_resolve_references()
    config_files.override(found, {name: str(value) for name, value in (options or {}).items()})
    # What a command says to a person is no output of a function.
    with contextlib.redirect_stdout(sys.stderr), run.build(found, pathlib.Path(workdir)) as built:
        return train.train(built, allow_config_change=allow_config_change)


def _pictures(pictures: Picture | Iterable[Picture]) -> list[pathlib.Path | np.ndarray]:
    """Returns files and single images of what `Classifier.predict` takes."""
    given: Sequence[Any]
    if isinstance(pictures, str | os.PathLike | np.ndarray):
        given = [pictures]
    else:
        given = list(pictures)
    found: list[pathlib.Path | np.ndarray] = []
    for picture in given:
        if isinstance(picture, np.ndarray):
            found += list(picture) if picture.ndim == 4 else [picture]
        else:
            found += inference.picture_files([picture])
    return found

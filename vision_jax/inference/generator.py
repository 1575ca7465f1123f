"""The generator of a run, ready to make images."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.models.network import Network
from vision_jax.pretrained.runs import open_run
from vision_jax.tasks import adversarial_networks, base, latent


@dataclasses.dataclass(frozen=True)
class ImageGenerator:
    """A generator with what making images takes.

    Attributes:
        name: what it is, for people.
        model: the network: `(variables, noise [N, size], train=False)` -> images [N, H, W, C] in [-1, 1]; a
            class-conditional one gets labels, int32 [N], after the noise.
        variables: its parameters (averaged where the run averages) and running statistics.
        latent_size: of the noise of one image.
        class_names: of the data set.
        conditional: whether it is class-conditional.
        temperature: factor of all noise, see `config.gan.temperature`.
    """

    name: str
    model: Network
    variables: Mapping[str, Any]
    latent_size: int
    class_names: tuple[str, ...]
    conditional: bool = False
    temperature: float = 1.0

    def sample(
        self, n: int, *, seed: int = 0, batch_size: int = 64, class_index: int | None = None, truncation: float = 1.0
    ) -> np.ndarray:
        """Makes `n` images; image `i` depends on `seed` and `i`, not on `n` and (but for rounding) not on `batch_size`.

        Args:
            n: how many, at least 1.
            seed: of the noise.
            batch_size: images at a time.
            class_index: their class, of a class-conditional generator; None goes through all classes in turn.
            truncation: of the noise, see `vision_jax.tasks.latent.noise`; 1 truncates nothing.

        Returns:
            uint8 [n, H, W, C].

        Raises:
            ValueError: a class that it does not have, or a number out of range.
        """
        noise = latent.noise(jax.random.key(seed), n, self.latent_size, truncation)
        return self._generate(noise, self._labels(np.arange(n), class_index), batch_size)

    def interpolate(
        self,
        rows: int,
        steps: int = 8,
        seed: int = 0,
        *,
        spherical: bool = True,
        batch_size: int = 64,
        class_index: int | None = None,
        truncation: float = 1.0,
    ) -> np.ndarray:
        """Makes images on the way from one noise to another, both ends included; see `sample`.

        Args:
            rows: how many ways; a class-conditional generator keeps the class on each.
            steps: images on a way, at least 2.
            seed: of the noise at the ends.
            spherical: along great circles rather than straight lines, see `vision_jax.tasks.latent.interpolate`.
            batch_size: images at a time.
            class_index: as in `sample`; None gives each way the next class.
            truncation: of the noise at the ends.

        Returns:
            uint8 [rows * steps, H, W, C], one way after the other.
        """
        if steps < 2:
            raise ValueError(f"An interpolation has two ends; found {steps} steps.")
        ends = latent.noise(jax.random.key(seed), 2 * rows, self.latent_size, truncation)
        noise = latent.interpolate(ends[0::2], ends[1::2], steps, spherical=spherical)
        return self._generate(noise, self._labels(np.arange(rows).repeat(steps), class_index), batch_size)

    def _labels(self, positions: np.ndarray, class_index: int | None) -> np.ndarray:
        """Returns the class of each image, int32; zeros where there are no classes to choose."""
        count = len(self.class_names)
        if not self.conditional:
            if class_index is not None:
                raise ValueError(f"{self.name} is not class-conditional, so that no class can be asked for")
            return np.zeros(len(positions), np.int32)
        if class_index is None:
            return (positions % count).astype(np.int32)
        if not 0 <= class_index < count:
            raise ValueError(f"{self.name} has no class {class_index}; there are 0 to {count - 1}")
        return np.full(len(positions), class_index, np.int32)

    def _generate(self, noise: jax.Array, labels: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns uint8 [n, H, W, C] of noise [n, size], n ≥ 1, and labels [n]."""
        n = len(labels)
        if n < 1 or batch_size < 1:
            raise ValueError(f"Expected at least one image, and one at a time; found n={n}, batch_size={batch_size}.")
        size = min(batch_size, n)
        padding = -n % size  # One size, so one program.
        noise, labels = jnp.pad(noise, ((0, padding), (0, 0))), np.pad(labels, (0, padding))
        batches = (slice(start, start + size) for start in range(0, n, size))
        images = [np.asarray(self._program(noise[batch], labels[batch])) for batch in batches]
        return np.concatenate(images)[:n]

    @functools.cached_property
    def _program(self) -> Callable[[jax.Array, np.ndarray], jax.Array]:
        @jax.jit
        def generate(variables: Mapping[str, Any], noise: jax.Array, labels: jax.Array) -> jax.Array:
            noise *= self.temperature
            inputs = (noise, labels) if self.conditional else (noise,)
            images = self.model.apply(variables, *inputs, train=False)
            return base.to_bytes((images + 1.0) / 2.0)

        return functools.partial(generate, jax.device_put(self.variables))


def generator_of_run(workdir: pathlib.Path, step: int | str = "best") -> ImageGenerator:
    """Returns the generator that a run has trained; see `open_run`.

    Raises:
        CheckpointError: as `open_run`.
        ValueError: the run trained something else.
    """
    trained = open_run(workdir, step, "gan")
    config = trained.config
    classes = adversarial_networks.classes(config, trained.class_names)
    return ImageGenerator(
        name=f"{config.model.name}_generator of {workdir}, step {trained.step}",
        model=adversarial_networks.build(config, "generator", trained.image_shape, classes),
        variables=trained.variables["generator"],
        latent_size=config.gan.latent_dim,
        class_names=trained.class_names,
        conditional=classes > 0,
        temperature=config.gan.temperature,
    )

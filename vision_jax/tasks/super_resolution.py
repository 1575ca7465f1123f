"""Single-image super-resolution: the network restores what bicubic reduction by `scale` took away.

Low resolution is made on the device: antialiased bicubic reduction (Keys' a = -0.5, as MATLAB's and Pillow's), rounded
to 8 bits. The network (SRCNN, Dong et al. 2015) sees it enlarged again by bicubic interpolation.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision_jax import config as config_lib
from vision_jax import models, optim
from vision_jax.data import augment
from vision_jax.data.sources import Dataset
from vision_jax.metrics import image_quality
from vision_jax.tasks import base

_SHOWN = 4  # Images compared side by side in the report.


class SuperResolution(base.Task):
    """Trains `config.model` on the mean squared error of random patches."""

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        self.config, self.dataset = config, dataset
        self.scale, self.patch = config.super_resolution.scale, config.super_resolution.patch_size
        shape = base.first_examples(config, dataset, "train", 1)["image"].shape[1:]
        for name, side in (("patch_size", self.patch), ("image height", shape[0]), ("image width", shape[1])):
            if side % self.scale:
                raise ValueError(f"The {name} {side} is not a multiple of config.super_resolution.scale={self.scale}.")
        if self.patch > min(shape[:2]):
            raise ValueError(
                f"config.super_resolution.patch_size={self.patch} is larger than the images of {dataset.name}, "
                f"{shape[0]}x{shape[1]}."
            )
        psnr = f"psnr_y_x{self.scale}_shave{self.scale}"
        self.metrics = {psnr: True, f"bicubic_{psnr}": True, f"gain_{psnr}": True}
        self.model = models.build(
            config.model.name,
            channels=shape[-1],
            dtype=jnp.dtype(config.train.dtype),
            **config_lib.network_options(config),
        )
        self.trainer, self.rate = base.network_trainer(config, durations, config.optimizer.learning_rate)
        self.augment = augment.build_paired(config.data.augment)
        self.channels = shape[-1]

    def init(self, key: jax.Array) -> base.TrainState:
        """See `base.Task`."""
        variables = self.model.init(key, jnp.zeros((1, self.patch, self.patch, self.channels)), train=False)
        return base.TrainState(jnp.zeros((), jnp.int32), {"model": self.trainer.init(variables)})

    def reduce(self, high: jax.Array) -> jax.Array:
        """Images [N, H, W, C] in [0, 1] -> low resolution [N, H / scale, W / scale, C], 8-bit values in [0, 1]."""
        n, height, width, channels = high.shape
        low = jax.image.resize(high, (n, height // self.scale, width // self.scale, channels), "bicubic")
        return base.to_unit(base.to_bytes(low))

    def enlarge(self, low: jax.Array) -> jax.Array:
        """Bicubic interpolation [N, h, w, C] -> [N, h * scale, w * scale, C], clipped to [0, 1]."""
        n, height, width, channels = low.shape
        shape = (n, height * self.scale, width * self.scale, channels)
        return jnp.clip(jax.image.resize(low, shape, "bicubic"), 0.0, 1.0)

    def train_step(
        self, state: base.TrainState, batch: base.Batch, key: jax.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        """See `base.Task`."""
        crop_key, augment_key = jax.random.split(key)
        high = base.to_unit(self._crop(crop_key, batch["image"]))
        pair = self.augment(augment_key, {"low": self.reduce(high), "high": high})
        network = state.networks["model"]

        def loss_of(params: base.Tree) -> jax.Array:
            output = self.model.apply(network.variables(params), self.enlarge(pair["low"]), train=True)
            return jnp.mean((output - pair["high"]) ** 2)

        loss, gradients = jax.value_and_grad(loss_of)(network.params)
        metrics = {
            "loss": loss,
            "gradient_norm": optim.norm(gradients),
            "learning_rate": self.rate(state.step),
        }
        return state.replace(networks={"model": self.trainer.update(network, gradients, {})}), metrics

    def _crop(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """A random patch of each image, uint8 [N, patch, patch, C]."""
        n, height, width, channels = images.shape
        room = jnp.asarray([height - self.patch + 1, width - self.patch + 1], jnp.int32)
        corners = jax.random.randint(key, (n, 2), 0, room)
        size = (self.patch, self.patch, channels)
        return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), size))(images, corners)

    def restore(self, state: base.TrainState, low: jax.Array) -> jax.Array:
        """Low resolution [N, h, w, C] in [0, 1] -> [N, h * scale, w * scale, C] in [0, 1]."""
        return jnp.clip(self.model.apply(state.networks["model"].variables(), self.enlarge(low), train=False), 0.0, 1.0)

    def eval_step(self, state: base.TrainState, batch: base.Batch, key: jax.Array) -> dict[str, jax.Array]:
        """See `base.Task`; sums of the PSNR of the network and of bicubic interpolation."""
        del key
        high = base.to_unit(batch["image"])
        low = self.reduce(high)
        sums = {"count": jnp.sum(batch["mask"].astype(jnp.int32))}
        for name, output in (("network", self.restore(state, low)), ("bicubic", self.enlarge(low))):
            # A flat image restored exactly has an infinite PSNR; 100 dB stands for it so that means stay finite.
            psnr = jnp.minimum(image_quality.psnr_y(output, high, shave=self.scale), 100.0)
            sums[name] = jnp.sum(psnr * batch["mask"])
        return sums

    def summarise(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns mean PSNR on luma in dB, of the network, of bicubic interpolation, and the gain."""
        network, bicubic = (float(sums[name]) / int(sums["count"]) for name in ("network", "bicubic"))
        return dict(zip(self.metrics, (network, bicubic, network - bicubic), strict=True))

    @functools.cached_property
    def _versions(self) -> Callable[[base.TrainState, jax.Array | np.ndarray], tuple[jax.Array, ...]]:
        """The compiled program that makes the pictures of a comparison."""

        def versions(state: base.TrainState, images: jax.Array) -> tuple[jax.Array, ...]:
            low = self.reduce(base.to_unit(images))
            nearest = jnp.repeat(jnp.repeat(low, self.scale, 1), self.scale, 2)
            return (*map(base.to_bytes, (nearest, self.enlarge(low), self.restore(state, low))), images)

        return jax.jit(versions)

    def _compare(self, state: base.TrainState, split: str) -> list[dict[str, np.ndarray]]:
        images = base.first_examples(self.config, self.dataset, split, _SHOWN)["image"]
        columns = jax.device_get(self._versions(state, images))
        names = ("low resolution", "bicubic", "network", "original")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def images(self, state: base.TrainState) -> dict[str, np.ndarray]:
        """Restored validation images."""
        return {"restored": np.stack([row["network"] for row in self._compare(state, "val")])}

    def report(
        self, state: base.TrainState, sums: Mapping[str, Mapping[str, np.ndarray]], folder: pathlib.Path
    ) -> base.Report:
        """Low resolution, bicubic, network and original side by side."""
        from vision_jax.report import plots

        split = "test" if "test" in sums else "val"
        path = folder / "comparison.png"
        plots.comparison(path, self._compare(state, split))
        return base.Report([(f"Side by side ({split})", path, "The first images of the split, not selected.")])

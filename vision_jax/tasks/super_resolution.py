"""Single-image super-resolution: the network restores what bicubic reduction by `scale` took away.

Low resolution is made on the device: antialiased bicubic reduction (Keys' a = -0.5, as MATLAB's and Pillow's), rounded
to 8 bits. The network (SRCNN, Dong et al. 2015) sees it enlarged again by bicubic interpolation.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision_jax import models, optim
from vision_jax.data import augment
from vision_jax.data.sources import Dataset
from vision_jax.metrics import image_quality
from vision_jax.models import network_options
from vision_jax.tasks import base
from vision_jax.tasks.state import TrainState


class SuperResolution(base.Task):
    """Trains `config.model` on the mean squared error of random patches."""

    shown = 4

    def __init__(self, config: ConfigDict, dataset: Dataset, durations: base.Durations):
        super().__init__(config, dataset, durations)
        self.scale, self.patch = config.super_resolution.scale, config.super_resolution.patch_size
        height, width, self.channels = base.image_shape(config, dataset)
        for name, side in (("patch_size", self.patch), ("image height", height), ("image width", width)):
            if side % self.scale:
                raise ValueError(f"The {name} {side} is not a multiple of config.super_resolution.scale={self.scale}.")
        if self.patch > min(height, width):
            raise ValueError(
                f"config.super_resolution.patch_size={self.patch} is larger than the images of {dataset.name}, "
                f"{height}x{width}."
            )
        psnr = f"psnr_y_x{self.scale}_shave{self.scale}"
        self.metrics = {psnr: True, f"bicubic_{psnr}": True, f"gain_{psnr}": True}
        name = config.model.name
        self.model = models.build(
            name,
            channels=self.channels,
            dtype=jnp.dtype(config.train.dtype),
            **network_options.given(config.model, name),
        )
        self.network = self.optimizer(config.optimizer.learning_rate)
        self.augment = augment.build_paired(config.data.augment)

    def init(self, key: jax.Array) -> TrainState:
        variables = self.model.init(key, jnp.zeros((1, self.patch, self.patch, self.channels)), train=False)
        return TrainState.first(model=self.network.init(variables))

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
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[TrainState, base.Arrays]:
        del constants
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
            "learning_rate": self.network.rate(state.step),
        }
        return state.replace(networks={"model": self.network.update(network, gradients, {}, state.step)}), metrics

    def _crop(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """A random patch of each image, uint8 [N, patch, patch, C]."""
        n, height, width, channels = images.shape
        room = jnp.asarray([height - self.patch + 1, width - self.patch + 1], jnp.int32)
        corners = jax.random.randint(key, (n, 2), 0, room)
        size = (self.patch, self.patch, channels)
        return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), size))(images, corners)

    def restore(self, state: TrainState, low: jax.Array) -> jax.Array:
        """Low resolution [N, h, w, C] in [0, 1] -> [N, h * scale, w * scale, C] in [0, 1]."""
        return jnp.clip(self.model.apply(state.networks["model"].variables(), self.enlarge(low), train=False), 0.0, 1.0)

    def eval_step(
        self, state: TrainState, constants: base.Constants, batch: base.Batch, key: jax.Array
    ) -> tuple[base.Arrays, base.Arrays]:
        """Returns sums of the PSNR of the network and of bicubic interpolation, and both of every row."""
        del constants, key
        high = base.to_unit(batch["image"])
        low = self.reduce(high)
        network, bicubic, _ = self.metrics
        outputs = {}
        for name, output in ((network, self.restore(state, low)), (bicubic, self.enlarge(low))):
            # A flat image restored exactly has an infinite PSNR; 100 dB stands for it so that means stay finite.
            outputs[name] = jnp.minimum(image_quality.psnr_y(output, high, shave=self.scale), 100.0)
        return {name: jnp.sum(psnr * batch["mask"]) for name, psnr in outputs.items()}, outputs

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns mean PSNR on luma in dB, of the network, of bicubic interpolation, and the gain."""
        network, bicubic, gain = self.metrics
        means = {name: float(sums[name]) / int(sums["count"]) for name in (network, bicubic)}
        return {**means, gain: means[network] - means[bicubic]}

    def pictures(self, state: TrainState, constants: base.Constants, batch: base.Batch) -> base.Arrays:
        """Returns the images in low resolution (its pixels enlarged), by bicubic interpolation, restored and as is."""
        del constants
        low = self.reduce(base.to_unit(batch["image"]))
        return {
            "low_resolution": base.to_bytes(jnp.repeat(jnp.repeat(low, self.scale, 1), self.scale, 2)),
            "bicubic": base.to_bytes(self.enlarge(low)),
            "restored": base.to_bytes(self.restore(state, low)),
            "original": batch["image"],
        }

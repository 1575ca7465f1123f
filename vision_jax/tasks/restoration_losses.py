"""What a super-resolution network minimizes: errors of pixels, and of the features of another network."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.models.layers import at_least_float32
from vision_jax.models.network import Network
from vision_jax.models.vgg import VGG
from vision_jax.pretrained import weights as weights_lib
from vision_jax.utils.options import ConfigError
from vision_jax.utils.text import closest

_TOLERANCE = 1e-3  # Of images beyond [0, 1].
_EPSILON = 1e-3  # Of Charbonnier's loss, in pixel values of [0, 1].


def mse(restored: jax.Array, original: jax.Array) -> jax.Array:
    """Mean squared error."""
    return jnp.mean((restored - original) ** 2)


def l1(restored: jax.Array, original: jax.Array) -> jax.Array:
    """Mean absolute error."""
    return jnp.mean(jnp.abs(restored - original))


def charbonnier(restored: jax.Array, original: jax.Array) -> jax.Array:
    """Mean of √(error² + 0.001²), an L1 that is smooth at zero: Lai et al. 2017 (LapSRN, arXiv 1704.03915)."""
    return jnp.mean(jnp.sqrt((restored - original) ** 2 + _EPSILON**2))


PIXEL_LOSSES = {"mse": mse, "l1": l1, "charbonnier": charbonnier}


class Perceptual:
    """Distances between images in the features of a fixed network: Johnson et al. 2016 (arXiv 1603.08155).

    Attributes:
        name: the network's.
        variables: its parameters and running statistics: a constant, to be passed to the methods.
    """

    def __init__(
        self,
        network: Network,
        variables: Mapping[str, Any],
        layers: Mapping[str, float],
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        name: str = "vgg16",
    ):
        """Takes a network that is ready; `load` makes one.

        Args:
            network: what keeps `layers` as intermediates; its `dtype` is that of the computation.
            variables: its parameters and running statistics.
            layers: weight by name, such as {'relu2_2': 1.0}.
            mean: subtracted from images in [0, 1], per channel.
            std: divided by after that.
            name: for metrics and messages.

        Raises:
            ConfigError: the network has no such layer, or there is none to compare.
        """
        self.network, self.variables, self.layers, self.name = network, variables, dict(layers), name
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        if not self.layers:
            raise ConfigError("config.super_resolution.perceptual.layers is empty; name one, such as ('relu2_2',).")
        known = jax.eval_shape(self._kept, variables, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
        for layer in self.layers:
            if layer not in known or known[layer][0].ndim != 4:
                maps = [name for name, (kept,) in known.items() if kept.ndim == 4]
                raise ConfigError(
                    f"{name} has no layer {layer!r} of features{closest(layer, maps)}; there are {', '.join(maps)}."
                )

    def features(self, variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        """Returns the features [N, h, w, C] by layer, float32, of RGB images [N, H, W, 3] in [0, 1].

        Raises:
            ValueError: other shapes, or (where values can be looked at) images outside of [0, 1].
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name} sees RGB images [N, H, W, 3]; found {list(images.shape)}.")
        if not isinstance(images, jax.core.Tracer):
            low, high = float(images.min()), float(images.max())
            if low < -_TOLERANCE or high > 1.0 + _TOLERANCE:
                raise ValueError(
                    f"{self.name} normalizes images by itself and takes them in [0, 1]; found {low:g} to {high:g}."
                )
        normalized = (images - self.mean) / self.std
        kept = self._kept(variables, normalized)
        return {layer: at_least_float32(kept[layer][0]) for layer in self.layers}

    def _kept(self, variables: Mapping[str, Any], images: jax.Array) -> dict[str, Any]:
        return self.network.apply(variables, images, train=False, mutable=["intermediates"])[1]["intermediates"]

    def loss(self, variables: Mapping[str, Any], restored: jax.Array, original: jax.Array) -> jax.Array:
        """Returns the sum over layers of weight · mean squared difference of the features, a scalar."""
        found = self.features(variables, restored)
        wanted = self.features(variables, original)
        return jnp.stack(
            [weight * mse(found[layer], jax.lax.stop_gradient(wanted[layer])) for layer, weight in self.layers.items()]
        ).sum()


def load(options: Mapping[str, Any]) -> Perceptual:
    """Returns what the config's section `super_resolution.perceptual` describes, with its weights.

    Raises:
        ConfigError: layers and weights that do not belong together, or layers that do not exist.
        ValueError: no such network, or weights that do not fit.
        DownloadError: the weights cannot be fetched; the message says where to put them.
    """
    name, layers, weights = options["network"], options["layers"], options["layer_weights"]
    if len(layers) != len(weights):
        raise ConfigError(
            f"config.super_resolution.perceptual has {len(layers)} layers and {len(weights)} layer_weights; give one "
            "weight per layer."
        )
    model, variables, record = weights_lib.load_classifier(name, options["weights"])
    assert record.preprocessing is not None  # `load_classifier` finds one, or says so.
    if isinstance(model, VGG):  # The dense layers of VGG-16 are 120 of its 138 million parameters.
        params = {layer: leaves for layer, leaves in variables["params"].items() if layer.startswith("features")}
        model, variables = model.clone(include_top=False, parent=None), {**variables, "params": params}
    return Perceptual(
        model.clone(dtype=jnp.dtype(options["dtype"]), parent=None),
        variables,
        dict(zip(layers, weights, strict=True)),
        mean=record.preprocessing.mean,
        std=record.preprocessing.std,
        name=name,
    )

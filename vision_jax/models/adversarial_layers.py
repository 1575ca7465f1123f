"""Layers that the networks of GANs share: spectral normalization, minibatch statistics, class projection."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from vision_jax.models.layers import Dense

MINIBATCH = ("none", "discrimination", "stddev")


class SpectralNorm(nn.Module):
    """Divides the kernel of `layer` by its largest singular value, found by one power iteration per training step.

    Source: Miyato et al. 2018 (arXiv 1802.05957). Reference implementation: `torch.nn.utils.spectral_norm`; the
    iteration's vector `u` [1, outputs] is a running statistic. (`flax.linen.SpectralNorm` does the same and names its
    statistics by paths with slashes, which no checkpoint of ours could tell from nesting.)
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies the layer with its normalized kernel."""
        first = self.make_rng("params") if self.is_initializing() else None

        def normalized(variables: Any) -> Any:
            kernel = variables["params"]["kernel"]
            matrix = kernel.reshape(-1, kernel.shape[-1])
            u = self.variable("batch_stats", "u", jax.random.normal, first, (1, matrix.shape[1]), jnp.float32)
            right = u.value
            left = _unit(jax.lax.stop_gradient(right @ matrix.T))
            if train:
                right = _unit(jax.lax.stop_gradient(left @ matrix))
                u.value = right
            else:
                right = _unit(right)
            sigma = (left @ matrix @ right.T)[0, 0]
            return {**variables, "params": {**variables["params"], "kernel": kernel / sigma}}

        apply = nn.map_variables(
            lambda layer, x: layer(x), "params", normalized, init=self.is_initializing(), mutable=True
        )
        return apply(self.layer, x)


def _unit(vector: jax.Array) -> jax.Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)


def minibatch_stddev(x: Float[Array, "n h w c"], group: int = 4) -> Float[Array, "n h w c+1"]:
    """Appends a map that says how different the images of a group are: the mean over the maps of their deviation.

    Source: Karras et al. 2018 (arXiv 1710.10196). Image i is in group i mod (n / group); a batch that `group` does not
    divide is one group.
    """
    n, height, width, _ = x.shape
    grouped = x.reshape(group if n % group == 0 else n, -1, *x.shape[1:])
    deviation = jnp.sqrt(jnp.var(grouped, 0) + 1e-8).mean((1, 2, 3))
    column = jnp.tile(deviation, grouped.shape[0])[:, None, None, None]
    return jnp.concatenate([x, jnp.broadcast_to(column, (n, height, width, 1)).astype(x.dtype)], -1)


class MinibatchDiscrimination(nn.Module):
    """Appends to each vector how close those of the other images are, in `kernels` learned projections.

    Source: Salimans et al. 2016 (arXiv 1606.03498): o(i)_b = sum over j != i of exp(-|M(i)_b - M(j)_b|_1).
    """

    kernels: int = 16
    dimensions: int = 8

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d+{self.kernels}"]:
        """[N,D] → [N,D+kernels]."""
        shape = (x.shape[-1], self.kernels, self.dimensions)
        projection = self.param("projection", nn.initializers.normal(0.02), shape, jnp.float32)
        projected = jnp.einsum("nd,dkp->nkp", x.astype(jnp.float32), projection)
        distances = jnp.abs(projected[:, None] - projected[None]).sum(-1)
        closeness = jnp.exp(-distances).sum(1) - 1.0  # Without the image itself.
        return jnp.concatenate([x, closeness.astype(x.dtype)], -1)


class ClassProjection(nn.Module):
    """The inner product of a feature vector and a learned vector of the class: what a conditional logit adds.

    Source: Miyato & Koyama 2018 (arXiv 1802.05637), the projection discriminator.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features: Float[Array, "n d"], label: Int[Array | np.ndarray, " n"]) -> Float[Array, " n"]:
        """Features [N,D] and classes [N] → float32 [N]."""
        init = nn.initializers.normal(0.02)
        embedding = self.param("embedding", init, (self.num_classes, features.shape[-1]), jnp.float32)
        return jnp.sum(features.astype(jnp.float32) * embedding[label], -1)


class ClassEmbedding(nn.Module):
    """A learned vector of each class."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, label: Int[Array | np.ndarray, " n"]) -> Float[Array, "n {self.features}"]:
        """Classes [N] → float32 [N,features]."""
        shape = (self.num_classes, self.features)
        return self.param("embedding", nn.initializers.normal(1.0), shape, jnp.float32)[label]


class ClassModulation(nn.Module):
    """Scales and shifts each channel by what the vector of the class says, on top of a normalization's own.

    Source: conditional batch normalization (Dumoulin et al. 2017, arXiv 1610.07629) from a vector that all layers share
    (Brock et al. 2019, arXiv 1809.11096): x · (1 + scale) + shift.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], embedded: Float[Array, "n e"]) -> Float[Array, "n h w c"]:
        """Maps [N,H,W,C] and vectors of the classes [N,E] → maps."""
        dense = Dense(2 * x.shape[-1], use_bias=False, kernel_init=nn.initializers.normal(0.02), name="dense")
        scale, shift = jnp.split(dense(embedded)[:, None, None], 2, -1)
        return x * (1.0 + scale).astype(x.dtype) + shift.astype(x.dtype)

"""The literal table of networks: name → module, exact parameter count, input, weights.

A test counts every row's parameters, another fails when a row has no parity test against its reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jax
from jax import numpy as jnp

from vision_jax.models.airbench import Airbench
from vision_jax.models.cnn import CNN
from vision_jax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from vision_jax.models.densenet import DenseNet
from vision_jax.models.espcn import ESPCN
from vision_jax.models.fsrcnn import FSRCNN
from vision_jax.models.googlenet import GoogLeNet
from vision_jax.models.inception import InceptionV3
from vision_jax.models.light_sr import LightSR
from vision_jax.models.mlp import MLP
from vision_jax.models.mlp_gan import MLPDiscriminator, MLPGenerator
from vision_jax.models.mobilenet import MobileNetV2
from vision_jax.models.network import Network
from vision_jax.models.r3gan import R3GANDiscriminator, R3GANGenerator
from vision_jax.models.resnet import CifarResNet, ResNet
from vision_jax.models.srcnn import SRCNN
from vision_jax.models.tiny_resnet import TinyResNet
from vision_jax.models.vgg import VGG
from vision_jax.utils.text import closest


@dataclass(frozen=True)
class Entry:
    """One network of the table.

    Attributes:
        module: its class.
        parameters: trainable values at the defaults below (running statistics not counted).
        input_shape: default input without the batch axis: (H, W, C), or (latent,) for generators.
        preset: options that make it this network; a caller may override them.
        weights: its key in third_party/weights.json, which holds URL, checksum and preprocessing; None without weights.
        top1: ImageNet (CIFAR: CIFAR-10 test) top-1 in percent as published with those weights.
    """

    module: type[Network]
    parameters: int
    input_shape: tuple[int, ...]
    preset: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    top1: float | None = None


_IMAGENET = (224, 224, 3)


def _resnet(*blocks: int) -> dict[str, Any]:
    return dict(blocks=blocks)


def _bottleneck(*blocks: int, **options: int) -> dict[str, Any]:
    return dict(blocks=blocks, bottleneck=True, **options)


MODELS: dict[str, Entry] = {
    # Perceptrons and small convolutional networks.
    "mlp": Entry(MLP, 1_707_274, (32, 32, 3)),
    "fcn_baseline": Entry(MLP, 309_530, (32, 32, 3), dict(hidden=(100, 20))),
    "fcn_best": Entry(MLP, 1_707_274, (32, 32, 3), dict(hidden=(512, 256), dropout=0.5)),
    "cnn": Entry(CNN, 113_738, (32, 32, 3)),
    "small_filters_cnn": Entry(CNN, 57_332, (32, 32, 3), dict(num_classes=100, channels=(8, 16, 32))),
    "garbage_cnn": Entry(CNN, 4_288_454, (128, 128, 3), dict(num_classes=6, channels=(32, 64, 128), hidden=(128,))),
    "svhn_cnn": Entry(CNN, 545_098, (32, 32, 3), dict(channels=(32, 64), hidden=(128,))),
    "cifar10_cnn": Entry(
        CNN,
        551_466,
        (32, 32, 3),
        dict(convs_per_block=2, norm="batch", block_dropout=(0.2, 0.3, 0.4), hidden=(128,), dropout=0.5),
    ),
    # ImageNet classifiers, named and laid out as in torchvision.
    "resnet18": Entry(ResNet, 11_689_512, _IMAGENET, _resnet(2, 2, 2, 2), "resnet18", 69.758),
    "resnet34": Entry(ResNet, 21_797_672, _IMAGENET, _resnet(3, 4, 6, 3), "resnet34", 73.314),
    "resnet50": Entry(ResNet, 25_557_032, _IMAGENET, _bottleneck(3, 4, 6, 3), "resnet50", 76.130),
    "resnet101": Entry(ResNet, 44_549_160, _IMAGENET, _bottleneck(3, 4, 23, 3), "resnet101", 77.374),
    "resnet152": Entry(ResNet, 60_192_808, _IMAGENET, _bottleneck(3, 8, 36, 3), "resnet152", 78.312),
    "resnext50_32x4d": Entry(
        ResNet, 25_028_904, _IMAGENET, _bottleneck(3, 4, 6, 3, groups=32, width_per_group=4), "resnext50_32x4d", 77.618
    ),
    "wide_resnet50_2": Entry(
        ResNet, 68_883_240, _IMAGENET, _bottleneck(3, 4, 6, 3, width_per_group=128), "wide_resnet50_2", 78.468
    ),
    "vgg11": Entry(VGG, 132_863_336, _IMAGENET, dict(depth=11), "vgg11", 69.020),
    "vgg11_bn": Entry(VGG, 132_868_840, _IMAGENET, dict(depth=11, batch_norm=True), "vgg11_bn", 70.370),
    "vgg13": Entry(VGG, 133_047_848, _IMAGENET, dict(depth=13), "vgg13", 69.928),
    "vgg13_bn": Entry(VGG, 133_053_736, _IMAGENET, dict(depth=13, batch_norm=True), "vgg13_bn", 71.586),
    "vgg16": Entry(VGG, 138_357_544, _IMAGENET, dict(depth=16), "vgg16", 71.592),
    "vgg16_bn": Entry(VGG, 138_365_992, _IMAGENET, dict(depth=16, batch_norm=True), "vgg16_bn", 73.360),
    "vgg19": Entry(VGG, 143_667_240, _IMAGENET, dict(depth=19), "vgg19", 72.376),
    "vgg19_bn": Entry(VGG, 143_678_248, _IMAGENET, dict(depth=19, batch_norm=True), "vgg19_bn", 74.218),
    "densenet121": Entry(DenseNet, 7_978_856, _IMAGENET, dict(layers=(6, 12, 24, 16)), "densenet121", 74.434),
    "densenet161": Entry(
        DenseNet,
        28_681_000,
        _IMAGENET,
        dict(layers=(6, 12, 36, 24), growth_rate=48, init_features=96),
        "densenet161",
        77.138,
    ),
    "densenet169": Entry(DenseNet, 14_149_480, _IMAGENET, dict(layers=(6, 12, 32, 32)), "densenet169", 75.600),
    "densenet201": Entry(DenseNet, 20_013_928, _IMAGENET, dict(layers=(6, 12, 48, 32)), "densenet201", 76.896),
    "googlenet": Entry(GoogLeNet, 6_624_904, _IMAGENET, {}, "googlenet", 69.778),
    "mobilenet_v2": Entry(MobileNetV2, 3_504_872, _IMAGENET, {}, "mobilenet_v2", 71.878),
    "inception_v3": Entry(InceptionV3, 27_161_264, (299, 299, 3), {}, "inception_v3", 77.294),
    "fid_inception": Entry(
        InceptionV3, 23_850_960, (299, 299, 3), dict(num_classes=1008, fid=True, aux_logits=False), "fid_inception"
    ),
    # ResNets for 32×32 images.
    "resnet20": Entry(CifarResNet, 269_722, (32, 32, 3), dict(blocks_per_stage=3), "resnet20_cifar10", 91.73),
    "resnet32": Entry(CifarResNet, 464_154, (32, 32, 3), dict(blocks_per_stage=5), "resnet32_cifar10", 92.63),
    "resnet44": Entry(CifarResNet, 658_586, (32, 32, 3), dict(blocks_per_stage=7), "resnet44_cifar10", 93.10),
    "resnet56": Entry(CifarResNet, 853_018, (32, 32, 3), dict(blocks_per_stage=9), "resnet56_cifar10", 93.39),
    "resnet18_cifar": Entry(ResNet, 11_173_962, (32, 32, 3), dict(num_classes=10, stem="cifar")),
    # Networks for CIFAR that have to train in little time, or do with few parameters.
    "airbench94": Entry(Airbench, 1_971_650, (32, 32, 3)),
    "tiny_resnet": Entry(TinyResNet, 57_252, (32, 32, 3)),
    # Generators, discriminators, super-resolution.
    "dcgan_generator": Entry(DCGANGenerator, 370_624, (100,)),
    "dcgan_discriminator": Entry(DCGANDiscriminator, 167_808, (32, 32, 3)),
    "mlp_gan_generator": Entry(MLPGenerator, 1_486_352, (100,)),
    "mlp_gan_discriminator": Entry(MLPDiscriminator, 533_505, (28, 28, 1)),
    "r3gan_generator": Entry(R3GANGenerator, 20_732_160, (64,)),
    "r3gan_discriminator": Entry(R3GANDiscriminator, 20_683_776, (32, 32, 3)),
    "srcnn": Entry(SRCNN, 69_251, (32, 32, 3)),
    "fsrcnn": Entry(FSRCNN, 12_809, (32, 32, 1), dict(channels=1)),
    "espcn": Entry(ESPCN, 21_284, (32, 32, 1), dict(channels=1)),
    "light_sr": Entry(LightSR, 145_088, (32, 32, 1), dict(channels=1)),
}


def entry(name: str) -> Entry:
    """The row called `name`.

    Raises:
        ValueError: no network has that name.
    """
    if name not in MODELS:
        raise ValueError(f"no network is called {name!r}{closest(name, tuple(MODELS))}; there are {', '.join(MODELS)}")
    return MODELS[name]


def values(name: str) -> dict[str, Any]:
    """Every field of network `name` with its value there (presets included)."""
    row = entry(name)
    own = [f for f in fields(row.module) if f.name not in ("parent", "name")]
    return {f.name: row.preset.get(f.name, f.default) for f in own}


def build(name: str, *, num_classes: int | None = None, dtype: Any = jnp.float32, **overrides: Any) -> Network:
    """The network `name`, not yet initialized.

    Args:
        name: a key of `MODELS`.
        num_classes: classes of a classifier; None keeps the network's own number.
        dtype: compute type; parameters are float32 whatever it is.
        **overrides: the network's options; None keeps the network's own value.

    Raises:
        ValueError: an unknown name or option.
    """
    row = entry(name)
    overrides = {"num_classes": num_classes, "dtype": dtype, **overrides}
    given = {key: value for key, value in overrides.items() if value is not None}
    valid = values(name)
    for key in given:
        if key not in valid:
            if key == "num_classes":
                raise ValueError(f"{name} has no classes, so num_classes={num_classes} means nothing; leave it out")
            raise ValueError(
                f"{name} has no option {key!r}{closest(key, tuple(valid))}; its options are {', '.join(sorted(valid))}"
            )
    # Lists come out of JSON and locked configs; a module's fields have to be hashable.
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return row.module(**{**row.preset, **given})


def shapes(model: Network, input_shape: tuple[int, ...]) -> Any:
    """Shapes and dtypes of `model`'s variables for one input of `input_shape`, without computing anything."""
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), x)


def parameter_count(variables: Mapping[str, Any]) -> int:
    """Number of trainable values in `variables['params']`."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


__all__ = ["MODELS", "Entry", "build", "entry", "parameter_count", "shapes", "values"]

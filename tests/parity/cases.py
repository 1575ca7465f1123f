"""One row per network of the table: its reference, the sizes it is compared at, and what to call its stages there."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from . import references as ref


@dataclass(frozen=True)
class Case:
    """How one network is compared.

    Attributes:
        reference: builds the PyTorch network.
        sizes: the image sizes of the comparison in evaluation mode (None: the input has one size).
        train: image size and batch of the training step; images small enough to be quick, large enough that the last
            BatchNorm still sees some values per channel (with two or three its gradients are ill-conditioned). None:
            no training step.
        stages: stage here → module there.
        options: options of both the forward and the training comparison here (dropout off).
    """

    reference: Callable[[], nn.Module]
    sizes: tuple[int, ...] | None
    train: tuple[int, int] | None
    stages: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def _resnet(name: str, sizes: tuple[int, int] = (64, 96), train: tuple[int, int] = (32, 8)) -> Case:
    stages = {"stem": "maxpool", **{f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}}
    return Case(ref.from_torchvision(name), sizes, train, stages, dict(num_classes=10))


def _vgg(name: str, pools: tuple[int, ...]) -> Case:
    stages = {f"block{i}": f"features.{pool}" for i, pool in enumerate(pools, 1)}
    options = dict(num_classes=10, dropout=0.0)
    return Case(ref.from_torchvision(name, dropout=0.0, init_weights=False), (32, 64), (32, 8), stages, options)


def _densenet(name: str, sizes: tuple[int, int] = (32, 64)) -> Case:
    stages = {"stem": "features.pool0", **{f"block{i}": f"features.transition{i}" for i in (1, 2, 3)}}
    return Case(ref.from_torchvision(name), sizes, (32, 8), stages, dict(num_classes=10))


def _cifar(blocks: int) -> Case:
    stages = {f"layer{i}": f"layer{i}" for i in (1, 2, 3)}
    return Case(lambda: ref.CifarResNet(blocks), (32, 24), (16, 8), stages)


def _cnn(channels, convs, norm, size, hidden, outputs, **options) -> Case:
    return Case(lambda: ref.CNN(channels, convs, norm, size, hidden, outputs), None, (size, 4), {}, options)


# Narrower, with a change of width and without.
_R3GAN: dict[str, Any] = dict(widths=(8, 16, 16, 16), group_size=8)

_LIGHT_SR: dict[str, Any] = dict(features=8, depth=2, expansion=2)

_INCEPTION_STAGES = {"pool1": "maxpool1", "pool2": "maxpool2"} | {
    f"Mixed_{m}": f"Mixed_{m}" for m in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
}
_MOBILENET_STAGES = {f"stage{i}": f"features.{last}" for i, last in enumerate((1, 3, 6, 10, 13, 16, 17), 1)} | {
    "stem": "features.0",
    "last": "features.18",
}

CASES: dict[str, Case] = {
    "mlp": Case(lambda: ref.MLP(3072, (512, 256), 10), None, (32, 4)),
    "fcn_baseline": Case(lambda: ref.MLP(3072, (100, 20), 10), None, (32, 4)),
    "fcn_best": Case(lambda: ref.MLP(3072, (512, 256), 10), None, (32, 4), {}, dict(dropout=0.0)),
    "cnn": _cnn((32, 64, 128), 1, False, 32, (), 10),
    "small_filters_cnn": _cnn((8, 16, 32), 1, False, 32, (), 100),
    "garbage_cnn": _cnn((32, 64, 128), 1, False, 128, (128,), 6),
    "svhn_cnn": _cnn((32, 64), 1, False, 32, (128,), 10),
    "cifar10_cnn": _cnn((32, 64, 128), 2, True, 32, (128,), 10, block_dropout=0.0, dropout=0.0),
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "resnet50": _resnet("resnet50"),
    "resnet101": _resnet("resnet101", (32, 64)),
    "resnet152": _resnet("resnet152", (32, 64)),
    "resnext50_32x4d": _resnet("resnext50_32x4d", train=(64, 2)),  # XLA is slow at grouped convolutions in float64.
    "wide_resnet50_2": _resnet("wide_resnet50_2", (32, 64)),
    "vgg11": _vgg("vgg11", (2, 5, 10, 15, 20)),
    "vgg11_bn": _vgg("vgg11_bn", (3, 7, 14, 21, 28)),
    "vgg13": _vgg("vgg13", (4, 9, 14, 19, 24)),
    "vgg13_bn": _vgg("vgg13_bn", (6, 13, 20, 27, 34)),
    "vgg16": _vgg("vgg16", (4, 9, 16, 23, 30)),
    "vgg16_bn": _vgg("vgg16_bn", (6, 13, 23, 33, 43)),
    "vgg19": _vgg("vgg19", (4, 9, 18, 27, 36)),
    "vgg19_bn": _vgg("vgg19_bn", (6, 13, 26, 39, 52)),
    "densenet121": _densenet("densenet121", (64, 96)),
    "densenet161": _densenet("densenet161"),
    "densenet169": _densenet("densenet169"),
    "densenet201": _densenet("densenet201"),
    "googlenet": Case(
        ref.from_torchvision("googlenet", init_weights=False, dropout=0.0, dropout_aux=0.0),
        (64, 96),
        (64, 8),
        {name: name for name in ("inception3a", "inception3b", "inception4a", "inception4e", "inception5b")},
        dict(num_classes=10, aux_logits=True, dropout=0.0, aux_dropout=0.0),
    ),
    "mobilenet_v2": Case(
        ref.from_torchvision("mobilenet_v2", dropout=0.0),
        (64, 96),
        (32, 8),
        _MOBILENET_STAGES,
        dict(num_classes=10, dropout=0.0),
    ),
    # The auxiliary head needs a 17×17 map, which takes images of 287 pixels at least.
    "inception_v3": Case(
        ref.from_torchvision("inception_v3", init_weights=False, dropout=0.0),
        (75, 107),
        (299, 2),
        _INCEPTION_STAGES,
        dict(num_classes=10, dropout=0.0),
    ),
    "fid_inception": Case(ref.fid_inception, (75, 107), (107, 4), _INCEPTION_STAGES, dict(dropout=0.0)),
    "resnet20": _cifar(3),
    "resnet32": _cifar(5),
    "resnet44": _cifar(7),
    "resnet56": _cifar(9),
    "resnet18_cifar": Case(ref.resnet18_cifar, (32, 40), (16, 8), {f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}),
    "airbench94": Case(ref.Airbench, (32, 28), (32, 4)),
    "tiny_resnet": Case(ref.TinyResNet, (32, 24), (16, 8)),
    "dcgan_generator": Case(lambda: ref.DCGANGenerator(3), None, (0, 8)),
    "dcgan_discriminator": Case(lambda: ref.DCGANDiscriminator(3), None, (32, 8)),
    "mlp_gan_generator": Case(ref.MLPGenerator, None, (0, 4)),
    "mlp_gan_discriminator": Case(ref.MLPDiscriminator, None, (28, 4)),
    "r3gan_generator": Case(lambda: ref.R3GANGenerator(**_R3GAN), None, (0, 4), options=_R3GAN),
    "r3gan_discriminator": Case(lambda: ref.R3GANDiscriminator(**_R3GAN), None, (32, 4), options=_R3GAN),
    "srcnn": Case(ref.SRCNN, (24, 33), (24, 2)),
    "fsrcnn": Case(ref.FSRCNN, (16, 21), (16, 2)),
    "espcn": Case(ref.ESPCN, (16, 21), (16, 2)),
    "light_sr": Case(ref.LightSR, (16, 21), (16, 2), options=_LIGHT_SR),
}

# The training step of an everyday run for the networks whose whole comparison takes long. None: the same modules are
# trained in another network, and this one differs from it in how many there are and how wide.
_EVERYDAY_TRAIN: dict[str, tuple[int, int] | None] = {
    "resnet34": None,
    "resnet50": (32, 8),
    "resnet101": None,
    "resnet152": None,
    "resnext50_32x4d": None,
    "wide_resnet50_2": None,
    "vgg11": None,
    "vgg11_bn": None,
    "vgg13": None,
    "vgg13_bn": None,
    "vgg16": None,
    "vgg16_bn": None,
    "vgg19": None,
    "vgg19_bn": None,
    "densenet121": None,
    "densenet161": None,
    "densenet169": None,
    "densenet201": None,
    "googlenet": (32, 8),
    "inception_v3": None,
    "fid_inception": None,
    "resnet32": None,
    "resnet44": None,
    "resnet56": None,
}
# What is compared in every run of the tests: of large networks a part, at their first size.
EVERYDAY = CASES | {
    name: dataclasses.replace(CASES[name], sizes=CASES[name].sizes[:1], train=train)
    for name, train in _EVERYDAY_TRAIN.items()
}

"""The reference networks: torchvision's, pytorch-fid's, and plain PyTorch versions of those that neither has."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.torchvision_import import import_torchvision

torchvision = import_torchvision()
torch.set_num_threads(1)  # As many processes of pytest as cores: more threads wait for each other.

from pytorch_fid import inception as pytorch_fid_inception  # noqa: E402


def on_no_device(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` builds, its arrays allocated but not initialized (they get random values anyway)."""
    with torch.device("meta"):
        net = make()
    return net.to_empty(device="cpu")


def from_torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """torchvision's network `name` for ten classes."""
    return lambda: getattr(torchvision.models, name)(weights=None, num_classes=10, **options)


def fid_inception() -> nn.Module:
    """The network inside pytorch_fid, whose own constructor downloads weights."""
    load = pytorch_fid_inception.load_state_dict_from_url
    load_into = nn.Module.load_state_dict
    try:
        pytorch_fid_inception.load_state_dict_from_url = lambda *args, **kwargs: {}
        nn.Module.load_state_dict = lambda self, state, *args, **kwargs: None
        net = pytorch_fid_inception.fid_inception_v3()
    finally:
        pytorch_fid_inception.load_state_dict_from_url = load
        nn.Module.load_state_dict = load_into
    net.dropout.p = 0.0  # Random; its training step is compared too.
    return net


def lively_fid_inception() -> nn.Module:
    """That network in evaluation mode with random weights through which images stay as different as they are."""
    net = on_no_device(fid_inception)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.2, generator=generator)
                module.bias.normal_(0.0, 0.1, generator=generator)
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
                module.num_batches_tracked.zero_()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0.0, (2.0 / module.weight[0].numel()) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=generator)
    return net.eval()


def resnet18_of_width(width: int) -> nn.Module:
    """ResNet-18 for ten classes with `width` channels, where torchvision's has 64, in its stem and first stage."""
    net = torchvision.models.resnet18(weights=None, num_classes=10)
    net.inplanes = width
    net.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    for i in range(4):
        stride = 1 if i == 0 else 2
        setattr(net, f"layer{i + 1}", net._make_layer(torchvision.models.resnet.BasicBlock, width * 2**i, 2, stride))
    net.fc = nn.Linear(8 * width, 10)
    return net


def short_densenet() -> nn.Module:
    """DenseNet for ten classes with two layers in each of its four blocks."""
    return torchvision.models.DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=10)


def resnet18_cifar() -> nn.Module:
    """ResNet-18 with a 3×3 stem of stride 1 and no max-pooling."""
    net = torchvision.models.resnet18(weights=None, num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    net.maxpool = nn.Identity()
    return net


class _OptionA(nn.Module):
    def __init__(self, planes: int):
        super().__init__()
        self.side = planes // 4

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.side, self.side))


class _CifarBlock(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Identity() if stride == 1 else _OptionA(planes)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-(6n+2) in the layout of akamaster's files."""

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for i, planes in enumerate((16, 32, 64), 1):
            strides = (1 if i == 1 else 2,) + (1,) * (blocks - 1)
            stage = []
            for stride in strides:
                stage.append(_CifarBlock(inputs, planes, stride))
                inputs = planes
            setattr(self, f"layer{i}", nn.Sequential(*stage))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class MLP(nn.Module):
    """Linear layers with ReLU; flattens images in (H, W, C) order."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int):
        super().__init__()
        self.layers = []
        for i, (a, b) in enumerate(zip((inputs, *hidden[:-1]), hidden, strict=True), 1):
            self.layers.append(f"hidden{i}")
            setattr(self, f"hidden{i}", nn.Linear(a, b))
        self.head = nn.Linear(hidden[-1], outputs)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in self.layers:
            x = torch.relu(getattr(self, layer)(x))
        return self.head(x)


class CNN(nn.Module):
    """(Conv, BatchNorm, ReLU) × n and 2×2 max-pool per block, flatten, dense layers."""

    def __init__(self, channels, convs, norm, size, hidden, outputs, inputs=3):
        super().__init__()
        self.blocks, self.hidden = len(channels), len(hidden)
        for b, features in enumerate(channels, 1):
            block = nn.Module()
            block.convs = convs
            for i in range(1, convs + 1):
                setattr(block, f"conv{i}", nn.Conv2d(inputs, features, 3, padding=1))
                if norm:
                    setattr(block, f"norm{i}", nn.BatchNorm2d(features))
                inputs = features
            setattr(self, f"block{b}", block)
        width = inputs * (size // 2**self.blocks) ** 2
        for i, features in enumerate(hidden, 1):
            setattr(self, f"hidden{i}", nn.Linear(width, features))
            width = features
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        for b in range(1, self.blocks + 1):
            block = getattr(self, f"block{b}")
            for i in range(1, block.convs + 1):
                x = getattr(block, f"conv{i}")(x)
                x = torch.relu(getattr(block, f"norm{i}")(x) if hasattr(block, f"norm{i}") else x)
            x = nn.functional.max_pool2d(x, 2)
        x = x.flatten(1)
        for i in range(1, self.hidden + 1):
            x = torch.relu(getattr(self, f"hidden{i}")(x))
        return self.head(x)


class DCGANGenerator(nn.Module):
    """Transposed convolutions 4×4 from noise to an image."""

    def __init__(self, ups: int, width: int = 32):
        super().__init__()
        self.ups, inputs = ups, 100
        for i in range(ups):
            outputs = width * 2 ** (ups - 1 - i)
            stride, padding = (1, 0) if i == 0 else (2, 1)
            setattr(self, f"convt{i}", nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
            setattr(self, f"norm{i}", nn.BatchNorm2d(outputs))
            inputs = outputs
        setattr(self, f"convt{ups}", nn.ConvTranspose2d(inputs, 3, 4, 2, 1, bias=False))

    def forward(self, z):
        x = z[:, :, None, None]
        for i in range(self.ups):
            x = torch.relu(getattr(self, f"norm{i}")(getattr(self, f"convt{i}")(x)))
        return torch.tanh(getattr(self, f"convt{self.ups}")(x))


class DCGANDiscriminator(nn.Module):
    """Strided convolutions 4×4 from an image to a logit."""

    def __init__(self, downs: int, width: int = 32):
        super().__init__()
        self.downs, inputs = downs, 3
        for i in range(downs):
            setattr(self, f"conv{i}", nn.Conv2d(inputs, width * 2**i, 4, 2, 1, bias=False))
            inputs = width * 2**i
            if i > 0:
                setattr(self, f"norm{i}", nn.BatchNorm2d(inputs))
        setattr(self, f"conv{downs}", nn.Conv2d(inputs, 1, 4, bias=False))

    def forward(self, x):
        for i in range(self.downs):
            x = getattr(self, f"conv{i}")(x)
            x = nn.functional.leaky_relu(getattr(self, f"norm{i}")(x) if i else x, 0.2)
        return getattr(self, f"conv{self.downs}")(x).flatten()


class _R3GANBlock(nn.Module):
    def __init__(self, width: int, group_size: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width // group_size)
        self.conv3 = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, x):
        y = nn.functional.leaky_relu(self.conv1(x), 0.2)
        return x + self.conv3(nn.functional.leaky_relu(self.conv2(y), 0.2))


class _R3GAN(nn.Module):
    """What both networks share: stages of two blocks, and 1×1 convolutions where the width changes."""

    def __init__(self, widths: tuple[int, ...], group_size: int, change: str):
        super().__init__()
        self.widths = widths
        for i, width in enumerate(widths):
            if i and width != widths[i - 1]:
                setattr(self, f"{change}{i}", nn.Conv2d(widths[i - 1], width, 1, bias=False))
            for block in range(2):
                setattr(self, f"stage{i}_{block}", _R3GANBlock(width, group_size))

    def stage(self, i: int, x):
        return getattr(self, f"stage{i}_1")(getattr(self, f"stage{i}_0")(x))


class R3GANGenerator(_R3GAN):
    """A learned 4×4 basis, then stages, each of twice the resolution."""

    def __init__(self, widths: tuple[int, ...], group_size: int):
        super().__init__(widths, group_size, "up")
        self.linear = nn.Linear(64, widths[0], bias=False)
        self.basis = nn.Parameter(torch.empty(4, 4, widths[0]))
        self.head = nn.Conv2d(widths[-1], 3, 1, bias=False)

    def forward(self, x):
        x = self.stage(0, self.linear(x)[:, :, None, None] * self.basis.permute(2, 0, 1))
        for i in range(1, len(self.widths)):
            x = getattr(self, f"up{i}", nn.Identity())(x)
            x = self.stage(i, nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))
        return torch.tanh(self.head(x))


class R3GANDiscriminator(_R3GAN):
    """Stages, each of half the resolution, then a learned 4×4 basis."""

    def __init__(self, widths: tuple[int, ...], group_size: int):
        super().__init__(widths, group_size, "down")
        self.stem = nn.Conv2d(3, widths[0], 1, bias=False)
        self.basis = nn.Parameter(torch.empty(4, 4, widths[-1]))
        self.head = nn.Linear(widths[-1], 1, bias=False)

    def forward(self, x):
        x = self.stage(0, self.stem(x))
        for i in range(1, len(self.widths)):
            x = nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
            x = self.stage(i, getattr(self, f"down{i}", nn.Identity())(x))
        return self.head((x * self.basis.permute(2, 0, 1)).sum((2, 3))).flatten()


class MLPGenerator(MLP):
    """Noise → tanh image (N, 1, 28, 28)."""

    def __init__(self):
        super().__init__(100, (256, 512, 1024), 784)

    def forward(self, z):
        return torch.tanh(super().forward(z[:, :, None, None])).reshape(-1, 1, 28, 28)


class MLPDiscriminator(nn.Module):
    """784 → 512 → 256 → 1 with LeakyReLU 0.2."""

    def __init__(self):
        super().__init__()
        self.hidden1, self.hidden2, self.head = nn.Linear(784, 512), nn.Linear(512, 256), nn.Linear(256, 1)

    def forward(self, x):
        x = x.flatten(1)
        for layer in (self.hidden1, self.hidden2):
            x = nn.functional.leaky_relu(layer(x), 0.2)
        return self.head(x).flatten()


class SRCNN(nn.Module):
    """Convolutions 9×9, 5×5, 5×5 that keep the size."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 3, 5, padding=2)

    def forward(self, x):
        return self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))


class FSRCNN(nn.Module):
    """FSRCNN(56, 12, 4) on luma, x2."""

    def __init__(self):
        super().__init__()
        widths, sides = (1, 56, 12, 12, 12, 12, 12, 56), (5, 1, 3, 3, 3, 3, 1)
        for i, k in enumerate(sides, 1):
            setattr(self, f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], k, padding=k // 2))
            setattr(self, f"prelu{i}", nn.PReLU(widths[i]))
        self.convt = nn.ConvTranspose2d(56, 1, 9, stride=2, padding=4, output_padding=1)

    def forward(self, x):
        for i in range(1, 8):
            x = getattr(self, f"prelu{i}")(getattr(self, f"conv{i}")(x))
        return self.convt(x)


class ESPCN(nn.Module):
    """Convolutions 5×5, 3×3, 3×3 on luma with tanh between them, and a pixel shuffle, x2."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.conv3(torch.tanh(self.conv2(torch.tanh(self.conv1(x))))), 2)


class _Branches(nn.Module):
    """The branches of a collapsible convolution, each computed as it is described and then added up."""

    def __init__(self, inputs: int, outputs: int, expansion: int):
        super().__init__()
        inner = expansion * outputs
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.square = nn.Parameter(torch.zeros(3, 3, inputs, outputs))
        self.expand = nn.Parameter(torch.zeros(inputs, inner))
        self.project = nn.Parameter(torch.zeros(3, 3, inner, outputs))
        self.edge_kernel = nn.Parameter(torch.zeros(3, inputs, outputs))
        self.edge_scale = nn.Parameter(torch.zeros(3, outputs))

    def forward(self, x):
        outputs = len(self.bias)
        y = F.conv2d(x, self.square.permute(3, 2, 0, 1), self.bias, padding=1)
        expanded = F.conv2d(x, self.expand.T[:, :, None, None])
        y = y + F.conv2d(expanded, self.project.permute(3, 2, 0, 1), padding=1)
        sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], dtype=x.dtype)
        laplacian = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=x.dtype)
        for kernel, scale, mask in zip(self.edge_kernel, self.edge_scale, (sobel, sobel.T, laplacian), strict=True):
            masks = (scale[:, None, None] * mask)[:, None]
            y = y + F.conv2d(F.conv2d(x, kernel.T[:, :, None, None]), masks, padding=1, groups=outputs)
        return y + x if x.shape[1] == outputs else y


class LightSR(nn.Module):
    """Four layers of branches with PReLU between them on luma, x2, and the repeated input added."""

    def __init__(self):
        super().__init__()
        widths = (1, 8, 8, 8, 4)
        for i in range(4):
            setattr(self, f"conv{i}", _Branches(widths[i], widths[i + 1], 2))
            if i < 3:
                setattr(self, f"prelu{i}", nn.PReLU(8))

    def forward(self, x):
        y = x
        for i in range(3):
            y = getattr(self, f"prelu{i}")(getattr(self, f"conv{i}")(y))
        return F.pixel_shuffle(self.conv3(y), 2) + F.interpolate(x, scale_factor=2, mode="nearest")


class DeployedLightSR(nn.Module):
    """The light network as it is used, on luma, x2: 3×3 convolutions alone."""

    def __init__(self, features: int = 16, depth: int = 10):
        super().__init__()
        self.last = depth + 1
        for i in range(depth + 2):
            inputs, outputs = (1 if i == 0 else features), (4 if i == self.last else features)
            setattr(self, f"conv{i}", nn.Conv2d(inputs, outputs, 3, padding=1))
            if i < self.last:
                setattr(self, f"prelu{i}", nn.PReLU(features))

    def forward(self, x):
        y = x
        for i in range(self.last):
            y = getattr(self, f"prelu{i}")(getattr(self, f"conv{i}")(y))
        return F.pixel_shuffle(getattr(self, f"conv{self.last}")(y) + x, 2)  # One channel is added to each.


class _BiasNorm(nn.BatchNorm2d):
    """BatchNorm with a bias but no weight, as airbench's whose weight never changes from one."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight = None


class Airbench(nn.Module):
    """airbench94's network; the head has a bias, and the features have the factor of its logits."""

    def __init__(self, widths: tuple[int, ...] = (64, 256, 256)):
        super().__init__()
        inputs, self.groups = 24, len(widths)
        self.whitening = nn.Conv2d(3, inputs, 2)
        for i, width in enumerate(widths, 1):
            group = nn.Module()
            group.conv1, group.norm1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False), _BiasNorm(width)
            group.conv2, group.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), _BiasNorm(width)
            setattr(self, f"group{i}", group)
            inputs = width
        self.head = nn.Linear(inputs, 10)

    def forward(self, x):
        gelu = nn.functional.gelu
        x = gelu(self.whitening(x))
        for i in range(1, self.groups + 1):
            group = getattr(self, f"group{i}")
            x = gelu(group.norm1(nn.functional.max_pool2d(group.conv1(x), 2)))
            x = gelu(group.norm2(group.conv2(x)))
        return self.head(nn.functional.max_pool2d(x, 3).flatten(1) / 9)


class TinyResNet(nn.Module):
    """Basic blocks, in the last stage depthwise-separable, with averaging shortcuts."""

    def __init__(self, channels=(16, 32, 80), blocks=(2, 1, 4), separable=(False, False, True), outputs=100):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False), nn.BatchNorm2d(channels[0])
        inputs, self.blocks = channels[0], []
        for i, (features, count, split) in enumerate(zip(channels, blocks, separable, strict=True), 1):
            for j in range(1, count + 1):
                block, stride = nn.Module(), 2 if i > 1 and j == 1 else 1
                hidden, groups, side = (inputs, inputs, 1) if split else (features, 1, 3)
                block.conv1 = nn.Conv2d(inputs, hidden, 3, stride, 1, bias=False, groups=groups)
                block.norm1 = nn.BatchNorm2d(hidden)
                block.conv2 = nn.Conv2d(hidden, features, side, 1, side // 2, bias=False)
                block.norm2 = nn.BatchNorm2d(features)
                self.blocks.append((f"stage{i}_{j}", stride, features - inputs))
                setattr(self, self.blocks[-1][0], block)
                inputs = features
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x):
        x = torch.relu(self.stem_norm(self.stem(x)))
        for name, stride, more in self.blocks:
            block = getattr(self, name)
            y = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
            x = nn.functional.pad(nn.functional.avg_pool2d(x, stride), (0, 0, 0, 0, 0, more))
            x = torch.relu(x + y)
        return self.head(x.mean((2, 3)))

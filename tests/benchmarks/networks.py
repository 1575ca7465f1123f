"""The training steps that are timed: each network's step as the project runs it, and the same step in PyTorch.

Both sides of a case start from the same random weights and see the same batch. `check` compares the loss and the
gradient of every parameter before anything is timed: with plain SGD at rate 1 the gradient is what a step takes off
a parameter.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax import numpy as jnp
from torch import nn
from torch.nn import functional

from tests.parity import harness, references
from vision_jax import config as config_lib
from vision_jax import models, parallel, train
from vision_jax.data.sources import ArraySource, Dataset
from vision_jax.pretrained import port
from vision_jax.tasks import registry, upscaling
from vision_jax.tasks.base import Durations
from vision_jax.tasks.state import TrainState

RATE = 1e-4


@dataclasses.dataclass
class Side:
    """One side of a case, ready to run: `step` does one step and returns something to wait for or ignore."""

    step: Callable[[], Any]
    parameters: Callable[[], dict[str, np.ndarray]]
    loss: Callable[[], float]
    compile: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True)
class Form:
    """How PyTorch runs its side: memory layout, `torch.compile`, type of the computation; on JAX's kind of device."""

    channels_last: bool = False
    compiled: bool = False
    dtype: str = "float32"

    @property
    def device(self) -> str:
        """PyTorch's name of the kind of device that JAX computes on."""
        return "cuda" if jax.default_backend() == "gpu" else "cpu"

    def net(self, net: nn.Module) -> nn.Module:
        """The network as it is trained."""
        net = net.to(self.device)
        return net.to(memory_format=torch.channels_last) if self.channels_last else net

    def tensor(self, images: np.ndarray) -> torch.Tensor:
        """[N,H,W,C] -> [N,C,H,W]."""
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self.device)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def forward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A network or another function of tensors as it is called."""
        function = torch.compile(function) if self.compiled else function

        def call(*arguments: Any) -> Any:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16"):
                return function(*arguments)

        return call

    def wait(self) -> None:
        """Until the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()


class Case:
    """A network at a batch and image size; subclasses know the kind of step."""

    def __init__(self, network: str, batch: int, size: int, **options: Any):
        self.network, self.batch, self.size, self.options = network, batch, size, options
        self.rng = np.random.default_rng(0)

    def images(self, channels: int = 3) -> np.ndarray:
        """uint8 [N,H,W,C], smooth enough that no gradient is pure noise."""
        coarse = np.random.default_rng(1).integers(0, 256, (self.batch, self.size, self.size, channels))
        return coarse.astype(np.uint8)

    def reference(self, network: str, make: Callable[[], nn.Module]) -> nn.Module:
        """The PyTorch network with random weights that depend on its name only."""
        torch.manual_seed(0)
        net = make()
        harness.randomize(net, seed=len(network))
        return net

    def variables(self, network: str, net: nn.Module, **options: Any) -> dict:
        """The same weights as Flax variables."""
        state = {key: value.numpy().copy() for key, value in net.state_dict().items()}
        return jax.tree.map(jnp.asarray, port.load_state_dict(network, state, **options))

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        """The project's step."""
        raise NotImplementedError

    def torch(self, optimizer: str, form: Form) -> Side:
        """PyTorch's; a step waits for the device."""
        raise NotImplementedError


def _optimizer(name: str, parameters: Any, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, rate) if name == "adam" else torch.optim.SGD(parameters, rate)


def _config(task: str, name: str, batch: int, optimizer: str, dtype: str):
    config = config_lib.default(task)
    config.model.name = name
    config.data.batch_size = batch
    config.optimizer.name = optimizer
    config.optimizer.learning_rate = RATE if optimizer == "adam" else 1.0
    config.optimizer.momentum = 0.0
    config.train.steps, config.train.dtype = 1000, dtype
    config.data.mean, config.data.std = (0.0,), (1.0,)
    return config


def _dataset(images: np.ndarray, classes: int) -> Dataset:
    labels = (np.arange(len(images)) % classes).astype(np.int32)
    source = ArraySource(images, labels)
    return Dataset("random", {"train": source, "val": source}, tuple(map(str, range(classes))), {})


def _project_step(task: Any, state: Any, batch: dict[str, np.ndarray], name_of: dict[str, tuple[str, dict]]) -> Side:
    """The loop's own compiled program, with its donation and metric sums, one step per dispatch."""
    mesh = parallel.make_mesh(1)
    state = parallel.put_replicated(state, mesh)
    batch = parallel.put_split(batch, mesh)
    key = parallel.put_replicated_key(0, mesh)
    count = parallel.put_replicated(np.int32(1), mesh)
    steps = train.Steps(task, key)
    box = {"carry": (state, parallel.zeros(steps.sums_shapes(state, {}, {}, batch), mesh))}
    program = steps.program(several=False, out_shardings=parallel.replicated(mesh))

    def compiled():
        box["program"] = program.lower(*box["carry"], {}, {}, batch, count).compile()

    def step():
        if "program" not in box:
            compiled()
        box["carry"] = box["program"](*box["carry"], {}, {}, batch, count)
        return box["carry"]

    def parameters():
        found = {}
        for part, (network, options) in name_of.items():
            tree = jax.device_get(box["carry"][0].networks[part].params)
            state = port.to_state_dict(network, {"params": tree}, **options)
            found |= {f"{part}.{k}": np.asarray(v) for k, v in state.items()}
        return found

    def loss():
        return float(sum(v for k, v in box["carry"][1].sums.items() if k.endswith("loss")))

    return Side(step, parameters, loss, compiled)


def _torch_parameters(nets: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    return {
        f"{part}.{key}": value.detach().cpu().numpy().copy()
        for part, net in nets.items()
        for key, value in net.named_parameters()
    }


class Classification(Case):
    """Cross-entropy on random images and labels."""

    def __init__(
        self, network: str, make: Callable[[], nn.Module], batch: int, size: int, classes: int, **options: Any
    ):
        super().__init__(network, batch, size, **options)
        self.make, self.classes = make, classes

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        config = _config("classification", self.network, self.batch, optimizer, dtype)
        config.model[self.network] = self.options
        dataset = _dataset(self.images(), self.classes)
        durations = Durations(total=1000, warmup=0, log=50, evaluate=1000, save=0)
        task = registry.build(config, dataset, durations)
        options = {**self.options, "num_classes": self.classes}
        variables = self.variables(self.network, self.reference(self.network, self.make), **options)
        state = TrainState.first(model=task.network.init(variables))
        source = dataset.splits["train"]
        batch = {"image": source.images, "label": source.labels}
        return _project_step(task, state, batch, {"model": (self.network, options)})

    def torch(self, optimizer: str, form: Form) -> Side:
        net = form.net(self.reference(self.network, self.make)).train()
        update = _optimizer(optimizer, net.parameters(), RATE if optimizer == "adam" else 1.0)
        images = form.tensor(self.images())
        labels = torch.arange(self.batch, device=form.device) % self.classes
        forward = form.forward(lambda images: functional.cross_entropy(net(images.float() / 255), labels))
        box = {}

        def step():
            update.zero_grad(set_to_none=True)
            box["loss"] = forward(images)
            box["loss"].backward()
            update.step()
            form.wait()

        return Side(step, lambda: _torch_parameters({"model": net}), lambda: box["loss"].item())


class GAN(Case):
    """One update of the discriminator and one of the generator."""

    def __init__(
        self, network: str, generator: Callable, discriminator: Callable, batch: int, size: int, channels: int
    ):
        super().__init__(network, batch, size)
        self.makers, self.channels = {"generator": generator, "discriminator": discriminator}, channels

    def _nets(self) -> dict[str, nn.Module]:
        return {part: self.reference(f"{self.network}_{part}", make) for part, make in self.makers.items()}

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        config = _config("gan", self.network, self.batch, optimizer, dtype)
        config.optimizer.learning_rate = RATE if optimizer == "adam" else 0.1
        durations = Durations(total=1000, warmup=0, log=50, evaluate=1000, save=0)
        task = registry.build(config, _dataset(self.images(self.channels), 2), durations)
        variables = {part: self.variables(f"{self.network}_{part}", net) for part, net in self._nets().items()}
        networks = {
            "generator": task.generator_optimizer.init(variables["generator"]),
            "discriminator": task.discriminator_optimizer.init(variables["discriminator"]),
        }
        state = TrainState.first(**networks)
        names = {part: (f"{self.network}_{part}", {}) for part in self.makers}
        return _project_step(task, state, {"image": self.images(self.channels)}, names)

    def torch(self, optimizer: str, form: Form) -> Side:
        """The first step uses the noise of ours, later ones PyTorch's own."""
        nets = {part: form.net(net).train() for part, net in self._nets().items()}
        generator, discriminator = (form.forward(nets[part]) for part in self.makers)
        rate = RATE if optimizer == "adam" else 0.1
        g_update, d_update = (_optimizer(optimizer, nets[part].parameters(), rate) for part in self.makers)
        images = form.tensor(self.images(self.channels))
        key = jax.random.fold_in(jax.random.key(0), 0)
        update_key = jax.random.split(key, 3)[2]  # As the task derives them.
        noise = jax.random.normal(jax.random.split(update_key, 3)[0], (self.batch, 100))
        box: dict[str, Any] = {"noise": torch.from_numpy(np.array(noise)).to(form.device)}
        entropy = functional.binary_cross_entropy_with_logits

        def step():
            noise = box.pop("noise", None)
            noise = torch.randn(self.batch, 100, device=form.device) if noise is None else noise
            real = images.float() / 255 * 2 - 1
            fake = generator(noise)
            d_update.zero_grad(set_to_none=True)
            on_real, on_fake = discriminator(real), discriminator(fake.detach())
            d_loss = entropy(on_real, torch.ones_like(on_real)) + entropy(on_fake, torch.zeros_like(on_fake))
            d_loss.backward()
            d_update.step()
            g_update.zero_grad(set_to_none=True)
            on_fake = discriminator(fake)
            g_loss = entropy(on_fake, torch.ones_like(on_fake))
            g_loss.backward()
            g_update.step()
            box["loss"] = d_loss.detach() + g_loss.detach()
            form.wait()

        return Side(step, lambda: _torch_parameters(nets), lambda: box["loss"].item())


class SuperResolution(Case):
    """Mean squared error; ours also enlarges the low resolution by bicubic interpolation, PyTorch's is handed that."""

    def _task(self, optimizer: str, dtype: str = "float32"):
        config = _config("super_resolution", self.network, self.batch, optimizer, dtype)
        config.super_resolution.patch_size = self.size
        durations = Durations(total=1000, warmup=0, log=50, evaluate=1000, save=0)
        return registry.build(config, _dataset(self.images(), 2), durations)

    def _pairs(self, task: Any) -> dict[str, np.ndarray]:
        pairs = [pair for image in self.images() for pair in task.pairs(image)]
        return {name: np.stack(images) for name, images in zip(("low", "high"), zip(*pairs, strict=True), strict=True)}

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        task = self._task(optimizer, dtype)
        variables = self.variables(self.network, self.reference(self.network, references.SRCNN))
        state = TrainState.first(model=task.network.init(variables))
        return _project_step(task, state, self._pairs(task), {"model": (self.network, {})})

    def torch(self, optimizer: str, form: Form) -> Side:
        task = self._task(optimizer)
        pairs, cut = self._pairs(task), slice(task.inexact, -task.inexact)  # Our step leaves that out.
        enlarged = upscaling.enlarge(jnp.asarray(pairs["low"], jnp.float32) / 255.0, task.scale)
        x, target = (
            form.tensor(x[:, cut, cut]) for x in (np.asarray(enlarged), pairs["high"].astype(np.float32) / 255)
        )
        net = form.net(self.reference(self.network, references.SRCNN)).train()
        update = _optimizer(optimizer, net.parameters(), RATE if optimizer == "adam" else 1.0)
        forward = form.forward(lambda x: functional.mse_loss(net(x), target))
        box = {}

        def step():
            update.zero_grad(set_to_none=True)
            box["loss"] = forward(x)
            box["loss"].backward()
            update.step()
            form.wait()

        return Side(step, lambda: _torch_parameters({"model": net}), lambda: box["loss"].item())


class Perceptual(Case):
    """Squared distance of VGG-16's relu3_3 features and its gradient with respect to the image."""

    stage = "relu3_3"

    def _pair(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(2)
        return tuple(rng.normal(size=(self.batch, self.size, self.size, 3)).astype(np.float32) for _ in range(2))

    def _net(self) -> nn.Module:
        make = references.from_torchvision("vgg16", init_weights=False)
        return self.reference(self.network, lambda: references.on_no_device(make))

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        """The 'parameters' are the image less its gradient."""
        model = models.build("vgg16", num_classes=10, include_top=False, dtype=jnp.dtype(dtype))
        full = self.variables("vgg16", self._net(), num_classes=10)
        keep = ("features_0", "features_2", "features_5", "features_7", "features_10", "features_12", "features_14")
        layers = {k: v for k, v in full["params"].items() if k.startswith("features")}
        params = {k: layers[k] for k in keep}
        rest = jax.eval_shape(dict, {k: v for k, v in layers.items() if k not in keep})  # XLA leaves it out.
        del full, layers
        image, target = map(jnp.asarray, self._pair())

        def features(params, x):
            zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), rest)
            _, kept = model.apply({"params": params | zeros}, x, train=False, mutable=["intermediates"])
            return kept["intermediates"][self.stage][0]

        def loss(image, params, wanted):
            return jnp.mean((features(params, image) - wanted) ** 2)

        wanted = jax.jit(features)(params, target)
        program = jax.jit(jax.value_and_grad(loss))
        box = {}

        def compiled():
            box["program"] = program.lower(image, params, wanted).compile()

        def step():
            if "program" not in box:
                compiled()
            box["out"] = box["program"](image, params, wanted)
            return box["out"]

        def gradient():
            moved = -np.asarray(box["out"][1]) if "out" in box else np.zeros(image.shape, np.float32)
            return {"image": moved.transpose(0, 3, 1, 2)}

        return Side(step, gradient, lambda: float(box["out"][0]), compiled)

    def torch(self, optimizer: str, form: Form) -> Side:
        net = form.net(self._net().features[:16]).eval()
        net.requires_grad_(False)
        image, target = map(form.tensor, self._pair())
        forward = form.forward(net)
        with torch.no_grad():
            wanted = forward(target)
        image.requires_grad_()
        box = {}

        def step():
            image.grad = None
            box["loss"] = functional.mse_loss(forward(image), wanted)
            box["loss"].backward()
            form.wait()

        def gradient():
            return {"image": np.zeros(image.shape, np.float32) if image.grad is None else -image.grad.cpu().numpy()}

        return Side(step, gradient, lambda: box["loss"].item())


class Inference(Case):
    """A forward pass; the mean of its outputs' sizes stands for the loss."""

    def __init__(self, network: str, make: Callable[[], nn.Module], batch: int, size: int, **options: Any):
        super().__init__(network, batch, size, **options)
        self.make = make
        self.shape = (batch, size, size, models.entry(network).input_shape[-1])

    def ours(self, optimizer: str, dtype: str = "float32") -> Side:
        model = models.build(self.network, dtype=jnp.dtype(dtype), **self.options)
        variables = self.variables(self.network, self.reference(self.network, self.make), **self.options)
        x = jnp.asarray(np.random.default_rng(3).normal(size=self.shape), jnp.float32)
        program = jax.jit(lambda v, x: model.apply(v, x, train=False))
        box = {}

        def compiled():
            box["program"] = program.lower(variables, x).compile()

        def step():
            if "program" not in box:
                compiled()
            box["out"] = box["program"](variables, x)
            return box["out"]

        return Side(step, lambda: {}, lambda: float(jnp.abs(box["out"]).mean()), compiled)

    def torch(self, optimizer: str, form: Form) -> Side:
        net = form.net(self.reference(self.network, self.make)).eval()
        x = np.random.default_rng(3).normal(size=self.shape).astype(np.float32)
        x, forward = form.tensor(x), form.forward(net)
        box = {}

        def step():
            with torch.no_grad():
                box["out"] = forward(x)
            form.wait()

        return Side(step, lambda: {}, lambda: box["out"].abs().mean().item())


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return references.from_torchvision(name, **options)


CASES: dict[str, Callable[[], Case]] = {
    "small_filters_cnn 128x32x32": lambda: Classification(
        "small_filters_cnn", lambda: references.CNN((8, 16, 32), 1, False, 32, (), 100), 128, 32, 100
    ),
    "cifar10_cnn 128x32x32": lambda: Classification(
        "cifar10_cnn",
        lambda: references.CNN((32, 64, 128), 2, True, 32, (128,), 10),
        128,
        32,
        10,
        block_dropout=0.0,
        dropout=0.0,
    ),
    "fcn_best 128x32x32": lambda: Classification(
        "fcn_best", lambda: references.MLP(3072, (512, 256), 10), 128, 32, 10, dropout=0.0
    ),
    "resnet18 64x64x64": lambda: Classification("resnet18", _torchvision("resnet18"), 64, 64, 10),
    "resnet18 16x224x224": lambda: Classification("resnet18", _torchvision("resnet18"), 16, 224, 10),
    "mobilenet_v2 32x96x96": lambda: Classification(
        "mobilenet_v2", _torchvision("mobilenet_v2", dropout=0.0), 32, 96, 10, dropout=0.0
    ),
    "densenet161 8x64x64": lambda: Classification("densenet161", _torchvision("densenet161"), 8, 64, 10),
    "dcgan 64x32x32": lambda: GAN(
        "dcgan", lambda: references.DCGANGenerator(3), lambda: references.DCGANDiscriminator(3), 64, 32, 3
    ),
    "mlp_gan 64x28x28": lambda: GAN("mlp_gan", references.MLPGenerator, references.MLPDiscriminator, 64, 28, 1),
    "srcnn 4x128x128": lambda: SuperResolution("srcnn", 4, 128),
    "vgg16 relu3_3 4x128x128": lambda: Perceptual("vgg16", 4, 128),
    "fid_inception 16x299x299": lambda: Inference("fid_inception", references.fid_inception, 16, 299),
    # Enlarging a picture: megapixels per second are 4 * 0.0655 (of the result) over the time of a step.
    "light_sr deployed 1x256x256": lambda: Inference("light_sr", references.DeployedLightSR, 1, 256, collapsed=True),
}

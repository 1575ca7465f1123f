"""Published weights, read from their own files, give their published answers."""

import jax
import numpy as np

from vision_jax import models
from vision_jax.pretrained import port, torch_file

from .needs import needs_references

# Correct answers among CIFAR-10's 10,000 test images; published: 91.73 % and 93.39 %.
CORRECT = {"resnet20-12fca82f.th": 9173, "resnet56-4bfd9763.th": 9339}
MEAN = np.float32([0.485, 0.456, 0.406])
DEVIATION = np.float32([0.229, 0.224, 0.225])


def cifar10_test(folder):
    """Images uint8 [10000,32,32,3] and labels."""
    records = np.fromfile(folder / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(10_000, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def count_correct(name, state, images, labels):
    """Number of images that network `name` with PyTorch's `state` names rightly."""
    variables = port.load_state_dict(name, state)
    model = models.build(name)

    @jax.jit
    def predict(variables, images):
        x = (images.astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
        return model.apply(variables, x, train=False).argmax(-1)

    batches = zip(np.split(images, len(images) // 500), np.split(labels, len(images) // 500), strict=True)
    return sum(int((np.asarray(predict(variables, x)) == y).sum()) for x, y in batches)


def test_resnet20_reaches_its_published_accuracy_on_cifar10(test_data, unpacked_data):
    file = "resnet20-12fca82f.th"
    state = torch_file.state_dict(test_data / "weights" / file)
    correct = count_correct("resnet20", state, *cifar10_test(unpacked_data))
    assert abs(correct - CORRECT[file]) <= 2  # An image or two may sit on the fence between machines.


def test_imagenet_resnet18_agrees_with_torchvision_on_a_photo(test_data, unpacked_data):
    needs_references()
    import torch
    from PIL import Image

    from . import references

    path = min((test_data / "clothing9").rglob("*.jpg"))
    photo = np.asarray(Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))[16:240, 16:240]
    x = ((photo.astype(np.float32) / 255 - MEAN) / DEVIATION)[None]
    state = torch_file.state_dict(unpacked_data / "weights" / "resnet18_imagenet.safetensors")
    net = references.torchvision.models.resnet18(weights=None)
    net.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=False)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
    variables = port.load_state_dict("resnet18", state)
    model = models.build("resnet18")
    found = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x))
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()
    assert list(np.argsort(found[0])[-5:]) == list(np.argsort(expected[0])[-5:])

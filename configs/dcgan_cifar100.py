"""The DCGAN of the CIFAR-100 experiment as its authors trained it: 370,624 and 167,808 parameters, BCE, 50,000 steps.

    python -m vision_jax.main --config=configs/dcgan_cifar100.py --workdir=runs/dcgan_cifar100

They report an FID of 66.49, of which the numbers of images and the resizing are not known. Here `fd_resnet56_10k`, the
distance in the features of CIFAR-10's ResNet-56, is 0.995 against the test images (95 % interval 0.95 to 1.04; the
training images themselves are 0.03 away, noise 46.2), with step 45,000 of 50,000; 2.7 hours on one core of an AMD EPYC
that did other work too. The features tell CIFAR-10's ten classes apart and say little of these hundred, so the figure
is no measure beside one on CIFAR-10. It is measured with the options that `dcgan_cifar.py` names. Record:
configs/results/dcgan_cifar100. The recipe of `dcgan_cifar.py:cifar100` has 0.791.
"""

import pathlib
import runpy

_CIFAR = runpy.run_path(str(pathlib.Path(__file__).with_name("dcgan_cifar.py")))


def get_config(variant: str = ""):
    """Returns the config; variant 'smoke' trains for seconds on digits."""
    if variant not in ("", "smoke"):
        raise ValueError(f"dcgan_cifar100 has no variant {variant!r}; it has 'smoke'.")
    config = _CIFAR["authors"]()
    config.data.name = "cifar100"
    if variant == "smoke":
        _CIFAR["smoke"](config)
    return config

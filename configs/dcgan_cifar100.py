"""The DCGAN of the CIFAR-100 experiment as its authors trained it: 370,624 and 167,808 parameters, BCE, 50,000 steps.

    python -m vision_jax.main --config=configs/dcgan_cifar100.py --workdir=runs/dcgan_cifar100

They report an FID of 66.49, of which the numbers of images and the resizing are not known. Nothing has been measured
with this code yet.
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

"""Images per second of FID's features beside pytorch-fid on this machine, at equal precision, in one run.

    python -m tests.benchmarks.fid_features [--size 32] [--batch 50] [--rounds 7] [--burst 10] [--json FILE]

Both sides compute the 2,048 features of the same uint8 images with the same random weights in float32 (on a GPU without
TF32): ours from `Extractor.apply`, resizing included, pytorch-fid's by its `InceptionV3` from the images over 255, as
its command does. After a check that the features agree to 1e-4 they run in turn, each in a process of its own and for a
burst of `--burst` seconds at least. PyTorch runs contiguous and channels-last; the faster one counts. The ratio is the
median of the rounds', neighbors in time. Nothing else may run on the machine.
"""

import argparse
import os
from collections.abc import Callable

import numpy as np

from tests.benchmarks import in_turn


def images(size: int, batch: int) -> np.ndarray:
    """The same random images on both sides, uint8 [batch, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def load(side: str, given: argparse.Namespace) -> tuple[Callable[[], np.ndarray], float]:
    """A function that computes the features of one batch and hands them to the host, and how many images that is."""
    import torch

    from tests.parity import references

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    net = references.lively_fid_inception()
    x = images(given.size, given.batch)
    if side == in_turn.OURS:
        import jax

        from vision_jax.models import registry
        from vision_jax.pretrained import extractors, port

        state = {key: value.numpy() for key, value in net.state_dict().items()}
        variables = port.load_state_dict(extractors.FID_NETWORK, state)
        view, model = extractors.FID_VIEWS["pytorch_fid"], registry.build(extractors.FID_NETWORK)
        extractor = extractors.Extractor("fid", model, variables, "", view, "features", 2048)
        placed = jax.device_put(variables)
        program = jax.jit(lambda variables, x: extractor.apply(variables, x)["features"])
        return lambda: np.asarray(program(placed, x)), given.batch
    from pytorch_fid import inception

    inception.fid_inception_v3 = lambda: net
    torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if "channels-last" in side else torch.contiguous_format
    model = inception.InceptionV3([3]).eval().to(device, memory_format=layout)

    def run() -> np.ndarray:
        with torch.no_grad():
            planes = torch.from_numpy(x).permute(0, 3, 1, 2).to(device).float() / 255.0
            return model(planes.contiguous(memory_format=layout))[0].squeeze(3).squeeze(2).cpu().numpy()

    return run, given.batch


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises unless the features agree."""
    difference = float(np.abs(ours - theirs).max() / np.abs(ours).max())
    if not difference < 1e-4:
        raise SystemExit(f"The features differ by {difference:.1e}; nothing is timed.")


if __name__ == "__main__":
    in_turn.main(
        "tests.benchmarks.fid_features",
        __doc__,
        "images/s",
        load,
        agree,
        size=(32, "side of the images"),
        batch=(50, "images at a time (50 is pytorch-fid's default)"),
        burst=(10.0, "seconds"),
    )

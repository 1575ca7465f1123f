"""Megapixels per second that SRCNN makes of pictures, beside PyTorch on this machine, in one run.

    python -m tests.benchmarks.upscale [--size 256] [--rounds 7] [--burst 5] [--json FILE]

Both sides make a uint8 RGB picture of `--size` twice as large with the same random weights in float32: bicubic
interpolation, repeated borders, SRCNN 9-5-5, bytes again. Ours is `ImageUpscaler`, PyTorch's is `interpolate` and the
network. After a check that the bytes agree to one step they run in turn, each in a process of its own and for a burst
of `--burst` seconds at least. PyTorch runs contiguous and channels-last; the faster one counts. Nothing else may run on
the machine.
"""

import argparse
import os
from collections.abc import Callable

import numpy as np

from tests.benchmarks import in_turn


def load(side: str, given: argparse.Namespace) -> tuple[Callable[[], np.ndarray], float]:
    """A function that enlarges one picture, from bytes to bytes, and how many megapixels it makes."""
    import torch
    from torch.nn import functional

    from tests.parity import harness, references

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    net = references.SRCNN().eval()
    harness.randomize(net, seed=0)
    picture = np.random.default_rng(0).integers(0, 256, (given.size, given.size, 3), dtype=np.uint8)
    megapixels = (2 * given.size) ** 2 / 1e6
    if side == in_turn.OURS:
        from vision_jax import inference, models
        from vision_jax.pretrained import port

        state = {key: value.numpy() for key, value in net.state_dict().items()}
        upscaler = inference.ImageUpscaler(
            "srcnn", models.build("srcnn", scale=2), port.load_state_dict("srcnn", state)
        )
        return lambda: upscaler(picture, tile=given.size), megapixels
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if "channels-last" in side else torch.contiguous_format
    net = net.to(device, memory_format=layout)
    context = 4 + 2 + 2  # Pixels around one that the network looks at.

    def run() -> np.ndarray:
        with torch.no_grad():
            low = torch.from_numpy(picture).permute(2, 0, 1)[None].to(device).float() / 255.0
            enlarged = functional.interpolate(low, scale_factor=2, mode="bicubic", antialias=True).clamp(0.0, 1.0)
            surrounded = functional.pad(enlarged, 4 * [context], mode="replicate").contiguous(memory_format=layout)
            restored = net(surrounded)[:, :, context:-context, context:-context].clamp(0.0, 1.0)
            return (255.0 * restored).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous().cpu().numpy()

    return run, megapixels


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises unless the pictures agree."""
    if not np.abs(ours - theirs).max() <= 1:
        raise SystemExit(f"The pictures differ by {np.abs(ours - theirs).max():.0f}; nothing is timed.")


if __name__ == "__main__":
    in_turn.main(
        "tests.benchmarks.upscale",
        __doc__,
        "megapixels/s",
        load,
        agree,
        size=(256, "side of the picture that is enlarged"),
        burst=(5.0, "seconds"),
    )

"""Images per second of FID's features beside pytorch-fid on this machine, at equal precision, in one run.

    python -m tests.benchmarks.fid_features [--size 32] [--batch 50] [--rounds 7] [--burst 10] [--json FILE]

Both sides compute the 2,048 features of the same uint8 images with the same random weights in float32 (on a GPU without
TF32): ours from `Extractor.apply`, resizing included, pytorch-fid's by its `InceptionV3` from the images over 255, as
its command does. After a check that the features agree to 1e-4 they run in turn, each in a process of its own and for a
burst of `--burst` seconds at least. PyTorch runs contiguous and channels-last; the faster one counts. The ratio is the
median of the rounds', neighbors in time. Nothing else may run on the machine.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SIDES = ("ours", "torch contiguous", "torch channels-last")


def images(size: int, batch: int) -> np.ndarray:
    """The same random images on both sides, uint8 [batch, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def load_side(side: str, size: int, batch: int) -> Callable[[], np.ndarray]:
    """A function that computes the features of one batch and hands them to the host."""
    import torch

    from tests.parity import references

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    net = references.lively_fid_inception()
    x = images(size, batch)
    if side == "ours":
        import jax

        from vision_jax.models import registry
        from vision_jax.pretrained import extractors, port

        state = {key: value.numpy() for key, value in net.state_dict().items()}
        variables = port.load_state_dict(extractors.FID_NETWORK, state)
        view, model = extractors.FID_VIEWS["pytorch_fid"], registry.build(extractors.FID_NETWORK)
        extractor = extractors.Extractor("fid", model, variables, "", view, "features", 2048)
        placed = jax.device_put(variables)
        program = jax.jit(lambda variables, x: extractor.apply(variables, x)["features"])
        return lambda: np.asarray(program(placed, x))
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

    return run


def serve(side: str, size: int, batch: int) -> None:
    """Writes the features as one line, then answers lines (seconds of a burst) with images per second."""
    run = load_side(side, size, batch)
    print(json.dumps(run().astype(np.float64).tolist()), flush=True)
    for line in sys.stdin:
        began, done = time.perf_counter(), 0
        while not done or time.perf_counter() - began < float(line):
            run()
            done += batch
        print(done / (time.perf_counter() - began), flush=True)


class Server:
    """A process of its own for one side."""

    def __init__(self, side: str, size: int, batch: int):
        command = [sys.executable, "-m", "tests.benchmarks.fid_features", "--serve", side]
        self.process = subprocess.Popen(
            [*command, "--size", str(size), "--batch", str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.features = np.array(json.loads(self.answer()))

    def answer(self) -> str:
        """The next line that the process writes."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a side died")
        return line

    def burst(self, seconds: float) -> float:
        """Images per second over at least `seconds`."""
        print(seconds, file=self.process.stdin, flush=True)
        return float(self.answer())

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--batch", type=int, default=50, help="images at a time (50 is pytorch-fid's default)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--burst", type=float, default=10.0, help="seconds")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.size, given.batch)
        return
    servers = {side: Server(side, given.size, given.batch) for side in SIDES}
    ours = servers["ours"].features
    difference = max(float(np.abs(ours - s.features).max() / np.abs(ours).max()) for s in servers.values())
    if not difference < 1e-4:
        raise SystemExit(f"The features differ by {difference:.1e}; nothing is timed.")
    samples: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(given.rounds):
        for side, server in servers.items():
            samples[side].append(server.burst(given.burst))
    for server in servers.values():
        server.close()
    best = max(SIDES[1:], key=lambda side: statistics.median(samples[side]))
    ratio = statistics.median(a / b for a, b in zip(samples["ours"], samples[best], strict=True))
    print(f"features agree to {difference:.1e}; {given.batch} × {given.size}×{given.size}, {given.rounds} rounds")
    for side, found in samples.items():
        middle = statistics.median(found)
        print(f"{side:20} {middle:8.1f} images/s   spread {(max(found) - min(found)) / middle:.0%}")
    print(f"ours to {best}: {ratio:.2f} ×")
    if given.json:
        facts = {"machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
        row = {**facts, **vars(given), "difference": difference, "samples": samples, "ratio": ratio}
        pathlib.Path(given.json).write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()

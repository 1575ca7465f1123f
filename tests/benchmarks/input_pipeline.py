"""Images per second of the input pipeline, beside torchvision and PyTorch's DataLoader in the same run.

    python -m tests.benchmarks.input_pipeline [--folder PHOTOS] [--workers 2] [--seconds 8] [--json FILE]

Every row ends with the same thing: float32 batches, normalized by mean and standard deviation, where the model
takes them (a device array here, a CPU tensor there), with the same distribution of crops and flips:

(a) a folder of JPEGs -> RandomResizedCrop(224) and flip, batches of 64, decoded by `--workers` processes on both
    sides. 'as documented' is torchvision's usual chain (crop, flip, ToTensor, Normalize in the workers); 'lean' moves
    uint8 between processes and normalizes whole batches, which is PyTorch's fastest form of the same work.
(b) 50,000 images of 32x32 in memory -> RandomCrop(32, padding=4) and flip, batches of 512: torchvision's CIFAR10
    data set, whose items are Pillow images, with no and with `--workers` worker processes; ours gathers the
    batch on the host and crops and flips it in a jitted program.
(c) as (b), but ours keeps the images on the device, and only indices cross.

What differs on our side: files are read as bytes once and opened once; large JPEGs are decoded at 1/2 to 1/8 of
their size where the crop keeps twice its pixels ('full decoding' switches that off); flips and normalization happen
on the device. Photos default to 500x375 pixels, ImageNet's mean size, and 100 kB, written to a temporary folder.

Each measurement runs in a process of its own; sides alternate and the median of the rounds counts. Starting
workers and compiling is not counted.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from tests.torchvision_import import import_torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTO_BATCH, SMALL_BATCH, SMALL_IMAGES = 64, 512, 50_000


def small_images() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SMALL_IMAGES, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, SMALL_IMAGES).astype(np.int32)


def write_photos(root: pathlib.Path, count: int = 400) -> None:
    """Two classes of smooth, slightly noisy JPEGs of 500x375 pixels."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        grain = rng.normal(0, 9, (375, 500, 1)).astype(np.float32)
        path = root / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=88)


def cpu_seconds() -> float:
    """CPU time of this process and its worker processes so far (Linux)."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = entry.read_text().rpartition(")")[2].split()
            pid = int(entry.parent.name)
            children.setdefault(int(fields[1]), []).append(pid)
            spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, open_pids = 0.0, [os.getpid()]
    while open_pids:
        pid = open_pids.pop()
        total += spent.get(pid, 0.0)
        open_pids += children.get(pid, [])
    return total


def rate(batches: Iterator[int], seconds: float) -> tuple[float, float]:
    """Images per second and CPU milliseconds per image, after what was made ready ahead is used up."""
    for _ in range(8):
        next(batches)
    start, cpu, images = time.perf_counter(), cpu_seconds(), 0
    while time.perf_counter() - start < seconds:
        images += next(batches)
    return images / (time.perf_counter() - start), (cpu_seconds() - cpu) / images * 1e3


def torch_batches(args: argparse.Namespace) -> Iterator[int]:
    """torchvision's transforms in PyTorch's DataLoader."""
    import torch

    datasets, transforms = (import_torchvision(f"torchvision.{name}") for name in ("datasets", "transforms"))

    lean = args.variant == "lean"
    to_tensor = [transforms.PILToTensor()] if lean else [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    if args.case == "a":
        crop = transforms.RandomResizedCrop(224)
        chain = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *to_tensor])
        data = datasets.ImageFolder(args.folder, chain)
    else:
        crop = transforms.RandomCrop(32, padding=4)
        data = datasets.CIFAR10.__new__(datasets.CIFAR10)  # without its files; __getitem__ is what counts
        data.data, labels = small_images()
        data.targets, data.target_transform = labels.tolist(), None
        data.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *to_tensor])
    loader = torch.utils.data.DataLoader(
        data,
        PHOTO_BATCH if args.case == "a" else SMALL_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    while True:
        for images, _ in loader:
            if lean:
                images = (images.float().div_(255) - mean) / std
            assert images.dtype == torch.float32
            yield len(images)


def our_batches(args: argparse.Namespace) -> Iterator[int]:
    """The project's own pipeline."""
    import jax
    import jax.numpy as jnp

    from vision_jax import parallel
    from vision_jax.data import augment, folder, pipeline, sources, transforms

    mesh = parallel.make_mesh(1)
    if args.case == "a":
        photos = folder.load(args.folder, val_fraction=0, test_fraction=0, seed=0).splits["train"]
        view = transforms.RandomResizedCrop(224, shrink=args.variant != "full decoding")
        loader = pipeline.Loader(folder.undecoded(photos), mesh, train_transform=view, workers=args.workers)
        change = augment.build(("horizontal_flip",))
    else:
        on_device = "always" if args.case == "c" else "never"
        loader = pipeline.Loader(sources.ArraySource(*small_images()), mesh, on_device=on_device)
        change = augment.build(("random_crop(padding=4)", "horizontal_flip"))
    mean, std = jnp.asarray(MEAN), jnp.asarray(STD)

    @jax.jit
    def finish(data, batch, key, step):
        batch = pipeline.gather(data, batch)
        batch["image"] = batch["image"].astype(jnp.float32) / 255
        return (change(jax.random.fold_in(key, step), batch)["image"] - mean) / std

    key = jax.random.key(0)
    size = PHOTO_BATCH if args.case == "a" else SMALL_BATCH
    pending = None
    for step, batch in enumerate(loader.train(size, seed=0)):
        images = finish(loader.data, parallel.put_split(batch, mesh), key, step)
        if pending is not None:  # as in training, the host prepares a batch while the device works on another
            yield len(pending.block_until_ready())
        pending = images


def measure(args: argparse.Namespace, side: str, case: str, variant: str, workers: int) -> list[float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.input_pipeline", "--side", side, "--case", case]
    command += ["--variant", variant, "--workers", str(workers), "--seconds", str(args.seconds)]
    command += ["--folder", args.folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace) -> None:
    """Measures all rows in turn, prints the table, writes the JSON."""
    w = args.workers
    rows = [
        ("a", "torch", "as documented", w),
        ("a", "torch", "lean", w),
        ("a", "ours", "full decoding", w),
        ("a", "ours", "default", w),
        ("a", "ours", "default", 0),
        ("b", "torch", "as documented", 0),
        ("b", "torch", "as documented", w),
        ("b", "ours", "default", 0),
        ("c", "ours", "default", 0),
    ]
    rows = [row for row in rows if row[0] in args.cases]
    measured: dict[tuple, list[list[float]]] = {row: [] for row in rows}
    for _ in range(args.rounds):
        for row in rows:
            measured[row].append(measure(args, row[1], row[0], row[2], row[3]))
    medians = {row: statistics.median(r for r, _ in values) for row, values in measured.items()}
    table = []
    for row in rows:
        case, side, variant, workers = row
        # (c) has no counterpart of its own: PyTorch's loader feeds from the host.
        rivals = [medians[r] for r in rows if r[1] == "torch" and r[0] == case.replace("c", "b")]
        table.append(
            {
                "case": case,
                "side": side,
                "variant": variant,
                "worker_processes": workers,
                "images_per_second": round(medians[row], 1),
                "rounds": [round(r, 1) for r, _ in measured[row]],
                "cpu_ms_per_image": round(statistics.median(c for _, c in measured[row]), 4),
                "times_fastest_torch": round(medians[row] / max(rivals), 2) if rivals else None,
            }
        )
    header = f"{'case':6}{'side':8}{'variant':16}{'workers':>8}{'images/s':>12}"
    print(header + f"{'CPU ms/image':>15}{'x fastest PyTorch':>20}")
    for row in table:
        times = "" if row["times_fastest_torch"] is None else f"{row['times_fastest_torch']:.2f}"
        print(
            f"({row['case']})   {row['side']:8}{row['variant']:16}{row['worker_processes']:8d}"
            f"{row['images_per_second']:12,.0f}{row['cpu_ms_per_image']:15.3f}{times:>20}"
        )
    if args.json:
        record = {"cpus": os.cpu_count(), "seconds": args.seconds, "folder": args.folder, "rows": table}
        pathlib.Path(args.json).write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Runs the comparison, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="", help="photos, one folder per class; default: synthetic ones")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each side")
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row")
    parser.add_argument("--cases", default="abc", help="which of a, b and c")
    parser.add_argument("--json", default="", help="file for the results")
    parser.add_argument("--side", choices=("torch", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--variant", default="default", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        batches: Callable[[argparse.Namespace], Iterator[int]] = torch_batches if args.side == "torch" else our_batches
        with contextlib.closing(batches(args)) as iterator:
            print(json.dumps(rate(iterator, args.seconds)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        if not args.folder:
            args.folder = temporary
            write_photos(pathlib.Path(temporary))
        compare(args)


if __name__ == "__main__":
    main()

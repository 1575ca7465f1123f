"""Reads mutated weight files: ``python fuzz_torch_file.py FOLDER_OF_GOOD_FILES COUNT [SEED]``.

Prints how many were refused. Ends with another exit status than 0 when a file makes the reader do anything but
return a value or raise ``TorchFileError``: run code (seen by an audit hook), raise something else, or take more
than 512 MiB of memory.
"""

import os
import random
import resource
import sys
import tempfile
from pathlib import Path

from vision_jax.pretrained import torch_file

MEMORY_BYTES = 512 * 2**20
FORBIDDEN = (
    "exec",
    "import",
    "os.",
    "subprocess.",
    "pickle.",
    "socket.",
    "shutil.",
    "ctypes.",
    "marshal.",
    "code.",
)


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns the file with one to four damages of one kind or another."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not damaged:
            break
        where = rng.randrange(len(damaged))
        kind = rng.randrange(7)
        if kind == 0:
            damaged[where] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[where] = rng.choice(b"\x00\x01\x7f\x80\xff().NQRXbcghijloqrstu}]\x81\x82\x85\x8a\x8b\x92\x93")
        elif kind == 2:
            del damaged[where:]
        elif kind == 3:
            del damaged[where : where + rng.randint(1, 16)]
        elif kind == 4:
            damaged[where:where] = rng.randbytes(rng.randint(1, 16))
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            damaged[where : where + 16] = other[start : start + rng.randint(1, 64)]
        else:
            damaged[where : where + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f"])
    return bytes(damaged)


def main(folder: str, count: str, seed: str = "0") -> None:
    """Reads ``count`` mutated files."""
    seeds = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    rng = random.Random(int(seed))
    scratch = Path(tempfile.mkdtemp()) / "mutated"
    for data in seeds:  # whatever is imported on first use
        scratch.write_bytes(data)
        try:
            torch_file.read(scratch)
        except torch_file.TorchFileError:
            pass
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    reading = False

    def watch(event: str, arguments: tuple) -> None:
        written = event == "open" and arguments[1] not in ("r", "rb")
        if reading and (written or event.startswith(FORBIDDEN)):
            os.write(2, f"audit: {event} {arguments}\n".encode())
            os._exit(3)

    sys.addaudithook(watch)
    refused = 0
    for _ in range(int(count)):
        scratch.write_bytes(mutate(rng.choice(seeds), seeds, rng))
        reading = True
        try:
            torch_file.read(scratch)
        except torch_file.TorchFileError:
            refused += 1
        finally:
            reading = False
    print(refused, "refused of", count)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Reads hostile and mutated weight files: ``python fuzz_torch_file.py SEEDS HOSTILE COUNT [SEED]``.

Every file in the folder HOSTILE is read once, and COUNT mutations of the files in the folder SEEDS. Prints how many
mutations were refused. Ends with another exit status than 0 when a file makes the reader do anything but
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


def main(seeds_folder: str, hostile_folder: str, count: str, seed: str = "0") -> None:
    """Reads the hostile files, then ``count`` mutated ones."""
    seeds = [path.read_bytes() for path in sorted(Path(seeds_folder).iterdir())]
    rng = random.Random(int(seed))
    scratch = Path(tempfile.mkdtemp()) / "mutated"
    for data in seeds:  # whatever is imported on first use
        refuses(scratch, data)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))

    def watch(event: str, arguments: tuple) -> None:
        written = event == "open" and arguments[1] not in ("r", "rb")
        if reading and (written or event.startswith(FORBIDDEN)):
            os.write(2, f"audit: {event} {arguments}\n".encode())
            os._exit(3)

    sys.addaudithook(watch)
    for path in sorted(Path(hostile_folder).iterdir()):
        if not refuses(scratch, path.read_bytes()):
            sys.exit(f"{path.name} was not refused")
    refused = sum(refuses(scratch, mutate(rng.choice(seeds), seeds, rng)) for _ in range(int(count)))
    print(refused, "refused of", count)


reading = False


def refuses(scratch: Path, data: bytes) -> bool:
    """Returns whether the reader refuses a file of these bytes."""
    global reading
    scratch.write_bytes(data)
    reading = True
    try:
        torch_file.read(scratch)
    except torch_file.TorchFileError:
        return True
    finally:
        reading = False
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Every reader of foreign files with small valid files for it, see `fuzz`.

A seed is `(content, wrap)`: what is damaged, and what makes a file of it: itself, or an archive whose checksums are
right, so that damage comes to who reads the part and not only to who compares checksums.
"""

import dataclasses
import gzip
import io
import json
import pathlib
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from tests.data.prepare import publishers_files
from tests.pretrained import test_torch_file_hostile as torch_files
from vision_jax import config as config_lib
from vision_jax import config_files
from vision_jax.data import folder as photo_folder
from vision_jax.data.decode import ImageError, decode_image
from vision_jax.data.prepare import formats
from vision_jax.data.prepare.archives import ArchiveError, read_tar
from vision_jax.models import registry
from vision_jax.pretrained import port, torch_file, torch_writer, weights
from vision_jax.utils import trees
from vision_jax.utils.options import ConfigError

Seed = tuple[bytes, Callable[[bytes], bytes]]
_MAX_BYTES = 1 << 24
_rng = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader: `read(content, scratch folder)` returns or raises one of `refusal`, whose message has `named` in it."""

    seeds: list[Seed]
    read: Callable[[bytes, pathlib.Path], object]
    refusal: tuple[type[Exception], ...]
    named: str


def whole(content: bytes) -> bytes:
    """A seed that is a file."""
    return content


def _from_file(seeds: list[Seed], read: Callable[[pathlib.Path], object], *refusal, file="input") -> Reader:
    def write_and_read(content: bytes, folder: pathlib.Path) -> object:
        path = folder / file
        path.write_bytes(content)
        return read(path)

    return Reader(seeds, write_and_read, refusal, file)


def _written(write: Callable[[pathlib.Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file"
        write(path)
        return path.read_bytes()


def _zip(name: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)
        return stream.getvalue()

    return pack


# Weights.

_STATE = {"a.weight": _rng.random((2, 3), np.float32), "a.bias": np.zeros(2, np.float32), "n": np.arange(3)}


def _pth() -> Reader:
    seeds: list[Seed] = [
        (_written(lambda path: torch_writer.write_pth(path, _STATE)), whole),
        (torch_files.tensor(), torch_files.zip_file),
        (zipfile.ZipFile(io.BytesIO(_written(lambda path: torch_writer.write_pth(path, {})))).read("archive/data.pkl"),
         torch_files.zip_file),
    ]  # fmt: skip
    return _from_file(seeds, torch_file.read, torch_file.TorchFileError)


def _legacy() -> Reader:
    seeds: list[Seed] = [
        (torch_files.legacy_file(torch_files.tensor()), whole),
        (torch_files.tensor(), torch_files.legacy_file),
    ]
    return _from_file(seeds, torch_file.read, torch_file.TorchFileError)


def _npz() -> Reader:
    member = _written(lambda path: np.save(path.open("wb"), _STATE["a.weight"]))
    plain, compressed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **_STATE)
    np.savez_compressed(compressed, **_STATE)
    seeds: list[Seed] = [(plain.getvalue(), whole), (compressed.getvalue(), whole), (member, _zip("a.npy"))]
    return _from_file(seeds, torch_file.read, torch_file.TorchFileError)


def _safetensors() -> Reader:
    content = _written(lambda path: torch_writer.write_safetensors(path, _STATE))
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]
    seeds: list[Seed] = [(content, whole), (header, lambda changed: struct.pack("<Q", len(changed)) + changed + data)]
    return _from_file(seeds, torch_file.state_dict, torch_file.TorchFileError)


def _own_safetensors() -> Reader:
    options = {"channels": [2], "kernel_size": 1}
    model = registry.build("cnn", num_classes=2, **options)
    shapes = {name: part for name, part in registry.shapes(model, (4, 4, 1)).items() if name == "params"}
    tensors = {path: np.zeros(leaf.shape, np.float32) for path, leaf in trees.flatten(shapes).items()}
    preprocessing = weights.Preprocessing(4, 4, "bilinear", (0.5,), (0.5,))
    record = weights.Record("cnn", "a run", "ab", "MIT", options, (4, 4, 1), ("a", "b"), preprocessing, 50.0)
    text = json.dumps(dataclasses.asdict(record))

    def pack(changed: bytes) -> bytes:
        metadata = {"vision_jax": changed.decode("utf-8", "replace")}
        return _written(lambda path: torch_writer.write_safetensors(path, tensors, metadata))

    seeds: list[Seed] = [(pack(text.encode()), whole), (text.encode(), pack), (text.encode(), pack)]
    read = lambda path: weights.load("cnn", path)  # noqa: E731
    return _from_file(seeds, read, torch_file.TorchFileError, port.PortError)


# Data sets.


def _cifar(binary: bool) -> Reader:
    one = (_rng.integers(0, 256, (5, 32, 32, 3), np.uint8), np.arange(5) % 2)
    contents = publishers_files.cifar_batches({"train": one, "test": one}, ["a", "b"], False, binary)
    layout = formats.CIFAR_LAYOUTS[f"cifar-10-{'binary' if binary else 'python'}.tar.gz"]
    batch = layout.splits["test"][0]
    small = dataclasses.replace(layout, splits={"test": [batch]})

    def read(content: bytes, _: pathlib.Path) -> object:
        # Names and examples are in one file or the other; which is damaged, their first bytes tell.
        return formats.read_cifar(small, {**contents, batch: content}, ["a", "b"])

    def read_names(content: bytes, folder: pathlib.Path) -> object:
        if content.startswith(b"NAMES"):
            return formats.read_cifar(small, {**contents, layout.names: content[5:]}, ["a", "b"])
        return read(content, folder)

    # Pixels are most of a batch: a short one has its damage elsewhere.
    tiny = (
        contents[batch]
        if binary
        else publishers_files.pickled_py2({b"labels": [0], b"data": one[0][:1].reshape(1, -1)})
    )
    seeds: list[Seed] = [(tiny, whole), (contents[layout.names], lambda changed: b"NAMES" + changed)]
    if not binary:
        start = tiny.index(b"T\x00\x0c\x00\x00")  # the string of pixels
        seeds += [(tiny[:start], lambda changed: changed + tiny[start:])] * 2
    return Reader(seeds, read_names, (ArchiveError,), "batch")


def _idx() -> Reader:
    def write(path: pathlib.Path, zipped: bool) -> None:
        publishers_files.write_idx(path, _rng.integers(0, 256, (3, 4, 4), np.uint8), zipped)

    plain, zipped = (_written(lambda path, zipped=zipped: write(path, zipped)) for zipped in (False, True))
    seeds: list[Seed] = [(plain, whole), (zipped, whole), (plain, gzip.compress)]
    return _from_file(seeds, lambda path: formats.read_idx(path, max_bytes=_MAX_BYTES), ArchiveError)


def _svhn() -> Reader:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(name: bytes, array: np.ndarray) -> bytes:
        flags = element(6, struct.pack("<II", 9, 0))
        shape = element(5, struct.pack(f"<{array.ndim}i", *array.shape))
        return element(14, flags + shape + element(1, name) + element(2, array.tobytes("F")))

    header = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    pixels = matrix(b"X", _rng.integers(0, 256, (32, 32, 3, 1), np.uint8))
    labels = matrix(b"y", np.ones((1, 1), np.uint8))
    seeds: list[Seed] = [
        (header + pixels + labels, whole),
        (labels, lambda changed: header + pixels + changed),
        (labels, lambda changed: header + pixels + struct.pack("<II", 15, len(z := zlib.compress(changed))) + z),
        (pixels[:80], lambda changed: header + changed + pixels[80:] + labels),
    ]
    return _from_file(seeds, lambda path: formats.read_svhn(path, max_bytes=_MAX_BYTES), ArchiveError)


def _tar() -> Reader:
    def made(mode: str, layout: int) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode, format=layout) as tar:
            for name in ("d/a.txt", "d/" + "long" * 40):
                member = tarfile.TarInfo(name)
                member.size = 3
                tar.addfile(member, io.BytesIO(b"abc"))
        return stream.getvalue()

    plain = made("w", tarfile.PAX_FORMAT)

    def block(start: int) -> Seed:
        """The header at `start`, whose checksum is made right, within the rest of the archive."""

        def pack(changed: bytes) -> bytes:
            header = changed[:512].ljust(512, b"\0")
            total = sum(header[:148]) + 8 * 32 + sum(header[156:])
            return plain[:start] + header[:148] + b"%06o\0 " % total + header[156:] + plain[start + 512 :]

        return plain[start : start + 512], pack

    seeds: list[Seed] = [
        (made("w:gz", tarfile.GNU_FORMAT), whole),
        (plain, gzip.compress),
        (made("w", tarfile.GNU_FORMAT)[:4096], whole),
        (
            plain[1536:1792],
            lambda changed: plain[:1536] + changed[:512].ljust(512, b"\0") + plain[2048:],
        ),  # a PAX record
        *map(block, (0, 1024, 2048)),
    ]
    read = lambda path: list(read_tar(path, lambda name: True, max_bytes=_MAX_BYTES))  # noqa: E731
    return _from_file(seeds, read, ArchiveError)


# Pictures and runs.


def _encoded() -> list[Seed]:
    picture = publishers_files.picture
    made = [publishers_files.encoded(picture(0), kind) for kind in ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")]
    made += [publishers_files.encoded(picture(1, mode=mode), "PNG") for mode in ("L", "RGBA")]
    made += [publishers_files.encoded(picture(2), "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_deflate")]
    made.append(
        publishers_files.encoded(
            picture(3), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
        )
    )
    return [(content, whole) for content in made]


def _pictures() -> Reader:
    return _from_file(_encoded(), decode_image, ImageError)


def _photos() -> Reader:
    others = [publishers_files.encoded(publishers_files.picture(number), "PNG") for number in range(10, 16)]

    def read(content: bytes, folder: pathlib.Path) -> object:
        for number, other in enumerate(others):
            path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(other)
        (folder / "photos" / "a" / "input.jpg").write_bytes(content)
        dataset = photo_folder.load(folder / "photos", val_fraction=0.3, test_fraction=0.3, seed=0)
        return [example["image"] for source in dataset.splits.values() for example in source]

    return Reader(_encoded(), read, (ValueError,), "input.jpg")


def _config() -> Reader:
    values = [config_lib.to_dict(config_lib.default(task)) for task in ("classification", "gan", "super_resolution")]
    short = {"task": "gan", "model": {"name": "dcgan", "dcgan_generator": {"width": 4}}, "train": {"steps": 1}}
    for full in values:
        full["train"]["steps"] = 1
    texts = map(json.dumps, [*values, short, short, short])
    seeds: list[Seed] = [(text.encode(), whole) for text in texts]

    def read(path: pathlib.Path) -> None:
        config = config_files.of_run(path.parent)
        try:
            config_lib.validate(config)
        except ConfigError as error:  # which names the option
            raise ConfigError(f"config.json: {error}") from None

    return _from_file(seeds, read, ConfigError, file="config.json")


# By name, and made where they are used: some start JAX, and whoever did so should not fork.
READERS: dict[str, Callable[[], Reader]] = {
    "pth_zip": _pth,
    "pth_legacy": _legacy,
    "npz": _npz,
    "safetensors": _safetensors,
    "own_safetensors": _own_safetensors,
    "cifar_pickle": lambda: _cifar(binary=False),
    "cifar_binary": lambda: _cifar(binary=True),
    "idx": _idx,
    "svhn_mat": _svhn,
    "tar": _tar,
    "picture": _pictures,
    "photo_folder": _photos,
    "config": _config,
}

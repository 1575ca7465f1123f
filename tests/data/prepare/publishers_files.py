"""Writers of the publishers' formats, for tests: what the parsers read is made here independently of them."""

import gzip
import io
import struct
import tarfile

import numpy as np
from PIL import Image


def pickled_py2(data):
    """Pickles a dict as Python 2 did (protocol 2, `str` as bytes), for CIFAR's python archives."""
    out = io.BytesIO()

    def put(value):
        if isinstance(value, dict):
            out.write(b"}(")
            for key, item in value.items():
                put(key)
                put(item)
            out.write(b"u")
        elif isinstance(value, list):
            out.write(b"](")
            for item in value:
                put(item)
            out.write(b"e")
        elif isinstance(value, bytes) and len(value) < 256:
            out.write(b"U" + bytes([len(value)]) + value)
        elif isinstance(value, bytes):
            out.write(b"T" + struct.pack("<I", len(value)) + value)
        elif isinstance(value, int) and value < 256:
            out.write(b"K" + bytes([value]))
        elif isinstance(value, int):
            out.write(b"M" + struct.pack("<H", value))
        else:  # a uint8 array [rows, columns], the way NumPy 1.x reduced it under Python 2
            out.write(b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R(K\x01")
            put(value.shape[0])
            put(value.shape[1])
            out.write(
                b"\x86cnumpy\ndtype\nq\x03U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            )
            put(value.tobytes())
            out.write(b"tb")

    out.write(b"\x80\x02")
    put(data)
    out.write(b".")
    return out.getvalue()


def write_idx(path, array, zipped=True):
    """Writes an idx file of unsigned bytes."""
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)


def write_mnist(folder, splits, zipped=True):
    """Writes MNIST's four files; `splits` maps 'train' and 'test' to (images [N, 28, 28], labels)."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".gz" if zipped else ""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = splits[split]
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images, zipped)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels.astype(np.uint8), zipped)


def write_tar(path, contents, mode="w:gz"):
    """Writes a dict of names and contents."""
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def cifar_batches(splits, class_names, hundred, binary):
    """The files of one of CIFAR's four archives as a dict, without the folder.

    `splits` maps 'train' and 'test' to (images [N, 32, 32, 3], labels); CIFAR-10's training split is cut in five.
    """
    parts = {"train": [""], "test": [""]} if hundred else {"train": [f"{i}" for i in range(1, 6)], "test": [""]}
    contents = {}
    for split, (images, labels) in splits.items():
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        numbers = np.array_split(np.arange(len(images)), len(parts[split]))
        for part, index in zip(parts[split], numbers, strict=True):
            name = split if hundred else "test_batch" if split == "test" else f"data_batch_{part}"
            if binary:
                coarse = (labels[index, None] // 5).astype(np.uint8)
                columns = [coarse] * hundred + [labels[index, None].astype(np.uint8), rows[index]]
                contents[f"{name}.bin"] = np.concatenate(columns, axis=1).tobytes()
            else:
                key = b"fine_labels" if hundred else b"labels"
                batch = {
                    b"batch_label": b"one of them",
                    key: [int(i) for i in labels[index]],
                    b"data": rows[index],
                    b"filenames": [b"picture.png"] * len(index),
                }
                contents[name] = pickled_py2(batch)
    if binary:
        listed = "\n".join(class_names).encode() + b"\n\n"
        contents["fine_label_names.txt" if hundred else "batches.meta.txt"] = listed
        if hundred:
            contents["coarse_label_names.txt"] = b"fish\n"
    else:
        key = b"fine_label_names" if hundred else b"label_names"
        contents["meta" if hundred else "batches.meta"] = pickled_py2({key: [name.encode() for name in class_names]})
    return contents


def write_svhn(folder, splits):
    """Writes SVHN's .mat files of format 2; `splits` maps 'train', ... to (images [N, 32, 32, 3], digits shown)."""
    import scipy.io

    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, digits) in splits.items():
        labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        content = {"X": images.transpose(1, 2, 3, 0), "y": labels}
        scipy.io.savemat(folder / f"{split}_32x32.mat", content, do_compression=True)


def picture(seed, size=(40, 50), mode="RGB"):
    """A smooth random Pillow picture."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), np.uint8)
    return Image.fromarray(small.squeeze(), mode=None).resize(size[::-1], Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    """The bytes of a picture file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write_pets(folder, splits, class_names, mode="w:gz"):
    """Writes the Pet archives; `splits` maps 'trainval' and 'test' to lists of (name, label from 0, file content)."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations, pictures = {"annotations/README": b"about"}, {}
    for split, examples in splits.items():
        lines = [f"{name} {label + 1} {1 + name[0].islower()} 1\n" for name, label, _ in examples]
        annotations[f"annotations/{split}.txt"] = "".join(lines).encode()
        for name, _, content in examples:
            pictures[f"images/{name}.jpg"] = content
            annotations[f"annotations/trimaps/{name}.png"] = encoded(Image.new("L", (8, 8), 1), "PNG")
            annotations[f"annotations/trimaps/._{name}.png"] = b"left by a Mac"
    # the archive's order is neither the list's nor sorted
    pictures = dict(sorted(pictures.items(), key=lambda item: item[0][::-1]))
    write_tar(folder / "annotations.tar.gz", annotations, mode)
    write_tar(folder / "images.tar.gz", {**pictures, "images/Abyssinian_100.mat": b"left over"}, mode)

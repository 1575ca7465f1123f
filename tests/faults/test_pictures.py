"""Folders of pictures that would fill memory, hang, or carry names that no page and no terminal should repeat."""

import io
import os
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vision_jax import command_line
from vision_jax.data import checks, decode, folder
from vision_jax.report import page


def picture(path, seed=0, size=(9, 12)):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, "PNG")


def load(root, on_broken="error"):
    return folder.load(root, val_fraction=0.2, test_fraction=0.2, seed=0, on_broken=on_broken)


def test_few_pixels_are_decoded_at_once(tmp_path, monkeypatch):
    paths = [f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        picture(tmp_path / path, i, (10, 100 if i == 5 else 10))
    monkeypatch.setattr(checks, "_PIXELS_AT_ONCE", 250)
    lock, sizes, seen = threading.Lock(), [], []
    to_rgb = decode.to_rgb

    def watched(image, min_size):
        pixels = image.width * image.height
        with lock:
            sizes.append(pixels)
            seen.append((sum(sizes), len(sizes)))
        time.sleep(0.01)
        with lock:
            sizes.remove(pixels)
        return to_rgb(image, min_size)

    monkeypatch.setattr(decode, "to_rgb", watched)
    photos, broken = checks.check_photos(tmp_path, paths)
    assert len(photos) == 12 and not broken and len(seen) == 12
    assert all(pixels <= 250 or others == 1 for pixels, others in seen)


@pytest.mark.parametrize("size", [(1, 101), (505, 5)])
def test_a_strip_is_refused(size):
    content = io.BytesIO()
    Image.new("L", size).save(content, "PNG")
    with pytest.raises(decode.ImageError, match=f"{size[0]}×{size[1]} pixels are a strip"):
        decode.decode_image(content.getvalue())
    square = io.BytesIO()
    Image.new("L", (100, 1)).save(square, "PNG")
    assert decode.decode_image(square.getvalue()).shape == (1, 100, 3)


def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch):
    for name in "ab":
        for i in range(5):
            picture(tmp_path / name / f"{i}.png", ord(name) + 10 * i)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "a" / "zero.png")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # The path of a socket has to be short.
        listening.bind("b/socket.png")
    with pytest.raises(ValueError, match="3 of 13 files") as caught:
        load(tmp_path)
    assert str(caught.value).count("no file but a pipe, a device or a socket") == 3
    with pytest.warns(UserWarning, match="going on without 3 of 13"):
        assert sum(map(len, load(tmp_path, "skip").splits.values())) == 10


ODD = [os.fsdecode(b"caf\xe9"), "red\x1b[31m\x07", "\u202eevil"]


def test_odd_names_are_spelled_out(tmp_path):
    root = tmp_path / os.fsdecode(b"r\xff")
    for number, name in enumerate(ODD):
        for i in range(20):
            picture(os.path.join(root, name, f"{name}{i}.png"), 100 * number * (i > 0) + i)  # The first are the same.
    with pytest.warns(UserWarning, match="stands in more than one split or class") as caught:
        dataset = load(root)
    assert set(dataset.class_names) == {r"caf\udce9", r"red\x1b[31m\x07", r"\u202eevil"}
    assert sum(map(len, dataset.splits.values())) == 60
    assert all(example["image"].shape == (9, 12, 3) for source in dataset.splits.values() for example in source)
    text = f"{dataset.class_names} {dataset.provenance} {folder.duplicates(dataset.splits, dataset.class_names)}"
    assert text.isprintable() and text.encode()
    shown = command_line.in_words(caught[0].message, "WARNING")
    assert shown.startswith("WARNING: 1 photo stands") and shown.replace("\n", "").isprintable()


def test_a_page_takes_names_that_are_not_utf8(tmp_path):
    page.write(tmp_path / "index.html", title=os.fsdecode(b"caf\xe9"), sections=[])
    assert r"caf\udce9" in (tmp_path / "index.html").read_text(encoding="utf-8")

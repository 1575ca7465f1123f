import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from vision_jax.data import decode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height=48, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_are_read_exactly(kind):
    image = decode.decode_image(encoded(Image.fromarray(RGB), kind))
    assert image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_read_in_the_right_order_of_channels(kind):
    picture = smooth()
    image = decode.decode_image(encoded(Image.fromarray(picture), kind))
    assert image.shape == picture.shape
    assert np.abs(image.astype(int) - picture).mean() < 6


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    image = decode.decode_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(image, np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    picture = smooth()
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **lossless)
    image = decode.decode_image(data)
    assert decode.upright_size(decode.open_image(data)) == image.shape[:2] == picture.shape[:2]
    assert np.abs(image.astype(int) - picture).mean() < (6 if kind == "JPEG" else 0.001)


def test_modes_become_what_a_viewer_shows():
    gray = Image.fromarray(RGB[..., 0])
    np.testing.assert_array_equal(decode.decode_image(encoded(gray, "PNG")), RGB[..., :1].repeat(3, -1))
    bits = Image.fromarray(RGB[..., 0] > 128)
    np.testing.assert_array_equal(decode.decode_image(encoded(bits, "PNG")), 255 * (RGB[..., :1] > 128).repeat(3, -1))
    few = RGB // 128 * 128
    palette = Image.fromarray(few).quantize(16)
    np.testing.assert_array_equal(decode.decode_image(encoded(palette, "PNG")), few)
    np.testing.assert_array_equal(decode.decode_image(encoded(palette, "GIF")), few)


def test_alpha_is_dropped_as_torchvision_drops_it():
    alpha = RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8)
    with_alpha = Image.fromarray(np.concatenate([RGB, alpha], -1))
    np.testing.assert_array_equal(decode.decode_image(encoded(with_alpha, "PNG")), RGB)
    gray = Image.fromarray(np.concatenate([RGB[..., :1], alpha], -1), "LA")
    np.testing.assert_array_equal(decode.decode_image(encoded(gray, "PNG")), RGB[..., :1].repeat(3, -1))


def test_a_palette_with_transparency_is_read_without_a_warning():
    few = RGB // 128 * 128
    data = encoded(Image.fromarray(few).quantize(16), "PNG", transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode.decode_image(data), few)


def test_cmyk():
    picture = smooth()
    image = decode.decode_image(encoded(Image.fromarray(picture).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(image.astype(int) - picture).mean() < 6
    image = decode.decode_image(encoded(Image.fromarray(picture).convert("CMYK"), "TIFF"))
    assert np.abs(image.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    values[0, :3] = 0, 65535, 257 * 100
    image = decode.decode_image(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(image[..., 0], np.round(values / 257))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (6, 4), (4, 2)])  # PNG's RGB, RGBA, gray and alpha
def test_sixteen_bits_per_channel(color, channels):
    values = RNG.integers(0, 65536, (20, 30, channels)).astype(">u2")

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30, 20, 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    image = decode.decode_image(png)
    expected = values[..., :3] if channels > 2 else values[..., :1].repeat(3, -1)
    assert np.abs(image - expected / 257).max() <= 1


def test_pixels_without_a_range_are_refused():
    floats = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    with pytest.raises(decode.ImageError, match="floats"):
        decode.decode_image(floats)
    wide = encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF")
    with pytest.raises(decode.ImageError, match="70000"):
        decode.decode_image(wide)


def test_damage_is_told_in_a_sentence(tmp_path):
    good = encoded(Image.fromarray(smooth()), "JPEG")
    for data, reason in [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "not an image .*DOCTYPE"),
        (good[: len(good) // 2], "cut off"),
        (good[:40], "cut off|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ]:
        with pytest.raises(decode.ImageError, match=reason):
            decode.decode_image(data)
        # Reading a JPEG at an eighth of its size finds the same damage, with a fraction of the work.
        with pytest.raises(decode.ImageError, match=reason):
            decode.decode_image(data, min_size=1)
    path = tmp_path / "half.png"
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG")[:500])
    with pytest.raises(decode.ImageError, match=r"half\.png"):
        decode.decode_image(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    data = encoded(Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 600 pixels are more than twice as many
    with pytest.raises(decode.ImageError, match=r"decompression bombs.*MAX_IMAGE_PIXELS"):
        decode.decode_image(data)


def test_min_size_shrinks_jpegs_but_keeps_that_many_pixels():
    data = encoded(Image.fromarray(smooth(480, 640)), "JPEG", quality=95)
    assert decode.decode_image(data).shape == (480, 640, 3)
    for min_size, shape in [(480, (480, 640, 3)), (240, (240, 320, 3)), (121, (240, 320, 3)), (60, (60, 80, 3))]:
        image = decode.decode_image(data, min_size)
        assert image.shape == shape
        assert np.abs(image.astype(int) - smooth(*shape[:2])).mean() < 3
    png = encoded(Image.fromarray(smooth(480, 640)), "PNG")
    assert decode.decode_image(png, 60).shape == (480, 640, 3)


def test_the_message_of_a_damaged_file_is_pillow_s_or_else_the_kind_of_error(monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    with pytest.raises(decode.ImageError, match=r"damaged or cut off: .*truncated"):
        decode.decode_image(buffer.getvalue()[:1000])

    def fail(*args, **options):
        raise EOFError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(decode.ImageError, match=r"damaged or cut off: EOFError$"):
        decode.open_image(buffer.getvalue())

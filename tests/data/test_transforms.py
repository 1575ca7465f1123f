import io
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.torchvision_import import import_torchvision
from vision_jax import config as config_lib
from vision_jax.data import transforms
from vision_jax.data.transforms import RandomResizedCrop, ResizeCenterCrop


def picture(height, width, seed=0):
    """Smooth structure with some noise, like a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    noise = rng.normal(0, 4, (height, width, 3))
    return np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)


def jpeg(image, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def torchvision_transforms():
    return import_torchvision("torchvision.transforms")


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (40, 40), (64, 33)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_evaluation_equals_torchvision(torchvision_transforms, resize, crop, interpolation):
    t = torchvision_transforms
    reference = t.Compose([t.Resize(resize, t.InterpolationMode(interpolation)), t.CenterCrop(crop)])
    for shape in [(300, 451), (451, 300), (64, 64), (50, 37), (resize, resize + 1)]:
        image = picture(*shape)
        ours = ResizeCenterCrop(resize, crop, interpolation)({"image": image, "label": 3})
        assert ours["label"] == 3 and ours["image"].shape == (crop, crop, 3)
        np.testing.assert_array_equal(ours["image"], np.asarray(reference(Image.fromarray(image))))


def test_evaluation_of_a_file_equals_torchvision(torchvision_transforms):
    t = torchvision_transforms
    data = jpeg(picture(700, 900))
    reference = t.Compose([t.Resize(64), t.CenterCrop(56)])(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(ResizeCenterCrop(64, 56)({"image": data})["image"], np.asarray(reference))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equal_parts_give_torchvisions_pixels(torchvision_transforms, interpolation):
    t = torchvision_transforms
    transform = RandomResizedCrop(32, interpolation=interpolation)
    for seed in range(10):
        image = picture(70, 90, seed)
        part = transform.part(70, 90, np.random.default_rng(seed))
        reference = t.functional.resized_crop(
            Image.fromarray(image), *part, [32, 32], t.InterpolationMode(interpolation)
        )
        ours = transform({"image": image}, np.random.default_rng(seed))["image"]
        np.testing.assert_array_equal(ours, np.asarray(reference))


@pytest.mark.parametrize("shape", [(60, 80), (30, 300)])
def test_parts_are_distributed_as_torchvisions(torchvision_transforms, shape):
    """Two samples of 4,000 parts; their means differ by less than 5 standard errors in every coordinate."""
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    transform = RandomResizedCrop(8)
    blank = Image.new("L", shape[::-1])
    theirs = np.array(
        [torchvision_transforms.RandomResizedCrop.get_params(blank, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    )
    ours = np.array([transform.part(*shape, rng) for _ in range(4000)])
    for f in (lambda x: x, np.square, lambda x: np.log(x[:, 3] / x[:, 2])):
        a, b = f(ours), f(theirs)
        error = np.sqrt((a.var(0) + b.var(0)) / 4000) + 1e-9
        assert np.all(np.abs(a.mean(0) - b.mean(0)) < 5 * error)


def test_parts_keep_inside_and_the_last_resort_is_the_center():
    transform = RandomResizedCrop(8)
    for height, width in [(1, 1), (1, 50), (50, 1), (7, 9)]:
        rng = np.random.default_rng(0)
        for _ in range(200):
            top, left, h, w = transform.part(height, width, rng)
            assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h > 0 and w > 0
    whole = RandomResizedCrop(8, scale=(1.0, 1.0))
    assert whole.part(40, 200, np.random.default_rng(0)) == (0, 73, 40, 53)
    assert whole.part(200, 40, np.random.default_rng(0)) == (73, 0, 53, 40)


def test_draws_come_from_the_generator_alone():
    transform = pickle.loads(pickle.dumps(RandomResizedCrop(16)))
    image = picture(40, 50)
    first = [transform({"image": image}, np.random.default_rng(s))["image"] for s in (1, 2)]
    second = [transform({"image": image}, np.random.default_rng(s))["image"] for s in (1, 2)]
    np.testing.assert_array_equal(first, second)
    assert np.any(first[0] != first[1])
    assert first[0].dtype == np.uint8 and first[0].shape == (16, 16, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_decoded_at_a_fraction_looks_the_same(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(picture(960, 1280), exif=exif)
    sizes = []
    original = Image.Image.resize

    def spy(self, *args, **kwargs):
        sizes.append(self.size)
        return original(self, *args, **kwargs)

    for seed in range(5):
        exact = RandomResizedCrop(64, shrink=False)({"image": data}, np.random.default_rng(seed))["image"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image.Image, "resize", spy)
            fast = RandomResizedCrop(64)({"image": data}, np.random.default_rng(seed))["image"]
        difference = np.abs(exact.astype(int) - fast)
        assert difference.mean() < 1 and difference.max() < 16
    assert min(max(size) for size in sizes) <= 640  # some were decoded at half the size or less


def test_a_small_part_of_a_jpeg_keeps_its_pixels():
    data = jpeg(picture(256, 256))
    tiny = RandomResizedCrop(128, scale=(0.2, 0.2))
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    for seed in range(5):
        expected = tiny({"image": decoded}, np.random.default_rng(seed))["image"]
        np.testing.assert_array_equal(tiny({"image": data}, np.random.default_rng(seed))["image"], expected)


def test_gray_images_get_three_channels():
    gray = picture(20, 20)[..., :1]
    image = ResizeCenterCrop(10, 10)({"image": gray})["image"]
    assert image.shape == (10, 10, 3) and np.all(image[..., :1] == image)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="did you mean 'bilinear'"):
        ResizeCenterCrop(10, 10, "bilinea")
    with pytest.raises(ValueError, match="crop <= resize"):
        ResizeCenterCrop(resize=200, crop=224)
    for options in ({"scale": (0.5, 0.1)}, {"scale": (0, 1)}, {"ratio": (2, 1)}, {"interpolation": "cubic"}):
        with pytest.raises(ValueError, match=r"expected|none of"):
            RandomResizedCrop(8, **options)
    with pytest.raises(ValueError, match="at least one pixel"):
        RandomResizedCrop(0)
    with pytest.raises(ValueError, match=r"found float32 \(4, 4, 3\)"):
        ResizeCenterCrop(2, 2)({"image": np.zeros((4, 4, 3), np.float32)})


def test_short_side():
    assert transforms.resize_short_side(Image.new("RGB", (100, 51)), 20).size == (39, 20)
    assert transforms.resize_short_side(Image.new("RGB", (51, 100)), 20).size == (20, 39)


def test_parts_of_tiny_images_go_down_to_a_pixel():
    transform = RandomResizedCrop(8, scale=(0.1, 1.0))
    rng = np.random.default_rng(0)
    parts = {transform.part(2, 2, rng) for _ in range(300)}
    assert parts >= {(0, 0, 2, 2), (0, 0, 1, 1), (1, 1, 1, 1), (0, 1, 1, 1), (1, 0, 1, 1)}


def test_parts_reach_every_edge_and_the_whole():
    transform = RandomResizedCrop(8, scale=(0.5, 1.0))
    rng = np.random.default_rng(0)
    top, left, height, width = np.array([transform.part(9, 12, rng) for _ in range(2000)]).T
    assert top.min() == left.min() == 0 and (top + height).max() == 9 and (left + width).max() == 12
    assert ((height == 9) & (width == 12)).any()
    share, ratio = height * width / 108, width / height
    assert share.min() > 0.4 and ratio.min() > 0.65 and ratio.max() < 1.6  # Rounded to pixels.


def test_a_config_s_photos_are_cropped_at_random_or_in_the_center():
    config = config_lib.default().data
    config.update({"image_size": 0})
    assert transforms.for_config(config) == (None, None)
    config.update({"image_size": 56, "crop_fraction": 0.875, "interpolation": "bicubic", "train_crop": "center"})
    center = ResizeCenterCrop(resize=64, crop=56, interpolation="bicubic")
    assert transforms.for_config(config) == (center, center)
    config.train_crop = "random"
    assert transforms.for_config(config) == (RandomResizedCrop(56, interpolation="bicubic"), center)

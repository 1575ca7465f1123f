import numpy as np
import pytest

from vision_jax.data.sources import ArraySource, Source, Subset

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3, 1)


def test_arrays_and_parts_of_them_are_sources():
    source = ArraySource(IMAGES, np.array([4, 3, 2, 1, 0], np.int64))
    part = Subset(source, [3, 0, 3])
    for made, indices in ((source, range(5)), (part, (3, 0, 3)), (Subset(part, np.array([1])), (0,))):
        assert isinstance(made, Source) and len(made) == len(indices)
        assert made.labels.dtype == np.int32 and made.labels.tolist() == [4 - i for i in indices]
        for position, index in enumerate(indices):
            np.testing.assert_array_equal(made[position]["image"], IMAGES[index])
            assert made[position]["label"] == 4 - index


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[..., 0], np.zeros(5), r"found uint8 \(5, 2, 3\)"),
        (IMAGES.astype(np.float32), np.zeros(5), r"found float32 \(5, 2, 3, 1\)"),
        (IMAGES, np.zeros(4), r"float64 \(4,\)"),
        (IMAGES, np.zeros((5, 1)), r"float64 \(5, 1\)"),
    ],
)
def test_other_arrays_are_refused(images, labels, words):
    with pytest.raises(ValueError, match=words):
        ArraySource(images, labels)

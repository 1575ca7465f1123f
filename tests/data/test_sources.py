"""Arrays and parts of them as sources, and the fingerprint that tells what a split holds."""

import pickle
import re

import numpy as np
import pytest

from vision_jax.data import sources
from vision_jax.data.sources import ArraySource, Source, Subset


def arrays(size=6):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 4, 5, 3), dtype=np.uint8), np.arange(size) % 3


def test_equal_content_gives_equal_fingerprints(tmp_path):
    images, labels = arrays()
    expected = sources.fingerprint(ArraySource(images, labels))
    assert re.fullmatch("[0-9a-f]{64}", expected)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for same in (images.copy(), np.asfortranarray(images), mapped):
        assert sources.fingerprint(ArraySource(same, labels.astype(np.uint8))) == expected
    assert sources.fingerprint(pickle.loads(pickle.dumps(ArraySource(images, labels)))) == expected


def test_pieces_are_read_as_a_whole():
    images, labels = arrays(2500)
    seen = {sources.fingerprint(ArraySource(images, labels))}
    for i in (0, 1023, 1024, 2047, 2048, 2499):
        changed = images.copy()
        changed[i, -1, -1, -1] ^= 1
        seen.add(sources.fingerprint(ArraySource(changed, labels)))
    assert len(seen) == 7


def test_any_change_changes_the_fingerprint():
    images, labels = arrays()
    pixel, label = images.copy(), labels.copy()
    pixel[3, 2, 1, 0] ^= 1
    label[5] += 1
    sets = [
        (images, labels),
        (images[::-1], labels[::-1]),
        (images, labels[::-1]),
        (pixel, labels),
        (images, label),
        (images.reshape(6, 5, 4, 3), labels),
        (images[:5], labels[:5]),
    ]
    assert len({sources.fingerprint(ArraySource(*pair)) for pair in sets}) == len(sets)


def test_it_is_computed_once():
    source = ArraySource(*arrays())
    first = sources.fingerprint(source)
    source.images = None
    assert sources.fingerprint(source) == first


def test_a_subset_is_known_by_its_source_and_indices():
    source, again = ArraySource(*arrays()), ArraySource(*arrays())
    other = ArraySource(arrays()[0], arrays()[1][::-1])
    expected = sources.fingerprint(Subset(source, [4, 0, 2]))
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert sources.fingerprint(Subset(again, np.array([4, 0, 2], np.int32))) == expected
    others = [
        Subset(source, [0, 4, 2]),
        Subset(source, [4, 0]),
        Subset(source, []),
        Subset(other, [4, 0, 2]),
        Subset(Subset(source, [4, 0, 2]), [0, 1, 2]),
    ]
    assert len({expected, sources.fingerprint(source), *map(sources.fingerprint, others)}) == 2 + len(others)


class Unknown:
    labels = np.zeros(2, np.int32)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"image": np.zeros((4, 4, 3), np.uint8), "label": self.labels[index]}


@pytest.mark.parametrize("source", [Unknown(), Subset(Unknown(), [1])])
def test_a_source_that_cannot_tell_says_so(source):
    with pytest.raises(ValueError, match=r"Unknown has no `fingerprint`.*give it that attribute"):
        sources.fingerprint(source)


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

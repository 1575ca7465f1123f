"""Order, sharding over processes, resident and streamed batches, padding of evaluation."""

import itertools
import os

import jax
import numpy as np
import pytest

from vision_jax import parallel
from vision_jax.data import pipeline, sources


def source(examples=10, size=4):
    images = np.arange(examples * size * size, dtype=np.uint8).reshape(examples, size, size, 1)
    return sources.ArraySource(images, np.arange(examples) % 3)


class Decoded:
    """Like a folder of files: no arrays, examples are made one by one."""

    def __init__(self, arrays):
        self.arrays = arrays

    @property
    def labels(self):
        return self.arrays.labels

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        return self.arrays[index]


def jitter(example, generator):
    return {**example, "image": example["image"] + generator.integers(0, 100, dtype=np.uint8)}


def test_each_epoch_is_another_permutation_and_batches_cross_its_end():
    order = pipeline.Order(10, seed=3)
    stream = order(np.arange(30))
    epochs = stream.reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    np.testing.assert_array_equal(order(np.arange(8, 12)), stream[8:12])
    assert not np.array_equal(pipeline.Order(10, seed=4)(np.arange(10)), epochs[0])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_hold_the_rows_of_one_global_batch_in_order(processes):
    whole = pipeline.Rows(8, 0, 1).positions(5)
    parts = [pipeline.Rows(8, process, processes).positions(5) for process in range(processes)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def take(loader, count, **kwargs):
    stream = loader.train(4, seed=1, **kwargs)
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def test_what_is_not_asked_for_is_not_put_on_the_device(monkeypatch):
    put = pipeline.parallel.put_replicated
    placed = []
    monkeypatch.setattr(pipeline.parallel, "put_replicated", lambda *a: placed.append(a) or put(*a))
    loader = pipeline.Loader(source(), parallel.make_mesh())
    mapped = loader.mapped_once(lambda images: images.reshape(len(images), -1).astype(np.float32), 4)
    assert not placed
    assert mapped.data["image"].ndim == 2 and mapped.data is mapped.data and len(placed) == 1
    assert loader.data["image"].ndim == 4


def test_resident_and_streamed_batches_are_the_same():
    mesh = parallel.make_mesh()
    resident = pipeline.Loader(source(), mesh, on_device="always")
    streamed = pipeline.Loader(source(), mesh, on_device="never")
    assert resident.resident and not streamed.resident and streamed.data == {}
    gather = jax.jit(pipeline.gather)
    for indices, batch in zip(take(resident, 7), take(streamed, 7), strict=True):
        assert set(indices) == {"index"}
        rows = gather(resident.data, indices)
        assert set(rows) == set(batch) == {"image", "label", "index"}
        for name in batch:
            assert rows[name].dtype == batch[name].dtype
            np.testing.assert_array_equal(rows[name], batch[name])


def test_auto_keeps_small_arrays_on_the_device_and_files_never(monkeypatch):
    mesh = parallel.make_mesh()
    assert pipeline.Loader(source(), mesh).resident
    assert not pipeline.Loader(Decoded(source()), mesh).resident
    monkeypatch.setattr(pipeline, "RESIDENT_LIMIT", 100)
    assert not pipeline.Loader(source(), mesh).resident
    with pytest.raises(ValueError, match="on_device='always' needs images of one size in memory"):
        pipeline.Loader(Decoded(source()), mesh, on_device="always")


def test_images_in_arrays_are_resized_where_asked():
    def double(example, generator):
        return {**example, "image": example["image"].repeat(2, 0).repeat(2, 1)}

    loader = pipeline.Loader(source(), parallel.make_mesh(), train_transform=double, eval_transform=double)
    assert not loader.resident
    assert take(loader, 1)[0]["image"].shape == next(iter(loader.evaluation(4)))["image"].shape == (4, 8, 8, 1)


def test_a_stream_continues_from_any_batch_with_any_number_of_workers():
    mesh = parallel.make_mesh()
    whole = take(pipeline.Loader(Decoded(source()), mesh, train_transform=jitter), 6)
    assert any(not np.array_equal(a["image"], b["image"]) for a, b in itertools.pairwise(whole))
    for workers in (0, 2):
        loader = pipeline.Loader(Decoded(source()), mesh, train_transform=jitter, workers=workers)
        for old, new in zip(whole[3:], take(loader, 3, start=3), strict=True):
            for name in old:
                np.testing.assert_array_equal(old[name], new[name])


def test_streamed_order_is_that_of_arrays():
    mesh = parallel.make_mesh()
    arrays = take(pipeline.Loader(source(), mesh, on_device="never"), 5)
    files = take(pipeline.Loader(Decoded(source()), mesh), 5)
    for one, other in zip(arrays, files, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


@pytest.mark.devices(4)
@pytest.mark.parametrize("examples", [1, 7, 8, 13])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_evaluation_covers_each_example_once_at_any_size(examples, batch_size):
    loader = pipeline.Loader(source(examples), parallel.make_mesh(), on_device="never")
    seen = []
    for batch in loader.evaluation(batch_size):
        assert len(batch["mask"]) % 4 == 0 and len(batch["mask"]) == len(batch["image"])
        seen += [int(image[0, 0, 0]) for image, real in zip(batch["image"], batch["mask"], strict=True) if real]
    assert seen == [i * 16 % 256 for i in range(examples)]


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
def test_a_gibibyte_of_images_is_kept_on_the_device_and_no_byte_more(monkeypatch, extra, fits):
    placed = []
    monkeypatch.setattr(parallel, "put_replicated", lambda arrays, mesh: placed.append(arrays) or arrays)
    images = np.broadcast_to(np.uint8(0), (2**20 + extra, 32, 32, 1))  # As large as it says, held in one byte.
    loader = pipeline.Loader(sources.ArraySource(images, np.zeros(len(images))), parallel.make_mesh())
    assert loader.resident == fits and bool(loader.data) == fits and len(placed) == fits
    assert set(loader.arrays) == {"image", "label"}


def test_images_mapped_once_are_those_of_the_function_and_keep_their_labels():
    loader = pipeline.Loader(source(11), parallel.make_mesh(), on_device="always")
    calls = []

    def double(images):
        calls.append(len(images))
        return images[:, ::2].astype(np.float32) * 2

    mapped = loader.mapped_once(double, 4)
    assert calls == [4, 4, 4] and mapped.resident and mapped.source is loader.source
    expected = loader.source.images[:, ::2].astype(np.float32) * 2
    np.testing.assert_array_equal(mapped.data["image"], expected)
    np.testing.assert_array_equal(mapped.data["label"], loader.source.labels)
    assert loader.arrays["image"].dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in mapped.evaluation(6)])[:11], expected)


def test_rows_and_examples_of_a_stream_have_no_end():
    rows = pipeline.Rows(8, 1, 2)
    assert rows.local == 4 and rows.positions(3).tolist() == [28, 29, 30, 31]
    batches = pipeline._Batches(lambda numbers: {"number": numbers}, pipeline.Order(10, 0), rows, 5)
    examples = pipeline._Examples(source(), None, pipeline.Order(10, 0), rows, 5)
    assert len(batches) > 2**60 and len(examples) > 2**60
    expected = pipeline.Order(10, 0)(np.arange(52, 56))  # Batch 6.
    assert batches[1]["number"].tolist() == expected.tolist()
    assert [int(examples[4 + i]["label"]) for i in range(4)] == [number % 3 for number in expected]


def test_each_position_of_a_stream_draws_for_itself():
    drawn = []

    def note(example, generator):
        drawn.append(int(generator.integers(2**40)))
        return example

    examples = pipeline._Examples(Decoded(source()), note, pipeline.Order(10, 3), pipeline.Rows(4, 0, 1), 2)
    for number in (0, 1, 10, 0):
        examples[number]
    assert drawn[0] == drawn[3] and len(set(drawn)) == 3
    np_draw = np.random.Generator(np.random.Philox(key=[3, 8])).integers(2**40)
    assert drawn[0] == int(np_draw)


def test_files_are_evaluated_as_they_are_where_no_transform_is_given():
    mesh = parallel.make_mesh()
    files, arrays = (pipeline.Loader(made, mesh, on_device="never") for made in (Decoded(source()), source()))
    for one, other in zip(files.evaluation(4), arrays.evaluation(4), strict=True):
        assert set(one) == set(other) == {"image", "label", "mask"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def stamp(example, generator):
    return {**example, "label": np.int32(os.getpid())}


@pytest.mark.parametrize(("workers", "elsewhere"), [(0, False), (1, True)])
def test_workers_are_other_processes(workers, elsewhere):
    loader = pipeline.Loader(Decoded(source()), parallel.make_mesh(), train_transform=stamp, workers=workers)
    (batch,) = take(loader, 1)
    assert (os.getpid() not in batch["label"]) == elsewhere


def test_arrays_are_not_copied_into_workers(monkeypatch):
    monkeypatch.setattr(pipeline.grain, "MultiprocessingOptions", lambda **_: pytest.fail("processes were started"))
    loader = pipeline.Loader(source(), parallel.make_mesh(), on_device="never", workers=2)
    expected = pipeline.Loader(source(), parallel.make_mesh(), on_device="never")
    np.testing.assert_array_equal(take(loader, 1)[0]["image"], take(expected, 1)[0]["image"])

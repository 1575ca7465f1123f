"""From a random-access source to batches on the device, the same for every number of processes and workers.

The order of training is a function of seed, number of examples and position alone: epoch `e` is the permutation drawn
from Philox(seed, e), epochs follow each other without gap or repetition, and batch `t` holds the positions
`t * batch_size` onwards. Process `p` of `P` loads the `p`-th part of the rows of each global batch. Since a batch can
be computed from its number, the state of the input is that number: it resumes with other workers or processes too.

Small training sets live on the device as uint8 (`Loader.resident`); then only indices cross, in the very same order.
"""

import concurrent.futures
import copy
import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from vision_jax import parallel
from vision_jax.data import sources
from vision_jax.utils.options import ConfigError

RESIDENT_LIMIT = 1 << 30  # Bytes of uint8 images that 'auto' keeps on the device.
Batch = dict[str, Any]
HostTransform = Callable[[sources.Example, np.random.Generator], sources.Example]


class Order:
    """The order of the training examples; `order(positions)` gives the example number at each position.

    Args:
        examples: size of the split.
        seed: of the permutations, one per epoch.
    """

    def __init__(self, examples: int, seed: int):
        self.examples, self.seed = examples, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def _permutation_of(self, epoch: int) -> np.ndarray:
        held, permutation = self._epoch, self._permutation  # Read once: loader threads share this object.
        if held != epoch:
            permutation = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.examples)
            self._permutation, self._epoch = permutation, epoch
        return permutation

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Example numbers at `positions`, which may span epochs; both are int64 [N]."""
        epochs, offsets = np.divmod(positions, self.examples)
        numbers = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            numbers[chosen] = self._permutation_of(int(epoch))[offsets[chosen]]
        return numbers


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which positions this process loads: its part of the rows of every global batch."""

    batch_size: int
    process: int
    processes: int

    @property
    def local(self) -> int:
        """Rows per batch in this process."""
        return self.batch_size // self.processes

    def positions(self, batch: int) -> np.ndarray:
        """Global positions of this process's rows of batch number `batch`, int64 [local]."""
        start = batch * self.batch_size + self.process * self.local
        return np.arange(start, start + self.local)


class _Batches:
    """Batch number -> whole batch, for sources whose examples lie in arrays."""

    def __init__(self, load: Callable[[np.ndarray], Batch], order: Order, rows: Rows, start: int):
        self.load, self.order, self.rows, self.start = load, order, rows, start

    def __len__(self) -> int:
        return sys.maxsize - self.start

    def __getitem__(self, number: int) -> Batch:
        indices = self.order(self.rows.positions(self.start + number))
        return {**self.load(indices), "index": indices.astype(np.int32)}


class _Examples:
    """Row number of this process -> one decoded and transformed example; Grain batches them."""

    def __init__(self, source: sources.Source, transform: HostTransform | None, order: Order, rows: Rows, start: int):
        self.source, self.transform, self.order, self.rows, self.start = source, transform, order, rows, start

    def __len__(self) -> int:
        return sys.maxsize - self.start * self.rows.local

    def __getitem__(self, number: int) -> sources.Example:
        batch, row = divmod(number, self.rows.local)
        position = self.rows.positions(self.start + batch)[row]
        index = int(self.order(position[None])[0])
        example = self.source[index]
        if self.transform is not None:
            generator = np.random.Generator(np.random.Philox(key=[self.order.seed, int(position)]))
            example = self.transform(example, generator)
        return {**example, "index": np.int32(index)}


class Loader:
    """The training and evaluation batches of one split.

    Attributes:
        split: its name, where the batches are of a data set's.
        data: arrays that live on the device and that compiled programs take beside the batch; `{}` if none.
        resident: whether there are such.
    """

    def __init__(
        self,
        source: sources.Source,
        mesh: Mesh,
        *,
        on_device: str = "auto",
        train_transform: HostTransform | None = None,
        eval_transform: HostTransform | None = None,
        workers: int = 0,
        prefetch: int = 2,
        split: str = "",
    ):
        self.split = split
        self.source, self.mesh, self.workers, self.prefetch = source, mesh, workers, prefetch
        self.on_device = on_device
        self.train_transform, self.eval_transform = train_transform, eval_transform
        arrays = {}
        # Whole batches can be taken from arrays, unless each image is to be resized first.
        if isinstance(source, sources.ArraySource) and train_transform is None:
            arrays = {"image": source.images, "label": source.labels}
        elif on_device == "always":
            raise ValueError(
                "config.data.on_device='always' needs images of one size in memory; these are read from files or "
                "resized. Use 'auto' or 'never'."
            )
        self._place(arrays)

    def _place(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes batches from `arrays` (if any), which go to the device where they should and fit."""
        self.arrays = arrays
        fits = arrays and arrays["image"].nbytes <= RESIDENT_LIMIT
        self.resident = bool(self.on_device == "always" or (self.on_device == "auto" and fits))
        self.__dict__.pop("data", None)  # Of the arrays before.

    @functools.cached_property
    def data(self) -> Batch:
        """The arrays on the device, put there when they are first asked for: a task may make others of them."""
        return parallel.put_replicated(self.arrays, self.mesh) if self.resident else {}

    def mapped_once(self, function: Callable[[jax.Array], jax.Array], batch_size: int, name: str = "image") -> "Loader":
        """Returns a loader whose entry `name` is `function` of the images (evaluation transform), computed now.

        Args:
            function: images uint8 [B, H, W, C] on the device -> array [B, ...].
            batch_size: images per call.
            name: 'image' replaces the images; anything else stands beside them.

        Raises:
            ConfigError: an entry beside images that are not in memory.
        """
        if name != "image" and not self.arrays:
            raise ConfigError(f"{name!r} can stand beside images in memory only; these are read from files or resized.")
        rows: list[np.ndarray] = []
        for batch in self.evaluation(batch_size):
            images = parallel.put_split(batch["image"], self.mesh)
            rows.append(parallel.gather_to_host(function(images))[: len(self.source) - sum(map(len, rows))])
        mapped = copy.copy(self)
        mapped._place({"label": self.source.labels, **self.arrays, name: np.concatenate(rows)})
        return mapped

    def train(self, batch_size: int, seed: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yields this process's rows of batch `start`, `start + 1`, … without end, as host arrays.

        'index' is the number of each example in the split; alone where the arrays live on the device.
        """
        rows = Rows(batch_size, jax.process_index(), jax.process_count())
        order = Order(len(self.source), seed)
        if self.resident:  # Nothing to load, and Grain's threads would cost more than the numbers.
            for number in itertools.count(start):
                yield {"index": order(rows.positions(number)).astype(np.int32)}
        in_memory = bool(self.arrays)
        workers = 0 if in_memory else self.workers  # Arrays would be copied into every worker.
        if in_memory:
            dataset = grain.MapDataset.source(_Batches(self._rows, order, rows, start))
        else:
            examples = _Examples(self.source, self.train_transform, order, rows, start)
            dataset = grain.MapDataset.source(examples).batch(rows.local)
        threads = 1 if in_memory or workers else min(os.cpu_count() or 1, 16)  # Of which each makes a whole batch.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(self.prefetch, threads))
        stream = dataset.to_iter_dataset(options)
        if workers:
            _let_grain_read_its_flags()
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=self.prefetch)
            )
        iterator = iter(stream)
        try:
            for batch in iterator:
                if workers:  # They hand over shared memory, which must not outlive them, here or in a device array.
                    batch = {name: np.array(array) for name, array in batch.items()}
                yield batch
        finally:
            iterator.close()

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """Yields this process's rows of the split in order, the last batch padded; 'mask' is 1 for real examples.

        `batch_size` is rounded up to a multiple of the devices, so that every size works.
        """
        batch_size = -(-batch_size // self.mesh.size) * self.mesh.size
        rows = Rows(batch_size, jax.process_index(), jax.process_count())
        for number in range(-(-len(self.source) // batch_size)):
            positions = rows.positions(number)
            mask = positions < len(self.source)
            indices = np.where(mask, positions, 0)
            yield {**self._rows(indices), "mask": mask.astype(np.float32)}

    def _rows(self, indices: np.ndarray) -> Batch:
        """The examples at `indices` as host arrays, photos in their evaluation transform."""
        if self.arrays:
            return {name: array[indices] for name, array in self.arrays.items()}

        def example_at(index: int) -> sources.Example:
            example = self.source[int(index)]
            return self.eval_transform(example, np.random.default_rng(0)) if self.eval_transform else example

        with concurrent.futures.ThreadPoolExecutor() as pool:  # Decoding releases Python's lock.
            examples = list(pool.map(example_at, indices))
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def gather(data: Batch, batch: Batch) -> Batch:
    """Inside a compiled program: the batch itself, or its rows of the resident arrays `data`; both with 'index'."""
    return {name: array[batch["index"]] for name, array in data.items()} | batch


def _let_grain_read_its_flags() -> None:
    """Grain's workers read absl flags, which nobody parsed in a test or a notebook: lets it see their defaults."""
    if not flags.FLAGS.is_parsed():
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = True

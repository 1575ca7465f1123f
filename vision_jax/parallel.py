"""Processes, devices and shardings; the only file that knows how devices are laid out.

A step is one `jax.jit` program over a one-axis `Mesh` named 'data': parameters are replicated, the batch is split over
its leading axis, and XLA inserts the collectives. The same program therefore serves one CPU, the GPUs of a machine and
several processes, and a mean over the batch (a loss, a BatchNorm statistic) is a mean over the global batch.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax.utils import relay, trees

Tree = Any
Rule = Callable[[str, Any], PartitionSpec]


def keep_programs(folder: pathlib.Path) -> None:
    """Keeps what takes 0.1 s or more to compile in a folder, for this process and others."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        coordinator: 'host:port' of process 0; empty where this process is the whole run.
        count: how many there are.
        index: of this one.
        devices: those of its machine that this process uses; None takes all.
    """

    coordinator: str = ""
    count: int = 1
    index: int = 0
    devices: Sequence[int] | None = None


def processes(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> Processes:
    """Returns the processes of a run as the command line names them.

    Args:
        coordinator: 'host:port' of process 0; 'auto' asks the cluster (SLURM, Kubernetes, TPU, Open MPI).
            Empty starts nothing: this process is the whole run.
        num_processes: how many processes make up the run (not needed with 'auto').
        process_id: which of them this one is, from 0 (not needed with 'auto').
    """
    if coordinator == "auto":
        from jax._src.clusters import ClusterEnv  # What `jax.distributed.initialize()` asks, which keeps the answer.

        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, 300
        )
        if address is None or count is None or index is None:
            raise ValueError("--coordinator=auto found no cluster; name process 0 with --coordinator=HOST:PORT.")
        return Processes(address, count, index, devices)
    if not coordinator:
        return Processes()
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ValueError(
            f"--coordinator={coordinator} needs --num_processes above 0 and --process_id from 0 to "
            f"num_processes - 1; found {num_processes} and {process_id}."
        )
    return Processes(coordinator, num_processes, process_id)


@contextlib.contextmanager
def joined(run: Processes, lost_after: float) -> Iterator[None]:
    """Within the context this process is joined to the others of its run, without an error it ends when all do.

    Enter it before anything else touches a device. JAX aborts processes that have lost process 0, and all when it
    misses one: of the former they are kept by a relay, of the latter by more patience than `vision_jax.peers` has.

    Args:
        run: the processes.
        lost_after: that patience, in seconds; they may start five times as far apart.
    """
    jax.config.update("jax_enable_preemption_service", False)  # Its handler of SIGTERM would take the place of ours.
    if not run.coordinator:
        yield
        return
    address = relay.start(run.coordinator) if run.index else run.coordinator
    jax.distributed.initialize(
        address,
        run.count,
        run.index,
        run.devices,
        initialization_timeout=math.ceil(6 * lost_after),
        heartbeat_timeout_seconds=100 + math.ceil(2 * lost_after),
    )
    yield
    jax.distributed.shutdown()


def make_mesh(devices: int | None = None) -> Mesh:
    """Returns the mesh over all devices of all processes (or the first `devices`), axis 'data'."""
    return Mesh(np.asarray(jax.devices()[:devices]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Axis number `axis` split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def whole(path: str, leaf: Any) -> PartitionSpec:
    """The rule by which every device holds every array whole."""
    del path, leaf
    return PartitionSpec()


def shardings(shapes: Tree, mesh: Mesh, rule: Rule = whole) -> Tree:
    """Returns how the arrays of a tree lie on the devices, in the tree's structure.

    Args:
        shapes: arrays, or shapes and types.
        mesh: the devices.
        rule: path of a leaf ('networks/model/params/…') and the leaf -> which axes are split.
    """
    leaves = [NamedSharding(mesh, rule(path, leaf)) for path, leaf in trees.flatten(shapes).items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def check_batch_size(batch_size: int, mesh: Mesh, option: str) -> None:
    """Raises `ValueError` unless `batch_size` divides evenly over the devices of the mesh."""
    if batch_size % mesh.size:
        lower = batch_size // mesh.size * mesh.size
        nearest = f"{lower} or {lower + mesh.size}" if lower else str(mesh.size)
        raise ValueError(
            f"{option}={batch_size} cannot be split evenly over {mesh.size} devices "
            f"({jax.process_count()} processes); use {nearest}."
        )


def put_split(tree: Tree, mesh: Mesh, axis: int = 0) -> Tree:
    """Puts this process's rows of a batch on its devices; together the processes' rows are one global array."""
    sharding = split(mesh, axis)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), tree)


def put(tree: Tree, shardings: Tree) -> Tree:
    """Puts host arrays, which every process holds whole, on the devices.

    Args:
        tree: of arrays.
        shardings: one for all of them, or a tree of the same structure.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, tree)

    def put_one(array: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put_one, tree, shardings)


def put_replicated(tree: Tree, mesh: Mesh) -> Tree:
    """Puts the same host arrays, which every process holds, whole on every device."""
    return put(tree, replicated(mesh))


def zeros(shapes: Tree, mesh: Mesh) -> Tree:
    """Returns zeros of `shapes`, whole on every device."""
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(structure, _zeros(tuple((leaf.shape, leaf.dtype) for leaf in leaves), mesh)())


@functools.lru_cache(maxsize=64)
def _zeros(leaves: tuple[tuple[tuple[int, ...], jnp.dtype], ...], mesh: Mesh) -> Callable[[], list[jax.Array]]:
    """Returns the program that makes them; kept, because sums start anew at every log step and evaluation."""
    return jax.jit(lambda: [jnp.zeros(shape, dtype) for shape, dtype in leaves], out_shardings=replicated(mesh))


def to_host(tree: Tree) -> Tree:
    """Returns arrays that every device holds whole as NumPy arrays; the one place where a run waits for the device.

    Raises:
        ValueError: an array is split over devices, so that no process sees all of it.
    """

    def local(array: jax.Array) -> jax.Array:
        if not array.is_fully_replicated:
            raise ValueError(f"An array of {array.shape} is split over devices: {array.sharding}.")
        return array.addressable_data(0)

    return jax.device_get(jax.tree.map(local, tree))


def all_processes(condition: bool) -> bool:
    """Returns whether `condition` holds in every process; all of them must call it."""
    if jax.process_count() == 1:
        return condition
    return bool(np.all(multihost_utils.process_allgather(np.asarray(condition))))


def put_replicated_key(seed: int, mesh: Mesh) -> jax.Array:
    """Returns `jax.random.key(seed)` on every device."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=replicated(mesh))()


def gather_to_host(array: jax.Array) -> np.ndarray:
    """Returns an array split over devices (of all processes) as one NumPy array in every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))

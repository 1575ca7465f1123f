"""One device, four devices and two processes of two devices compute the same."""

import os
import socket
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests import blank_pages, forked_commands
from vision_jax import parallel, train, writers
from vision_jax import run as run_lib
from vision_jax.analysis.record import Record

OPTIONS = {
    "train.epochs": 0.0,
    "train.steps": 20,
    "train.steps_per_dispatch": 1,
    "log.every_epochs": 0.0,
    "log.every_steps": 1,
    "log.tensorboard": False,
    "eval.every_epochs": 0.0,
    "eval.every_steps": 20,
    "data.batch_size": 24,
    "data.eval_batch_size": 30,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.02,
    "schedule.warmup_epochs": 0.0,
}


def losses(workdir):
    rows = writers.read_rows(workdir / "metrics.jsonl")
    outputs = Record(workdir).outputs("test")
    return np.array([row["train/loss"] for row in rows if "train/loss" in row]), rows[-1], outputs


def train_here(load_config, workdir):
    config = load_config("digits_cnn:smoke")  # BatchNorm, dropout and augmentation.
    for name, value in OPTIONS.items():
        section, option = name.split(".")
        config[section][option] = value
    with run_lib.build(config, workdir) as run:
        train.train(run)
    return losses(workdir)


@pytest.fixture(scope="module")
def one_device(load_config, tmp_path_factory):
    # A fixture of the module runs before the marks of a test apply, so the mesh is made by hand.
    make_mesh = parallel.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", lambda devices=None: make_mesh(1))
        blank_pages.use(patch)
        return train_here(load_config, tmp_path_factory.mktemp("one"))


def check_same(one, other):
    assert len(one[0]) == len(other[0]) == 20
    np.testing.assert_allclose(other[0], one[0], rtol=1e-5)
    assert one[1]["val/accuracy"] == other[1]["val/accuracy"]
    assert other[1]["val/loss"] == pytest.approx(one[1]["val/loss"], rel=1e-5)
    assert other[2].keys() == one[2].keys() >= {"index", "label", "logits", "features"}
    for name, kept in one[2].items():
        np.testing.assert_allclose(other[2][name], kept, rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(other[2]["index"], np.arange(200))


@pytest.mark.usefixtures("no_page")
@pytest.mark.devices(4)
def test_four_devices_agree_with_one(one_device, load_config, tmp_path):
    check_same(one_device, train_here(load_config, tmp_path))


@pytest.mark.usefixtures("no_page")
def test_two_processes_of_two_devices_agree_with_one(one_device, repository, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"  # The last one counts.
    environment = os.environ | {"XLA_FLAGS": flags}
    overrides = [f"--config.{name}={value}" for name, value in OPTIONS.items()]
    processes = [
        forked_commands.Popen(
            [
                sys.executable,
                "-m",
                "vision_jax.main",
                f"--config={repository}/configs/digits_cnn.py:smoke",
                f"--workdir={tmp_path}",
                f"--coordinator=127.0.0.1:{port}",
                "--num_processes=2",
                f"--process_id={i}",
                *overrides,
            ],
            env=environment,
            cwd=tmp_path,
        )
        for i in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    check_same(one_device, losses(tmp_path))
    assert "Report:" in outputs[0][0] and "Report:" not in outputs[1][0]


@pytest.mark.devices(4)
def test_a_batch_that_does_not_divide_is_refused_with_the_numbers(load_config, tmp_path):
    config = load_config("digits_cnn:smoke")
    config.data.batch_size = 30
    with pytest.raises(ValueError, match=r"data\.batch_size=30 .* 4 devices \(1 processes\); use 28 or 32"):
        run_lib.build(config, tmp_path)


def test_processes_are_those_of_the_command_line():
    assert parallel.processes() == parallel.Processes("", 1, 0)
    assert parallel.processes("localhost:1", 2, 1) == parallel.Processes("localhost:1", 2, 1)
    with pytest.raises(ValueError, match="needs --num_processes above 0"):
        parallel.processes("localhost:1", 2, 2)
    with pytest.raises(ValueError, match="found no cluster"):
        parallel.processes("auto")


def test_a_rule_says_how_arrays_lie_and_only_whole_ones_are_read_from_one_device():
    mesh = parallel.make_mesh(4)
    tree = {"a": {"kernel": np.arange(16.0, dtype=np.float32).reshape(4, 4)}, "b": np.ones(4, np.float32)}

    def rule(path, leaf):
        return PartitionSpec(None, "data") if path == "a/kernel" and leaf.ndim == 2 else PartitionSpec()

    shardings = parallel.shardings(tree, mesh, rule)
    put = parallel.put(tree, shardings)
    assert put["a"]["kernel"].addressable_data(0).shape == (4, 1) and put["b"].is_fully_replicated
    np.testing.assert_array_equal(parallel.gather_to_host(put["a"]["kernel"]), tree["a"]["kernel"])
    np.testing.assert_array_equal(parallel.to_host(put["b"]), tree["b"])
    with pytest.raises(ValueError, match=r"An array of \(4, 4\) is split over devices"):
        parallel.to_host(put)
    whole = parallel.put(tree, parallel.shardings(tree, mesh))
    np.testing.assert_array_equal(parallel.to_host(whole)["a"]["kernel"], tree["a"]["kernel"])
    abstract = jax.eval_shape(lambda: whole)
    assert jax.tree.structure(parallel.shardings(abstract, mesh)) == jax.tree.structure(tree)


def test_put_split_and_back():
    mesh = parallel.make_mesh(4)
    rows = {"x": np.arange(8, dtype=np.float32)}
    put = parallel.put_split(rows, mesh)
    assert len(put["x"].addressable_shards) == 4
    total = jax.jit(lambda x: x.sum(), out_shardings=parallel.replicated(mesh))(put["x"])
    assert parallel.to_host(total) == 28.0

"""Settings of all tests: strict JAX, no network, warnings are errors, and where real data is found."""

import gc
import importlib.metadata
import importlib.util
import os
import pathlib
import socket
import subprocess
import sys

# Before JAX starts, here and in processes of tests. Most programs run once: XLA's optimizations, and its emitters of
# fusions, would take more time than they save.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 --xla_cpu_parallel_codegen_split_count=1"
    # Later versions have no other emitters.
    + (" --xla_cpu_use_fusion_emitters=false" if importlib.metadata.version("jax").startswith("0.10.") else ""),
)
# Else each process of a test compiles all that it imports: seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # Or PyTorch's idle threads keep the other process from its core.

import hypothesis
import jax
import pytest

from vision_jax import parallel

gc.set_threshold(100_000, 50, 100)  # Tracing makes millions of objects, and hardly a cycle of them.
jax.config.update("jax_numpy_dtype_promotion", "strict")
# The first example of a test compiles; how long that takes is nobody's business here.
# The same examples in every run; HYPOTHESIS_SEARCH=1 looks for new ones.
hypothesis.settings.register_profile(
    "here", deadline=None, print_blob=True, derandomize=os.environ.get("HYPOTHESIS_SEARCH") != "1"
)
hypothesis.settings.load_profile("here")

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

# `-m quick`: for each package below vision_jax (and "" for the files beside them) whole files of tests, or single tests
# of a file. About a second each at most, so that all of them take a minute and a half at most on two cores.
QUICK = {
    "": (
        "test_cli.py",
        "test_config.py",
        "test_configs.py::test_one_step_fits_the_data_and_the_published_size",
        "test_environment.py",
        "test_main.py::test_help_explains_the_flags",
        "test_optim.py::test_rules_are_pytorch_s_with_decay_on_kernels_alone",
        "test_parallel.py::test_put_split_and_back",
        "test_parallel.py::test_processes_are_those_of_the_command_line",
        "test_progress.py",
        "test_quick.py",
        "test_train.py::test_the_state_that_is_restored_is_what_was_saved",
    ),
    "analysis": (
        "analysis/test_centroids.py",
        "analysis/test_embeddings.py",
        "analysis/test_errors.py",
        "analysis/test_record.py",
    ),
    "checkpoints": ("test_checkpoints.py",),
    "data": (
        "data/test_cached.py",
        "data/test_decode.py",
        "data/test_folder.py",
        "data/test_patches.py",
        "data/test_splits.py",
        "data/test_transforms.py",
    ),
    "data/augment": (
        "data/augment/test_reference.py",
        "data/augment/test_registry.py::test_every_operation_keeps_shape_type_and_range",
        "data/augment/test_registry.py::test_wrong_specifications_are_refused_with_the_valid_ones",
    ),
    "data/inspect": (
        "data/inspect/test_near_duplicates.py::test_groups_are_chains_in_the_order_of_the_splits",
        "data/inspect/test_survey.py::test_channel_statistics_of_arrays",
        "data/inspect/test_survey.py::test_duplicates",
        "data/inspect/test_survey.py::test_sizes",
    ),
    "data/prepare": ("data/prepare/test_archives.py", "data/prepare/test_formats.py", "data/prepare/test_matlab.py"),
    "inference": (
        "inference/test_generator.py",
        "tools/test_upscale.py::test_tiles_cover_every_pixel_once_with_their_margin",
    ),
    "metrics": (
        "metrics/test_classification.py",
        "metrics/test_diversity.py",
        "metrics/test_frechet.py",
        "metrics/test_image_quality.py",
        "metrics/test_intervals.py",
        "metrics/test_memorization.py",
        "metrics/test_receipt.py",
        "metrics/test_words.py",
    ),
    "models": ("models/test_layers.py", "models/test_registry.py::test_classifiers_have_a_head_of_the_asked_width"),
    "ops": ("ops/test_pooling.py", "ops/test_resize.py", "ops/test_updates.py"),
    "ops/native": ("ops/test_onednn.py::test_one_device_calls_it_and_several_do_not",),
    "pretrained": (
        "pretrained/test_torch_writer.py",
        "pretrained/test_weights.py",
    ),
    "report": ("report/test_page.py", "report/test_super_resolution.py"),
    "tasks": (
        "tasks/test_classification.py",
        "tasks/test_classification_losses.py",
        "tasks/test_views.py",
        "tasks/test_super_resolution.py::test_a_step_lowers_the_loss_of_its_batch",
    ),
    "tools": ("tools/test_predict.py", "tools/test_prepare_data.py", "tools/test_show_augment.py"),
    "utils": ("utils/test_download.py", "utils/test_files.py", "utils/test_trees.py"),
    "writers": ("test_writers.py",),
}
# Tests of those files that take several seconds.
NOT_QUICK = (
    "tasks/test_classification.py::test_images_grow_during_training",
    "test_writers.py::test_tensorflow_starts_silently",
    "tools/test_predict.py::test_the_command",
)
_LOOPBACK = ("127.", "::1", "localhost")


def pytest_ignore_collect(collection_path, config):
    """With `-m quick` leaves out files without a quick test: some import PyTorch, seconds of a minute and a half."""
    files = {name.partition("::")[0] for names in QUICK.values() for name in names}
    if config.option.markexpr == "quick" and collection_path.match("test_*.py"):
        return collection_path.relative_to(REPOSITORY / "tests").as_posix() not in files or None
    return None


def pytest_collection_modifyitems(items):
    """Marks the tests of the tables above."""
    quick = {name for names in QUICK.values() for name in names}
    for item in items:
        file = item.path.relative_to(REPOSITORY / "tests").as_posix()
        test = f"{file}::{item.originalname}"
        if {file, test} & quick and test not in NOT_QUICK and not item.get_closest_marker("full"):
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Connections to anything but this machine fail at once."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
            raise OSError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """No test touches the user's caches; equal programs are compiled once, by whichever process comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    home = base / "vision_jax_home"
    home.mkdir()
    for kind in ("compilation", "ops"):
        (shared / kind).mkdir(parents=True, exist_ok=True)
        (home / kind).symlink_to(shared / kind)
    parallel.keep_programs(shared / "compilation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISION_JAX_HOME", str(home))
        yield


@pytest.fixture(autouse=True)
def _devices(request, monkeypatch):
    """Runs use one of the four virtual devices, or as many as the mark `devices(n)` says."""
    mark = request.node.get_closest_marker("devices")
    make_mesh = parallel.make_mesh
    monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: make_mesh(devices or (mark.args[0] if mark else 1)))


@pytest.fixture(scope="session")
def test_data() -> pathlib.Path:
    """Folder of real data and weights."""
    folder = os.environ.get("VISION_JAX_TEST_DATA")
    if not folder:
        pytest.skip("real data needed: VISION_JAX_TEST_DATA is not set")
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def unpacked_data(test_data, tmp_path_factory) -> pathlib.Path:
    """The same in the publishers' layouts (CIFAR binaries, safetensors)."""
    if ready := os.environ.get("VISION_JAX_TEST_DATA_UNPACKED"):
        return pathlib.Path(ready)
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run([sys.executable, test_data / "unpack.py", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def load_config():
    """Loads a fresh config by name: 'digits_cnn:smoke'."""

    def load(name):
        stem, _, variant = name.partition(":")
        path = REPOSITORY / "configs" / f"{stem}.py"
        spec = importlib.util.spec_from_file_location(f"configs_{stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config(variant)

    return load


@pytest.fixture
def no_page(monkeypatch):
    """Runs end with an empty page."""
    from tests import blank_pages

    blank_pages.use(monkeypatch)

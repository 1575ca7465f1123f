"""Everything that `fid` compares: folders, arrays, statistics, data sets and runs, and what it refuses to compare."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image

from tests import forked_commands
from vision_jax import inference, models
from vision_jax.data.sources import ArraySource
from vision_jax.metrics import frechet
from vision_jax.pretrained import extractors, weights
from vision_jax.tools import fid


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """With a small network, from a file that knows its preprocessing."""
    path = tmp_path_factory.mktemp("weights") / "cnn.safetensors"
    model = models.build("cnn", num_classes=10, channels=(4, 6), global_pool=True)
    rng = np.random.default_rng(0)
    shapes = models.shapes(model, (32, 32, 3))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    preprocessing = weights.Preprocessing(16, 16, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    record = weights.Record(
        "cnn", "a test", options={"channels": [4, 6], "global_pool": True}, preprocessing=preprocessing
    )
    weights.save(path, variables, record)
    return fid.Options(extractor="cnn", weights=str(path), batch_size=16, resamples=3)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path / "home"))


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 200 + 20 * seed, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """REAL with pictures in two folders, GENERATED with pictures in itself."""
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real" / "b").mkdir()
    (tmp_path / "generated").mkdir()
    for number, image in enumerate(images(30, 0)):
        Image.fromarray(image).save(tmp_path / "real" / "ab"[number % 2] / f"{number:02}.png")
    for number, image in enumerate(images(25, 2)):
        Image.fromarray(image).save(tmp_path / "generated" / f"{number:02}.png")
    return str(tmp_path / "real"), str(tmp_path / "generated")


def expected(options, real, fake):
    return expected_of(fid.load_extractor(options), real, fake)


def expected_of(extractor, real, fake):
    gaussians = []
    for batch in (real, fake):
        statistics = frechet.Statistics()
        statistics.add(extractor.apply(extractor.variables, batch)["features"])
        gaussians += statistics.gaussian()
    return frechet.distance(*gaussians)


def test_folders_and_arrays(options, folders, tmp_path):
    value = pytest.approx(expected(options, images(30, 0), images(25, 2)), rel=1e-4)
    receipts = fid.compare(*folders, ["interval"], options)
    (receipt,) = receipts.values()
    assert (receipt.metric, receipt.value, receipt.generated, receipt.real) == ("fd_cnn_25", value, 25, 30)
    assert receipt.protocol.reference == folders[0] and len(receipt.protocol.fingerprint) == 64
    assert receipt.interval.low < receipt.value < receipt.interval.high
    np.savez(tmp_path / "a.npz", images(30, 0))
    np.savez_compressed(tmp_path / "b.npz", images=images(25, 2), labels=np.zeros(25))
    (from_arrays,) = fid.compare(str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), [], options).values()
    assert from_arrays.value == value
    assert from_arrays.protocol.weights == receipt.protocol.weights


def test_the_fingerprint_of_a_folder_is_that_of_its_pictures(folders, tmp_path):
    first = fid.side(folders[1], fid.Options())
    (tmp_path / "generated").rename(tmp_path / "moved")
    (tmp_path / "moved" / "00.png").rename(tmp_path / "moved" / "zz.png")
    moved = fid.side(str(tmp_path / "moved"), fid.Options())
    assert moved.fingerprint == first.fingerprint and moved.count == 25
    (tmp_path / "moved" / "zz.png").unlink()
    assert fid.side(str(tmp_path / "moved"), fid.Options()).fingerprint != first.fingerprint


def test_a_reference_is_computed_once(options, folders, capsys):
    first = fid.compare(*folders, ["manifold"], options)
    assert "30 images of" in capsys.readouterr().err
    assert fid.compare(*folders, ["manifold"], options) == first
    told = capsys.readouterr().err
    assert "30 images of" not in told and "25 images of" in told


def test_all_measures(options, folders):
    receipts = fid.compare(*folders, ["interval", "infinity", "kernel", "manifold", "score"], options)
    assert [name.removesuffix("_cnn_25") for name in receipts] == [
        "fd",
        "fd_infinity",
        "kd",
        "kd_std",
        "precision",
        "recall",
        "density",
        "coverage",
        "classifier_score",
        "classifier_score_std",
        "confidence",
        "rarest_class",
    ]


def test_data_sets(options):
    """Digits have one published split; the others are cut as for a run."""
    whole, test = (fid.side(f"digits+{split}", options) for split in ("train", "test"))
    assert (whole.count, test.count, test.name, test.split) == (1797, 359, "digits", "test")
    (receipt,) = fid.compare("digits+test", "digits+train", [], dataclasses.replace(options, n=40)).values()
    assert (receipt.metric, receipt.real) == ("fd_cnn_40", 359)  # The reference is whole.
    assert (receipt.protocol.reference, receipt.protocol.split) == ("digits", "test")
    with pytest.raises(ValueError, match=r"digits has no split 'tets'; did you mean 'test'\?; there are train"):
        fid.side("digits+tets", options)
    with pytest.raises(ValueError, match="'digit' is no data set; did you mean 'digits'"):
        fid.side("digit+test", options)
    with pytest.raises(FileNotFoundError, match="vision-jax prepare cifar10"):
        fid.side("cifar10+test", options)


@pytest.fixture
def run(tmp_path, monkeypatch):
    asked = []

    class Generator:
        conditional = False

        def sample(self, n, *, seed, batch_size):
            asked.append((n, seed, batch_size))
            return images(n, seed)

    def generator_of_run(workdir, step):
        asked.append((workdir.name, step))
        return Generator()

    monkeypatch.setattr(inference, "generator_of_run", generator_of_run)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    return str(tmp_path / "gan"), asked


def test_gray_files_are_seen_by_a_gray_extractor_and_colored_ones_refused(options, folders, tmp_path, monkeypatch):
    model = models.build("cnn", num_classes=3, channels=(4,), global_pool=True)
    variables = jax.jit(lambda: model.init(jax.random.key(0), np.zeros((1, 16, 16, 1)), train=False))()
    preprocessing = weights.Preprocessing(16, 16, "bilinear", (0.5,), (0.5,))
    gray = extractors.of_classifier("cnn", model, jax.device_get(variables), preprocessing, 1)
    monkeypatch.setattr(fid, "load_extractor", lambda options: gray)
    sides = [images(20, seed)[..., :1] for seed in (0, 2)]
    for name, batch in zip("ab", sides, strict=True):
        (tmp_path / name).mkdir()
        for number, image in enumerate(batch):
            Image.fromarray(image[..., 0]).save(tmp_path / name / f"{number:02}.png")
    (receipt,) = fid.compare(str(tmp_path / "a"), str(tmp_path / "b"), [], options).values()
    assert receipt.value == pytest.approx(expected_of(gray, *sides), rel=1e-4)
    with pytest.raises(ValueError, match="The extractor sees 1 channels, and the images have 3"):
        fid.compare(*folders, [], options)


def test_a_run_is_the_generated_side_wherever_it_stands(options, folders, run):
    asked = dataclasses.replace(options, n=22, seed=1, checkpoint="7")
    for sides in ((folders[0], run[0]), (run[0], folders[0])):
        run[1].clear()
        (receipt,) = fid.compare(*sides, [], asked).values()
        assert (receipt.metric, receipt.real) == ("fd_cnn_22", 30)
        assert receipt.protocol.reference == folders[0]
        assert receipt.value == pytest.approx(expected(options, images(30, 0), images(22, 1)), rel=1e-4)
        assert run[1] == [("gan", 7), (22, 1, 16)]


@pytest.mark.parametrize(
    ("conditional", "split"),
    [(True, "checkpoint best, seed 0, classes in turn"), (False, "checkpoint best, seed 0")],
)
def test_samples_of_a_conditional_run_are_of_the_classes_in_turn(run, monkeypatch, conditional, split):
    generator = types.SimpleNamespace(conditional=conditional)
    monkeypatch.setattr(inference, "generator_of_run", lambda workdir, step: generator)
    assert fid.side(run[0], fid.Options()).split == split


def test_what_is_asked_for_and_left_out_is_said(options, folders, capsys):
    parts = ["interval", "infinity", "kernel", "manifold", "score"]
    assert len(fid.compare(*folders, parts, dataclasses.replace(options, n=12))) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "left out" in line] == [
        f"--{flag} is left out: it takes the features of 20 images or more; there are 12 generated ones."
        for flag in ("infinity", "kid", "prdc", "isc")
    ]


def test_statistics_go_both_ways_and_remember_how_they_were_measured(options, folders, tmp_path, capsys):
    target = str(tmp_path / "real.npz")
    assert "30 images" in fid.save_statistics(folders[0], target, options)
    with pytest.raises(ValueError, match="is there already"):
        fid.save_statistics(folders[0], target, options)
    (direct,) = fid.compare(*folders, ["interval"], options).values()
    (receipt,) = fid.compare(target, folders[1], ["interval"], options).values()
    assert receipt.value == pytest.approx(direct.value, rel=1e-9)
    assert (receipt.real, receipt.protocol) == (30, direct.protocol)
    (backwards,) = fid.compare(folders[1], target, [], options).values()
    assert (backwards.metric, backwards.real) == ("fd_cnn_30", 25)
    # A file of pytorch-fid says nothing of its making.
    mean, covariance, _ = frechet.load(target)
    np.savez(tmp_path / "plain.npz", mu=mean, sigma=covariance)
    (plain,) = fid.compare(str(tmp_path / "plain.npz"), folders[1], [], options).values()
    assert plain.value == pytest.approx(direct.value, rel=1e-9)
    assert plain.real is None and plain.protocol.fingerprint != direct.protocol.fingerprint
    assert "does not say how it was measured; taken for fd_cnn" in capsys.readouterr().err


def test_statistics_of_another_protocol_are_refused(options, folders, tmp_path):
    target = tmp_path / "real.npz"
    fid.save_statistics(folders[0], str(target), options)
    mean, covariance, facts = frechet.load(target)
    changed = json.loads(facts["protocol"]) | {"resize": "nearest", "weights": "f" * 64}
    frechet.save(tmp_path / "other.npz", mean, covariance, n=30, protocol=json.dumps(changed))
    with pytest.raises(ValueError, match=r"other.npz was measured in another way.*weights is 'f+', here.*resize"):
        fid.compare(str(tmp_path / "other.npz"), folders[1], [], options)
    frechet.save(tmp_path / "wide.npz", np.zeros(2048), np.eye(2048))
    with pytest.raises(ValueError, match="statistics of 2048 features, and fd_cnn has 6"):
        fid.compare(str(tmp_path / "wide.npz"), folders[1], [], options)
    for part, sides in (("kernel", (str(target), folders[1])), ("score", (folders[1], str(target)))):
        with pytest.raises(ValueError, match=f"holds statistics alone; images are needed for {part}"):
            fid.compare(*sides, [part], options)
    frechet.save(tmp_path / "odd.npz", mean, covariance, protocol="[1]")
    with pytest.raises(ValueError, match="does not say properly how its statistics were measured"):
        fid.side(str(tmp_path / "odd.npz"), options)


def test_what_is_nothing_of_the_kind(options, tmp_path):
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "floats.npz", images=np.zeros((3, 8, 8, 3)))
    np.savez(tmp_path / "labels.npz", labels=np.zeros(3))
    np.savez(tmp_path / "objects.npz", images=np.array([{}]))
    np.save(tmp_path / "single.npy", images(3, 0))
    (tmp_path / "text.npz").write_text("text")
    for name, match in {
        "nowhere": "is neither a folder of pictures, an .npz, a run nor a data set",
        "empty": "there is no picture",
        "floats.npz": r"holds float64 \(3, 8, 8, 3\); expected uint8 images",
        "labels.npz": "holds labels; expected images",
        "objects.npz": "is no .npz of plain arrays",
        "single.npy": "is no .npz of plain arrays: it holds a single array",
        "text.npz": "is no .npz of plain arrays",
    }.items():
        with pytest.raises(ValueError, match=match):
            fid.side(str(tmp_path / name), options)


def test_a_classifier_s_run_is_an_extractor(run_folder, folders):
    extractor = fid.load_extractor(fid.Options(extractor=str(run_folder), checkpoint="newest"))
    assert (extractor.prefix, extractor.view.size) == ("fd_cnn", 8)
    assert len(extractor.view.shift) == 1  # It was trained on gray images.


def test_the_self_check_draws_as_torch_fidelity_does(options, monkeypatch):
    train, test = (ArraySource(images(n, seed), np.arange(n)) for seed, n in ((0, 1300), (2, 1100)))
    extractor, asked = fid.load_extractor(options), []
    monkeypatch.setattr(extractors, "load", lambda **given: asked.append(given) or extractor)
    rows = {name: (expected, found) for name, expected, found, _ in fid.self_check(train, test, options, count=1000)}
    assert asked == [{"weights": options.weights, "mode": "tensorflow"}]
    assert rows["fid"][0] == 10.3233274
    # utils/util_dump_dataset_as_images.py: the first generator of each split starts anew.
    drawn = [np.random.RandomState(2020).choice(len(s), 1000, replace=False) for s in (train, test)]
    fake, real = train.images[drawn[0]], test.images[drawn[1]]
    assert rows["fid"][1] == pytest.approx(expected_of(extractor, real, fake), rel=1e-3)
    assert set(rows) == {"fid", "inception_score", "inception_score_std", "kid", "kid_std", "precision", "recall"}
    assert 0 <= rows["recall"][1] <= 1


def command(*arguments, cwd):
    return forked_commands.run([sys.executable, "-m", "vision_jax.tools.fid", *map(str, arguments)], cwd=cwd)


def test_the_command(options, folders, tmp_path, repository):
    network = ["--extractor=cnn", f"--weights={options.weights}", "--batch-size=10", "--resamples=2"]
    done = command(*folders, *network, "--json", "--prdc", "--isc", cwd=repository)
    assert done.returncode == 0, done.stderr
    stems = {"fd", "precision", "recall", "density", "coverage"}
    stems |= {"classifier_score", "classifier_score_std", "confidence", "rarest_class"}
    assert set(json.loads(done.stdout)) == {f"{stem}_cnn_25" for stem in stems}
    assert "image 25/25 (100%)" in done.stderr
    for arguments, message in (
        ([*folders, "--dims=64", *network], "cnn has one preprocessing"),
        ([folders[0]], "two arguments are compared; found"),
        ([*folders, "--extractor=resnet20", f"--weights={tmp_path}/none.pth"], "there is no file of that name"),
    ):
        done = command(*arguments, cwd=repository)
        assert done.returncode == 2
        assert "ERROR: " in done.stderr and message in done.stderr and "Traceback" not in done.stderr

"""Features of references are computed once for each thing that they depend on."""

import dataclasses
import io

import numpy as np
import pytest

from vision_jax import parallel
from vision_jax.metrics.generative import FeatureSet
from vision_jax.metrics.receipt import Protocol
from vision_jax.pretrained import reference
from vision_jax.utils import files

PROTOCOL = Protocol("fid", "fid_inception, features", "a" * 64, 3, "bilinear", "cifar10", "test", "b" * 64)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path / "home"))


def features(seed=0):
    found = FeatureSet()
    found.add({"features": np.random.default_rng(seed).random((9, 3), np.float32)})
    return found


def never():
    raise AssertionError("computed again")


def test_they_are_computed_once():
    first = reference.cached(PROTOCOL, 10, features)
    again = reference.cached(PROTOCOL, 10, never)
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.gaussian()[1], first.gaussian()[1])
    assert again.count == 9
    # Names are none of the things that they depend on.
    reference.cached(dataclasses.replace(PROTOCOL, prefix="x", reference="a copy"), 10, never)


def test_they_are_computed_where_one_process_has_none(monkeypatch):
    """Computing them takes all processes, so that none may go on with its file while another computes."""
    asked, others = [], True

    def all_processes(condition):
        asked.append(condition)
        return condition and others

    monkeypatch.setattr(parallel, "all_processes", all_processes)
    reference.cached(PROTOCOL, 10, features)
    reference.cached(PROTOCOL, 10, never)
    others = False
    with pytest.raises(AssertionError, match="computed again"):
        reference.cached(PROTOCOL, 10, never)
    assert asked == [False, True, True]


@pytest.mark.parametrize("field", ["extractor", "weights", "dimension", "resize", "split", "fingerprint", "limit"])
def test_another_of_anything_is_another(field):
    reference.cached(PROTOCOL, 10, features)
    other = PROTOCOL if field == "limit" else dataclasses.replace(PROTOCOL, **{field: "c" * 64})
    found = reference.cached(other, 11 if field == "limit" else 10, lambda: features(1))
    np.testing.assert_array_equal(found.features, features(1).features)


def test_what_is_unknown_is_not_kept():
    unknown = dataclasses.replace(PROTOCOL, fingerprint="unknown")
    reference.cached(unknown, 10, features)
    assert not files.cache_dir("fid").exists()
    with pytest.raises(AssertionError, match="computed again"):
        reference.cached(unknown, 10, never)


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", npy(), None], ids=["empty", "zip", "npy", "cut"])
def test_damaged_files_are_made_anew(content, caplog):
    reference.cached(PROTOCOL, 10, features)
    (path,) = files.cache_dir("fid").iterdir()
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with caplog.at_level("WARNING", logger="absl"):
        reference.cached(PROTOCOL, 10, features)
    assert "is damaged" in caplog.text
    reference.cached(PROTOCOL, 10, never)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISION_JAX_HOME", str(tmp_path / "file"))
    with caplog.at_level("WARNING", logger="absl"):
        assert reference.cached(PROTOCOL, 10, features).count == 9
    assert "are not kept" in caplog.text

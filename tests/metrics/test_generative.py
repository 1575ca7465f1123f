"""Sets of features, and all measures of them with their receipts."""

import dataclasses

import numpy as np
import pytest

from tests.metrics.references import sets
from vision_jax.metrics import frechet, generative, kernel, manifold
from vision_jax.metrics.generative import FeatureSet, measure
from vision_jax.metrics.inception_score import inception_score
from vision_jax.metrics.receipt import Protocol

PROTOCOL = Protocol("fd_resnet20", "resnet20, features", "a" * 64, 16, "none", "digits", "test", "b" * 64)


def filled(features, logits=None, limit=10_000, batch=32):
    found = FeatureSet(limit)
    for start in range(0, len(features), batch):
        outputs = {"features": features[start : start + batch]}
        if logits is not None:
            outputs["logits"] = logits[start : start + batch]
        found.add(outputs)
    return found


@pytest.fixture(scope="module")
def both():
    fake, real = sets()
    logits = np.random.default_rng(1).normal(size=(len(fake), 7)).astype(np.float32)
    return filled(real), filled(fake, logits)


def test_all_rows_are_kept_in_order_up_to_the_limit(both):
    np.testing.assert_array_equal(both[0].features, sets()[1])
    assert both[0].count == 150 and both[0].logits.shape == (0, 0)
    assert both[1].logits.shape == (120, 7)


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_a_sample_does_not_depend_on_the_batches(batch):
    rows = np.arange(500, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    kept = filled(rows, logits=rows * 2, limit=40, batch=batch)
    np.testing.assert_array_equal(kept.features, filled(rows, limit=40).features)
    np.testing.assert_array_equal(kept.logits, 2 * kept.features)  # of the same images
    assert kept.features.shape == (40, 2) and len(np.unique(kept.features)) == 40
    assert kept.count == 500 and kept.gaussian()[0][0] == pytest.approx(249.5)


def test_a_sample_is_uniform():
    times = np.zeros(60)
    for seed in range(400):
        found = FeatureSet(6, seed=seed)
        found.add({"features": np.arange(60, dtype=np.float32)[:, None]})
        times[found.features[:, 0].astype(int)] += 1
    # 40 are expected of each; the deviation of a count is 6.
    assert times.min() > 15 and times.max() < 65
    assert abs(times[:30].mean() - 40) < 3


def test_the_measures_are_their_functions_and_carry_receipts(both):
    real, fake = both
    metrics, receipts = measure(real, fake, PROTOCOL, resamples=5, subset=50)
    value = frechet.distance(*real.gaussian(), *fake.gaussian())
    kd, kd_std = kernel.distance(fake.features, real.features, size=50)
    precision, recall = manifold.precision_recall(real.features, fake.features)
    density, coverage = manifold.density_coverage(real.features, fake.features)
    score, score_std = inception_score(fake.logits)
    assert metrics == {
        "fd_resnet20_120": pytest.approx(value),
        "fd_infinity_resnet20_120": frechet.extrapolated(fake.features, *real.gaussian()),
        "kd_resnet20_120": kd,
        "kd_std_resnet20_120": kd_std,
        "precision_resnet20_120": precision,
        "recall_resnet20_120": recall,
        "density_resnet20_120": density,
        "coverage_resnet20_120": coverage,
        "classifier_score_resnet20_120": score,
        "classifier_score_std_resnet20_120": score_std,
        "confidence_resnet20_120": generative.confidence(fake.logits),
        "rarest_class_resnet20_120": generative.rarest_class(fake.logits),
    }
    assert receipts.keys() == metrics.keys()
    for name, receipt in receipts.items():
        assert (receipt.metric, receipt.value) == (name, metrics[name])
        assert (receipt.generated, receipt.real, receipt.protocol) == (120, 150, PROTOCOL)
    interval = receipts["fd_resnet20_120"].interval
    error = frechet.standard_error(fake.features, *real.gaussian(), resamples=5)
    assert (interval.low, interval.high) == pytest.approx((value - 1.96 * error, value + 1.96 * error))
    assert (interval.resamples, interval.rows) == (5, 120)
    assert receipts["kd_resnet20_120"].settings == {"subsets": 100, "size": 50}
    assert receipts["precision_resnet20_120"].settings == {"neighbors": 3}
    assert receipts["coverage_resnet20_120"].settings == {"neighbors": 5}
    assert receipts["classifier_score_resnet20_120"].settings == {"splits": 10}


def test_inception_features_have_their_own_names(both):
    names = set(measure(*both, dataclasses.replace(PROTOCOL, prefix="fid"), parts=("kernel", "score"), subset=9)[0])
    assert names == {"fid120", "kid120", "kid_std_120", "inception_score_120", "inception_score_std_120"}


def test_what_was_not_kept_is_said_and_widens_no_interval(both):
    fake, real = sets()
    _, receipts = measure(filled(real, limit=70), filled(fake, limit=30), PROTOCOL, resamples=20, subset=40)
    assert receipts["precision_resnet20_120"].settings == {"neighbors": 3, "kept_generated": 30, "kept_real": 70}
    assert receipts["fd_infinity_resnet20_120"].settings == {"points": 15, "kept_generated": 30}
    assert receipts["kd_resnet20_120"].settings["size"] == 30
    interval = receipts["fd_resnet20_120"].interval
    assert interval.rows == 30
    error = frechet.standard_error(filled(fake, limit=30).features, *filled(real).gaussian(), resamples=20)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error / 2)  # 120 are four times 30.


def test_statistics_alone_give_the_distance_alone(both):
    real, fake = both
    given = FeatureSet.of_gaussian(*real.gaussian(), None)
    metrics, receipts = measure(given, FeatureSet.of_gaussian(*fake.gaussian(), None), PROTOCOL)
    assert list(metrics) == ["fd_resnet20"]
    assert metrics["fd_resnet20"] == pytest.approx(frechet.distance(*real.gaussian(), *fake.gaussian()))
    assert receipts["fd_resnet20"].real is None
    assert set(measure(given, fake, PROTOCOL, resamples=3)[0]) == {
        f"{stem}_resnet20_120"
        for stem in (
            "fd",
            "fd_infinity",
            "classifier_score",
            "classifier_score_std",
            "confidence",
            "rarest_class",
        )
    }
    with pytest.raises(ValueError, match="only mean and covariance are known"):
        given.add({"features": np.ones((1, 16))})


def test_what_is_left_out_has_a_reason(both):
    real, fake = both
    few, plain = filled(fake.features[:16]), filled(fake.features)
    assert generative.left_out(real, fake, generative.PARTS) == {}
    reason = "the extractor gives no logits with these features"
    assert generative.left_out(real, plain, ("kernel", "score")) == {"score": reason}
    assert "score_" not in " ".join(measure(real, plain, PROTOCOL, parts=("score",))[0])
    words = "it takes the features of 20 images or more; there are"
    assert generative.left_out(few, fake, ("manifold", "infinity")) == {"manifold": f"{words} 16 real ones"}
    assert generative.left_out(few, few, ("kernel", "score")) == {
        "kernel": f"{words} 16 generated and 16 real ones",
        "score": f"{words} 16 generated ones",
    }


def test_too_few_images_give_the_distance_alone_and_a_warning(both, caplog):
    few = filled(both[1].features[:16])
    with caplog.at_level("WARNING", logger="absl"):
        metrics, _ = measure(both[0], few, PROTOCOL)
    assert list(metrics) == ["fd_resnet20_16"]
    assert "16 generated images are not more than the 16 features" in caplog.text
    assert "real images are not more" not in caplog.text


def test_sets_are_kept_as_arrays(both):
    for found in both:
        again = FeatureSet.of_arrays(found.arrays())
        assert again.count == found.count
        np.testing.assert_array_equal(again.features, found.features)
        np.testing.assert_array_equal(again.logits, found.logits)
        np.testing.assert_array_equal(again.gaussian()[1], found.gaussian()[1])
        assert again.arrays().keys() == found.arrays().keys()
    with pytest.raises(ValueError, match="no arrays of a set"):
        FeatureSet.of_arrays({})
    with pytest.raises(ValueError, match="Statistics of 1 images"):
        FeatureSet.of_arrays(both[0].arrays() | {"count": np.asarray(1)})


def test_wrong_questions(both):
    with pytest.raises(ValueError, match="no measure prdc; there are interval"):
        measure(*both, PROTOCOL, parts=("prdc",))
    with pytest.raises(ValueError, match="have 16 features and the generated ones 3: two extractors"):
        measure(both[0], filled(np.random.default_rng(0).random((9, 3), np.float32)), PROTOCOL)
    assert generative.PARTS == ("interval", "infinity", "kernel", "manifold", "score")


def test_confidence_and_the_rarest_class_are_those_of_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert generative.confidence(logits) == pytest.approx(probabilities.max(1).mean(), rel=1e-5)
    counts = [(logits.argmax(1) == k).sum() for k in range(3)]
    assert generative.rarest_class(logits) == min(counts) / 50
    assert generative.rarest_class(logits - 1000 * np.eye(3, dtype=np.float32)[2]) == 0.0

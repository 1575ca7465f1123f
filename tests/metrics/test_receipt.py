"""Names of metrics, receipts through JSON, and what keeps two numbers apart."""

import dataclasses
import json

import pytest

from vision_jax.metrics.receipt import Interval, Protocol, Receipt, difference

PROTOCOL = Protocol("fid", "fid_inception, features", "a" * 64, 2048, "bilinear to 299", "cifar10", "test", "b" * 64)
RECEIPT = Receipt(
    "fid10k", 12.345678, 10_000, 10_000, PROTOCOL, {"neighbors": 3}, Interval(12.0, 12.7, resamples=50, rows=10_000)
)


@pytest.mark.parametrize(
    ("prefix", "stem", "generated", "name"),
    [
        ("fid", "fid", 10_000, "fid10k"),
        ("fid", "kid", 50_000, "kid50k"),
        ("fid", "fid", 359, "fid359"),
        ("fid", "fid", 5_500, "fid5500"),
        ("fid", "kid_std", 1_000, "kid_std_1k"),
        ("fid", "precision", 10_000, "precision_10k"),
        ("fid", "fid", None, "fid"),
        ("fid_clean", "fid", 10_000, "fid_clean_10k"),
        ("fid_64", "fid", 2, "fid_64_2"),
        ("fd_resnet56", "fd", 10_000, "fd_resnet56_10k"),
        ("fd_mobilenet_v2", "precision", 999, "precision_mobilenet_v2_999"),
        ("fd_resnet56", "fd_infinity", 0, "fd_infinity_resnet56_0"),
    ],
)
def test_names(prefix, stem, generated, name):
    assert dataclasses.replace(PROTOCOL, prefix=prefix).metric(stem, generated) == name


def test_receipts_go_through_json():
    for receipt in (RECEIPT, dataclasses.replace(RECEIPT, interval=None, real=None)):
        assert Receipt.of_json(json.loads(json.dumps(receipt.to_json()))) == receipt
    for wrong in ({}, {"interval": None, "protocol": {}}, RECEIPT.to_json() | {"price": 3}):
        with pytest.raises(ValueError, match="This is no receipt of a distance"):
            Receipt.of_json(wrong)


def test_a_person_reads_all_that_counts():
    lines = RECEIPT.text().splitlines()
    assert lines[0] == "fid10k = 12.3457   [12, 12.7] (95 %, bootstrap, 50 resamples)"
    text = "\n".join(lines)
    for part in (
        "10,000 generated, 10,000 real",
        "cifar10 test, bbbbbbbbbbbb…",
        "2048 features",
        "weights aaaaaaaaaaaa…",
    ):
        assert part in text
    assert "bilinear to 299" in text and "neighbors 3" in text
    unknown = dataclasses.replace(RECEIPT, generated=None, interval=None).text()
    assert "an unknown number of generated" in unknown and "95 %" not in unknown


def changed(**values):
    return dataclasses.replace(RECEIPT, protocol=dataclasses.replace(PROTOCOL, **values))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (dataclasses.replace(RECEIPT, metric="fid50k", generated=50_000), "generated images differs: 10000 and 50000"),
        (dataclasses.replace(RECEIPT, metric="kid10k"), "metric differs: fid10k and kid10k"),
        (dataclasses.replace(RECEIPT, real=9_000), "real images differs: 10000 and 9000"),
        (dataclasses.replace(RECEIPT, settings={"neighbors": 5}), "neighbors differs: 3 and 5"),
        (dataclasses.replace(RECEIPT, settings={}), "neighbors differs: 3 and None"),
        (changed(resize="bicubic"), "resizing differs: bilinear to 299 and bicubic"),
        (changed(weights="c" * 64), "weights of the extractor differs: aaaaaaaaaaaa… and cccccccccccc…"),
        (changed(dimension=64), "number of features differs: 2048 and 64"),
        (changed(extractor="resnet56"), "extractor differs"),
        (changed(fingerprint="c" * 64, split="train"), "reference differs: cifar10 test and cifar10 train"),
    ],
)
def test_what_differs_is_said_in_words(other, words):
    assert words in difference(RECEIPT, other)
    assert difference(other, other) == ""


def test_values_intervals_and_names_of_the_same_images_are_no_difference():
    other = dataclasses.replace(changed(reference="my_copy", split="x"), value=1.0, interval=None)
    assert difference(RECEIPT, other) == ""


def test_what_nobody_knows_is_not_comparable():
    unknown = dataclasses.replace(changed(fingerprint="unknown"), real=None)
    assert difference(unknown, unknown) == (
        "the number of real images of both is unknown; the reference's images of both is unknown"
    )

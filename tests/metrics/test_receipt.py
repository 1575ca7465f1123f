"""Names of metrics, and receipts for JSON and for people."""

import dataclasses
import json

import pytest

from vision_jax.metrics.receipt import Interval, Protocol, Receipt

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


def test_json_holds_all_of_a_receipt():
    found = json.loads(json.dumps(RECEIPT.to_json()))
    assert (found["metric"], found["value"], found["settings"]) == ("fid10k", 12.345678, {"neighbors": 3})
    assert (found["generated"], found["real"]) == (10_000, 10_000)
    assert found["protocol"]["resize"] == "bilinear to 299" and found["protocol"]["fingerprint"] == "b" * 64
    assert found["interval"] == {"low": 12.0, "high": 12.7, "resamples": 50, "rows": 10_000}


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

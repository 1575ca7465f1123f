"""Leaves by path, and what differs between two trees."""

import jax
import numpy as np

from vision_jax.utils import trees


def test_flatten_names_leaves_and_unflatten_is_its_inverse():
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    assert trees.flatten(tree) == {"a/b": 1, "a/c": 2, "d": 3}
    assert trees.unflatten(trees.flatten(tree)) == tree
    assert trees.flatten({"a": (5, [6])}) == {"a/0": 5, "a/1/0": 6}


def test_every_kind_of_difference_has_a_line():
    expected = {
        "same": np.zeros(3, np.float32),
        "gone": np.zeros((), np.int32),
        "shape": jax.ShapeDtypeStruct((2, 3), np.float32),
        "type": np.zeros(2, np.float32),
    }
    found = {
        "same": jax.ShapeDtypeStruct((3,), np.float32),
        "new": np.zeros((1,), bool),
        "shape": np.zeros((3, 2), np.float32),
        "type": np.zeros(2, np.float16),
    }
    assert trees.differences(expected, found) == [
        "missing: gone int32[]",
        "left over: new bool[1]",
        "other shape or type: shape is float32[3, 2], expected float32[2, 3]",
        "other shape or type: type is float16[2], expected float32[2]",
    ]
    assert "type" not in "".join(line.split(": ")[1] for line in trees.differences(expected, found, types=False))


def test_long_reports_are_cut():
    assert trees.shown(["a", "b"]) == "\n  a\n  b"
    assert trees.shown("abcd", most=2) == "\n  a\n  b\n  … and 2 more"

"""Trees by the paths of their leaves: one flattening, one report of what differs."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

Tree = Any


def flatten(tree: Tree) -> dict[str, Any]:
    """Returns {'path/of/leaf': leaf} of any pytree; leaves are kept as they are."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dictionaries of which `flatten` gives `leaves`."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], *, types: bool = True) -> list[str]:
    """Returns a line for each leaf that is missing, left over, or of another shape or type.

    Args:
        expected: arrays, or shapes and types, by path.
        found: the same of what is compared.
        types: whether types have to agree, too.
    """

    def described(leaf: Any) -> str:
        shape = list(np.shape(leaf))
        return f"{np.dtype(leaf.dtype)}{shape}" if types else str(shape)

    lines = [f"missing: {path} {described(leaf)}" for path, leaf in expected.items() if path not in found]
    lines += [f"left over: {path} {described(leaf)}" for path, leaf in found.items() if path not in expected]
    lines += [
        f"other shape or type: {path} is {described(found[path])}, expected {described(leaf)}"
        for path, leaf in expected.items()
        if path in found and described(found[path]) != described(leaf)
    ]
    return lines


def fingerprint(tree: Tree) -> str:
    """Returns the SHA-256 of the paths, types, shapes and values of a tree of arrays."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(tree).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def shown(lines: Iterable[str], most: int = 20) -> str:
    """Returns the lines indented below each other, those after the first `most` counted instead."""
    lines = list(lines)
    rest = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  {line}" for line in [*lines[:most], *rest])

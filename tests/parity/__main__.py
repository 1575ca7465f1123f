"""Prints the parity table: python -m tests.parity [network …]."""

import importlib.util
import sys

from vision_jax import models


def main(names: list[str]) -> int:
    """Compares the networks `names` (all without any) and prints a row for each; 1 if one is out of bounds."""
    missing = [name for name in ("torch", "torchvision", "pytorch_fid") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"The reference implementations need {', '.join(missing)}; install them first.", file=sys.stderr)
        return 2
    from .cases import CASES
    from .harness import compare

    print("| network | parameters | top-1 as published | logits | stages | gradients | running statistics |")
    print("|---|---|---|---|---|---|---|")
    failed = 0
    for name in names or models.MODELS:
        row, top1 = compare(name, CASES[name]), models.entry(name).top1
        errors = (max(row.logits), row.stages, row.gradients, row.statistics)
        cells = " | ".join("–" if error is None else f"{error:.1e}" for error in errors)
        published = "–" if top1 is None else f"{top1:.2f} %"
        print(f"| {name} | {row.parameters:,} | {published} | {cells} |", flush=True)
        for problem in row.problems():
            failed = 1
            print(f"{name}: {problem}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

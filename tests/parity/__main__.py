"""Prints the parity table: python -m tests.parity [network …]."""

import sys
import time

from vision_jax import models

from .harness import compare


def main(names: list[str]) -> int:
    """Compares the networks `names` (all without any) and prints a row for each."""
    print("| network | parameters | logits | logits, second size | stages | gradients | running statistics | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    failed = 0
    for name in names or models.MODELS:
        start = time.process_time()
        row = compare(name)
        logits = (*row.logits, None)[:2]
        errors = (*logits, row.stages, row.gradients, row.statistics)
        cells = " | ".join("–" if error is None else f"{error:.1e}" for error in errors)
        seconds = time.process_time() - start
        print(f"| {name} | {row.parameters:,} | {cells} | {seconds:.0f} |", flush=True)
        for problem in row.problems():
            failed += 1
            print(f"{name}: {problem}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

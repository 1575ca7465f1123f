"""XLA's own convolutions and pooling in place of `vision_jax.ops`' formulations."""

import contextlib
from collections.abc import Iterator

from vision_jax.ops import plan, pooling


@contextlib.contextmanager
def plain_formulations() -> Iterator[None]:
    """In what is lowered meanwhile."""
    found = plan.choose, plan.choose_beside_onednn, pooling.chained_max
    plan.choose = plan.choose_beside_onednn = lambda *args: "plain"
    pooling.chained_max = pooling.plain_max
    try:
        yield
    finally:
        plan.choose, plan.choose_beside_onednn, pooling.chained_max = found

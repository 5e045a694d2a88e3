"""The number from which random results follow."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Needs, Widget, node

MAX_SEED = 2**64 - 1


@node(id="control.seed", category="control/constants", needs=Needs(inline=True))
def seed(seed: Annotated[int, Widget(min=0, max=MAX_SEED, step=1, control="seed")] = 0, offset: int = 0) -> int:
    """One seed for several samplers; `offset` gives each of them another one. Wraps around at 2^64."""
    return (seed + offset) % (MAX_SEED + 1)

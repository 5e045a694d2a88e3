"""Which blocks of a model stay on a device that cannot hold all of them. Pure; `forecast.py` and the hands follow it.

A denoiser or a language model goes through its blocks in one order, again and again. What was just used is then needed
last, so keeping the most recent blocks (LRU) keeps none of those that come next: every pass copies the whole model. Optimal
is to keep a fixed set for as long as the loop lasts and to copy the others, in a ring of a few blocks, in every pass
(Belady, 1966, on a cyclic sequence; specs: a pass then moves W - R + b bytes, with b for the ring).

Which blocks are kept makes no difference to the bytes, but to the time: the copied ones are spread evenly over the pass,
so that each copy has the computing of the kept blocks before it to hide behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

DEPTH = 2
"""Blocks in the ring: one is computed with while the next arrives."""


class Split(NamedTuple):
    """kept, streamed: indices of blocks, ascending; ring_bytes: what the ring takes beside the kept blocks."""

    kept: tuple[int, ...]
    streamed: tuple[int, ...]
    ring_bytes: int


def split(sizes: Sequence[int], room: int, depth: int = DEPTH, pinned: int = 0) -> Split | None:
    """Which blocks to keep so that they and the ring fit into `room` bytes; None when not even the ring fits.

    sizes: bytes per block, in the order of use; the first `pinned` ones are always kept. What a pass streams is close to the
    least there is: at most `depth` of the largest blocks above it. A ring of small blocks leaves more room for kept ones, so
    large blocks (an embedding, say) are streamed only if they must be.
    """
    total = sum(sizes)
    if total <= room:
        return Split(tuple(range(len(sizes))), (), 0)
    found = [
        split
        for largest in sorted(set(sizes[pinned:]))
        if (split := _split(sizes, room, depth, largest, pinned)) is not None
    ]
    return min(found, key=lambda split: sum(sizes[index] for index in split.streamed), default=None)


def _split(sizes: Sequence[int], room: int, depth: int, largest: int, pinned: int) -> Split | None:
    """As `split`, streaming no block larger than `largest`."""
    total = sum(sizes)
    light = [index for index, size in enumerate(sizes) if size <= largest and index >= pinned]
    wanted = total - room
    while True:
        streamed = _spread(sizes, light, wanted)
        got = sum(sizes[index] for index in streamed)
        ring = ring_bytes([sizes[index] for index in streamed], depth)
        over = total - got + ring - room
        if over <= 0:
            chosen = frozenset(streamed)
            kept = tuple(index for index in range(len(sizes)) if index not in chosen)
            return Split(kept, tuple(streamed), ring)
        if len(streamed) == len(light):
            return None
        wanted = got + over


def ring_bytes(sizes: Sequence[int], depth: int = DEPTH) -> int:
    """The most that `depth` blocks which follow one another take, the first one following the last."""
    if len(sizes) <= depth:
        return sum(sizes)
    around = [*sizes, *sizes[: depth - 1]]
    return max(sum(around[start : start + depth]) for start in range(len(sizes)))


def _spread(sizes: Sequence[int], light: Sequence[int], wanted: int) -> list[int]:
    """Of the light blocks those that are streamed: at least `wanted` bytes, evenly over them (as Bresenham draws a line)."""
    total = sum(sizes[index] for index in light)
    wanted = min(wanted, total)
    chosen: list[int] = []
    got = passed = 0
    for index in light:
        passed += sizes[index]
        # In integers: fewer bytes are streamed so far than should be by the end of this block.
        if got * total < passed * wanted and got < wanted:
            chosen.append(index)
            got += sizes[index]
    return chosen


def least_room(sizes: Sequence[int], depth: int = DEPTH, pinned: int = 0) -> int:
    """The least bytes in which a model can work: what is pinned, and a ring through which all the rest goes."""
    return min(sum(sizes), sum(sizes[:pinned]) + ring_bytes(sizes[pinned:], depth))


def moved_bytes(sizes: Sequence[int], room: int, passes: int, depth: int = DEPTH, pinned: int = 0) -> int | None:
    """Bytes copied by `passes` passes, the first of which fills the room; None when the ring does not fit."""
    found = split(sizes, room, depth, pinned)
    if found is None:
        return None
    return sum(sizes) + (passes - 1) * sum(sizes[index] for index in found.streamed)

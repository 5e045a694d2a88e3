"""Blocks that come and go in one piece of memory: two at a time, never one over the other, and they always fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graph_engine.memory.mover import ALIGNMENT
from graph_engine.memory.ring import Ring
from graph_engine.memory.streaming import ring_bytes

PADDED = st.integers(1, 50).map(lambda units: units * ALIGNMENT)


@given(st.lists(PADDED, min_size=1, max_size=9), st.integers(1, 4))
def test_blocks_in_a_loop_always_fit_and_never_overlap(sizes: list[int], passes: int) -> None:
    ring = Ring(ring_bytes(sizes))
    held: list[tuple[int, int]] = []
    for size in sizes * passes:
        if len(held) == 2:
            ring.give(held.pop(0)[0])
        begin = ring.take(size)
        if len(sizes) == 1 and held:
            assert begin is None, "a ring of one block has one slot"
            ring.give(held.pop(0)[0])
            begin = ring.take(size)
        assert begin is not None and 0 <= begin <= begin + size <= ring.bytes
        assert all(begin + size <= other or other + length <= begin for other, length in held)
        held.append((begin, size))


def test_what_does_not_fit_is_refused() -> None:
    assert Ring(0).take(1) is None
    ring = Ring(4 * ALIGNMENT)
    assert ring.take(4 * ALIGNMENT + 1) is None
    assert ring.take(3 * ALIGNMENT) == 0
    assert ring.take(2 * ALIGNMENT) is None
    assert ring.take(1) == 3 * ALIGNMENT
    ring.give(0)
    assert ring.take(4 * ALIGNMENT) is None
    assert ring.take(3 * ALIGNMENT) == 0

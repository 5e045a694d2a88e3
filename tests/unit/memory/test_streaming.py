"""Which blocks are kept and which are streamed, against every other choice there is."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graph_engine.memory.streaming import DEPTH, moved_bytes, ring_bytes, split

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=9)


def least_streamed(sizes: list[int], room: int) -> int | None:
    """Bytes per pass of the best choice, by trying all."""
    best = None
    for count in range(len(sizes) + 1):
        for chosen in combinations(range(len(sizes)), count):
            streamed = [sizes[index] for index in chosen]
            if sum(sizes) - sum(streamed) + ring_bytes(streamed) <= room:
                best = min(sum(streamed), best if best is not None else sum(streamed))
    return best


@given(sizes=SIZES, room=st.integers(0, 400))
@example(sizes=[1, 2, 43, 43, 1, 4], room=89)  # more than one block above the best choice
@pytest.mark.law("P5")
def test_it_fits_and_is_within_two_blocks_of_the_best_choice(sizes: list[int], room: int) -> None:
    best, found = least_streamed(sizes, room), split(sizes, room)
    if found is None:
        assert best is None
        return
    assert sorted([*found.kept, *found.streamed]) == list(range(len(sizes)))
    assert sum(sizes[index] for index in found.kept) + found.ring_bytes <= room
    streamed = [sizes[index] for index in found.streamed]
    assert found.ring_bytes == ring_bytes(streamed)
    assert best is not None
    assert best <= sum(streamed) <= best + DEPTH * max(sizes)


@given(count=st.integers(3, 60), size=st.integers(1, 9), kept=st.integers(2, 59))
def test_equal_blocks_move_what_the_formula_says(count: int, size: int, kept: int) -> None:
    """W + (n - 1) * (W - R + b), with b for the ring of two blocks."""
    total, room, passes = count * size, min(kept, count - 1) * size, 7
    expected = total + (passes - 1) * (total - room + DEPTH * size)
    assert moved_bytes([size] * count, room, passes) == expected


def test_what_fits_is_copied_once() -> None:
    assert split([5, 5, 5], 15) == ((0, 1, 2), (), 0)
    assert moved_bytes([5, 5, 5], 15, 100) == 15


def test_streamed_blocks_lie_evenly_between_kept_ones() -> None:
    found = split([1] * 100, 80)
    assert found is not None
    assert len(found.streamed) == 22
    gaps = [after - before for before, after in zip(found.streamed, found.streamed[1:], strict=False)]
    assert set(gaps) <= {4, 5}


def test_a_large_block_is_kept_rather_than_widening_the_ring() -> None:
    sizes = [262, *[33] * 40, 262]
    found = split(sizes, sum(sizes) - 100)
    assert found is not None
    assert {0, 41} <= set(found.kept)
    assert found.ring_bytes == 66
    assert sum(sizes[index] for index in found.streamed) == 198, "100 that lack and 66 for the ring, in blocks of 33"


def test_no_room_for_the_ring() -> None:
    assert split([10, 10, 10], 19) is None
    assert moved_bytes([10, 10, 10], 19, 2) is None
    assert split([10, 10, 10], 20) == ((), (0, 1, 2), 20)


def test_the_ring_goes_around() -> None:
    assert ring_bytes([9, 1, 1, 9]) == 18
    assert ring_bytes([4]) == 4
    assert ring_bytes([]) == 0

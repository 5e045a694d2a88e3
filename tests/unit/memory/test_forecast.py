"""The two clocks: what is known by hand, bounds that no schedule can beat, and LRU beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_engine.errors import OutOfMemory
from graph_engine.memory.forecast import Phase, forecast, least_seconds, lru_on_demand
from graph_engine.memory.streaming import moved_bytes


def phase(model: str, blocks: list[int], seconds: float, passes: int = 1, working: int = 0) -> Phase:
    return Phase(model, tuple(blocks), (seconds,) * len(blocks), passes, working)


@st.composite
def programs(draw: st.DrawFn) -> list[Phase]:
    sizes = {name: tuple(draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))) for name in "abc"}
    return [
        Phase(
            name,
            sizes[name],
            tuple(draw(st.floats(0, 3)) for _ in sizes[name]),
            draw(st.integers(1, 4)),
            draw(st.integers(0, 10)),
        )
        for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
    ]


@given(phases=programs(), room=st.integers(10, 150), bandwidth=st.floats(0.5, 50))
def test_never_faster_than_possible_and_never_slower_than_one_thing_after_the_other(
    phases: list[Phase], room: int, bandwidth: float
) -> None:
    try:
        found = forecast(phases, room, bandwidth)
    except OutOfMemory:
        return
    least = least_seconds(phases, room, bandwidth)
    assert found.seconds >= least * (1 - 1e-9)
    assert found.seconds <= sum(entry.compute_s for entry in phases) + found.moved_bytes / bandwidth + 1e-6
    assert found.moved_bytes == sum(stretch.moved_bytes for stretch in found.stretches)
    assert all(stretch.stall_s >= -1e-9 for stretch in found.stretches)


def test_what_fits_is_copied_once_and_later_models_arrive_while_the_first_computes() -> None:
    phases = [phase("a", [10, 10], 5.0), phase("b", [10, 10], 5.0), phase("a", [10, 10], 5.0)]
    found = forecast(phases, 40, bandwidth=10)
    assert found.moved_bytes == 40
    assert found.seconds == pytest.approx(1 + 30), "only the first block is waited for"
    assert found.seconds == pytest.approx(least_seconds(phases, 40, 10))


def test_the_model_that_is_needed_last_leaves() -> None:
    """Room for two of three: b is needed sooner than a, so a leaves for c."""
    a, b, c = (phase(name, [10], 100.0) for name in "abc")
    found = forecast([a, b, c, b, a], 20, bandwidth=10)
    assert found.moved_bytes == 40, "a, b, c, and a again"


def test_a_model_beyond_the_room_moves_what_the_formula_says() -> None:
    blocks = [10] * 20
    found = forecast([phase("a", blocks, 0.01, passes=5)], 150, bandwidth=100)
    assert found.moved_bytes == moved_bytes(blocks, 150, 5) == 200 + 4 * 70
    assert found.stretches[0].streamed


def test_two_phases_of_one_streamed_model_keep_what_is_kept() -> None:
    blocks = [10] * 20
    once = forecast([phase("a", blocks, 0.01, passes=5)], 150, 100)
    twice = forecast([phase("a", blocks, 0.01, passes=1), phase("a", blocks, 0.01, passes=4)], 150, 100)
    assert twice.moved_bytes == once.moved_bytes


def test_streaming_hides_behind_computing() -> None:
    blocks = [10] * 20
    found = forecast([phase("a", blocks, 1.0, passes=10)], 150, bandwidth=100)
    assert found.seconds == pytest.approx(0.1 + 200), "a block takes 0.1 s to come and 1 s to compute with"


def test_lru_copies_everything_in_every_pass_of_a_loop() -> None:
    loop = [phase("a", [10] * 20, 0.0, passes=5)]
    assert lru_on_demand(loop, 190, 100).moved_bytes == 5 * 200
    assert forecast(loop, 190, 100).moved_bytes == 200 + 4 * 30


def test_activations_take_room_from_weights() -> None:
    loop = [phase("a", [10] * 20, 0.0, passes=2, working=30)]
    assert forecast(loop, 200, 100).moved_bytes == 200 + 50
    with pytest.raises(OutOfMemory, match=r"a cannot even be streamed.*12 bytes"):
        forecast(loop, 42, 100)

"""Two clocks and what passes between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graph_engine.execute.worker_clock import Clocks
from graph_engine.telemetry import Span, Telemetry

DELAYS = st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0)), min_size=2, max_size=20)


@given(st.floats(-1e6, 1e6), DELAYS)
def test_the_error_is_at_most_half_of_what_a_round_trip_took(ahead: float, messages: list[tuple[bool, float]]) -> None:
    """Whatever messages took, as long as one went each way."""
    clocks, now = Clocks(), 0.0
    shortest = {True: float("inf"), False: float("inf")}
    for theirs, delay in messages:
        if theirs:  # our clock shows `ahead` more than theirs
            clocks.heard(now, now + delay + ahead)
        else:
            clocks.answered(now + ahead, now + delay)
        shortest[theirs] = min(shortest[theirs], delay)
        now += 1.0
    if max(shortest.values()) < 10:
        assert abs(clocks.offset_s - ahead) <= sum(shortest.values()) + 1e-6


@given(DELAYS)
def test_one_clock_is_left_as_it_is(messages: list[tuple[bool, float]]) -> None:
    clocks = Clocks()
    for number, (theirs, delay) in enumerate(messages):
        (clocks.heard if theirs else clocks.answered)(number, number + delay)
    assert clocks.offset_s == 0.0


def test_what_another_process_noted_counts_here_by_our_clock() -> None:
    there, here = Telemetry(), Telemetry()
    there.ended("cpu:1", there.began("load", "cpu:1", "a", 100))
    there.ended("cpu:1", there.began("copy", "cpu:1", "b", 30))
    there.evicted("cpu:1", "a", 100)
    there.waited("weights", there.spans[0].begin_s - 5.0, "cpu:1", "a", "run", "node")
    first, rest = there.taken(1), there.taken(100)
    assert [span.what for span in (*first, *rest)] == ["load", "copy", "evict", "weights"] and not there.spans
    here.adopt([Span(*list(span)) for span in (*first, *rest)], 1000.0)
    assert [
        round(ours.begin_s - theirs.begin_s, 3) for ours, theirs in zip(here.spans, (*first, *rest), strict=True)
    ] == [1000.0] * 4
    copies = here.devices["cpu:1"]
    assert (copies.loads, copies.copied_bytes, copies.evictions) == (1, 130, 1)
    assert len(here.of("run")) == 4 and len(here.of("other")) == 3

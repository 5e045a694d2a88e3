"""From the log of a run to rows of time, without a clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graph_engine.timeline as module
from graph_engine.execute.events import Event
from graph_engine.telemetry import Span
from graph_engine.timeline import Facts, Slice, Timeline, chrome_trace, timeline

FACTS = {
    "load": Facts("t.load", "pool", ()),
    "left": Facts("t.draw", "device", ("load",)),
    "right": Facts("t.draw", "device", ("load",)),
    "join": Facts("t.join", "inline", ("left", "right")),
}


def log(*entries: tuple[float, str, str, dict[str, Any]]) -> tuple[list[Event], list[float]]:
    events = [Event(number, type, node, data) for number, (_, type, node, data) in enumerate(entries, 1)]
    return events, [at for at, *_ in entries]


def drawn(
    *entries: tuple[float, str, str, dict[str, Any]], spans: tuple[Span, ...] = (), now: float = 200.0
) -> Timeline:
    return timeline(*log(*entries), FACTS, spans, now)


def one(found: Timeline, name: str, group: str = "steps") -> Slice:
    [slice] = [slice for slice in found.slices if slice.name == name and slice.group == group]
    return slice


DIAMOND = (
    (100.0, "queued", "", {}),
    (100.0, "running", "load", {}),
    (102.0, "done", "load", {"ms": 1900.0}),
    (102.0, "running", "left", {"device": "cuda:0"}),
    (105.0, "done", "left", {"ms": 3000.0}),
    (105.0, "running", "right", {"device": "cuda:0"}),
    (109.0, "done", "right", {"ms": 2500.0}),
    (109.0, "running", "join", {}),
    (109.5, "done", "join", {"ms": 500.0}),
    (110.0, "finished", "", {"status": "succeeded"}),
)


def test_a_step_begins_as_long_before_its_end_as_it_computed() -> None:
    found = drawn(*DIAMOND)
    load = one(found, "load")
    assert (load.begin_s, load.end_s, load.row) == (pytest.approx(0.1), 2.0, "pool 1")
    assert one(found, "left").row == one(found, "right").row == "cuda:0"
    assert one(found, "right").begin_s == pytest.approx(6.5)
    whole = one(found, "run", "run")
    assert (whole.begin_s, whole.end_s) == (0.0, 10.0)


def test_waiting_says_for_what() -> None:
    memory = Span("memory", 105.2, 106.2, "cuda:0", "", 0, "r", "right")
    found = drawn(*DIAMOND, spans=(memory,))
    waits = {slice.name: (slice.begin_s, slice.end_s) for slice in found.slices if slice.group == "waiting"}
    assert waits["right: lane"] == (2.0, 5.0), "its inputs were there, the device was not"
    assert waits["right: memory"] == (pytest.approx(5.2), pytest.approx(6.2))
    assert waits["right: thread"] == (pytest.approx(6.2), pytest.approx(6.5))
    assert "left: lane" not in waits


def test_the_critical_path_is_the_chain_that_came_last() -> None:
    found = drawn(*DIAMOND)
    critical = {slice.name for slice in found.slices if slice.facts.get("critical")}
    assert critical == {"load", "right", "join"}


def test_models_are_rows_of_their_own_and_waits_for_them_lie_in_the_step() -> None:
    spans = (
        Span("load", 90.0, 91.0, "cuda:0", "old", 5),
        Span("load", 102.5, 103.5, "cuda:0", "unet", 70),
        Span("copy", 103.0, 104.0, "cuda:0", "llm", 30),
        Span("evict", 102.4, 102.4, "cuda:0", "clip", 9),
        Span("weights", 102.4, 103.5, "cuda:0", "unet", 0, "r", "left"),
    )
    found = drawn(*DIAMOND, spans=spans)
    rows = {slice.name: slice.row for slice in found.slices if slice.group == "memory"}
    assert rows == {"load unet": "copies cuda:0 1", "copy llm": "copies cuda:0 2"}
    wait = one(found, "wait for unet")
    assert wait.row == one(found, "left").row
    assert one(found, "left").begin_s <= wait.begin_s <= wait.end_s <= one(found, "left").end_s
    [mark] = [mark for mark in found.marks if mark.group == "memory"]
    assert (mark.name, mark.facts["bytes"]) == ("evict clip", 9)


def test_attempts_parts_and_work_of_others() -> None:
    found = drawn(
        (0.0, "queued", "", {}),
        (0.0, "cached", "", {"nodes": ["a", "b"]}),
        (0.0, "running", "load", {}),
        (1.0, "retrying", "load", {"attempt": 2}),
        (1.0, "running", "load", {"attempt": 2}),
        (2.0, "failed", "load", {"error": {}}),
        (2.0, "running", "left#0", {}),
        (2.5, "running", "left#1", {}),
        (4.0, "done", "left#0", {"ms": 2000.0}),
        (5.0, "done", "left#1", {"ms": 2500.0}),
        (5.0, "done", "left", {}),
        (5.0, "running", "right", {"shared": True}),
        now=9.0,
    )
    attempts = [slice for slice in found.slices if slice.name == "load"]
    assert [(slice.begin_s, slice.end_s, slice.facts["outcome"]) for slice in attempts] == [
        (0.0, 1.0, "failed"),
        (1.0, 2.0, "failed"),
    ]
    assert one(found, "left#0").row != one(found, "left#1").row, "side by side"
    assert (one(found, "left").row, one(found, "left").begin_s) == ("parts 1", 2.0)
    assert (one(found, "right").row, one(found, "right").end_s) == ("other runs 1", 9.0)
    assert [mark.name for mark in found.marks] == ["2 from the cache"]


def test_a_breakpoint_is_no_wait_for_a_lane() -> None:
    found = drawn(
        (0.0, "queued", "", {}),
        (0.0, "running", "load", {}),
        (1.0, "done", "load", {"ms": 1000.0}),
        (1.0, "paused", "left", {"inputs": {}}),
        (1.0, "paused", "right", {"inputs": {}}),
        (5.0, "continued", "left", {}),
        (5.5, "running", "left", {"device": "cuda:0"}),
        (6.0, "done", "left", {"ms": 500.0}),
        (7.0, "cancelled", "right", {}),
        now=8.0,
    )
    waits = {slice.name: (slice.begin_s, slice.end_s) for slice in found.slices if slice.group == "waiting"}
    assert waits["left: breakpoint"] == (1.0, 5.0)
    assert waits["left: lane"] == (5.0, 5.5)
    assert waits["right: breakpoint"] == (1.0, 7.0)
    rows = [slice.row for slice in found.slices if slice.group == "waiting"]
    assert sorted(rows) == ["paused 1", "paused 2", "waiting 1"]
    assert not any(slice.name == "right" for slice in found.slices)


def test_nothing_happened_yet() -> None:
    found = timeline([], [], {}, (), 5.0)
    assert [slice.name for slice in found.slices] == ["run"]


def test_too_many_stretches_are_cut_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SLICES", 100)
    count = 200
    entries = [(0.0, "queued", "", {})]
    for number in range(count):
        at = float(number + 1)
        entries += [
            (at, "running", f"n{number}", {}),
            (at + 0.5, "done", f"n{number}", {"ms": 1.0 if number else 500.0}),
        ]
    found = timeline(*log(*entries), {}, (), count + 2.0)
    assert len(found.slices) == 100
    assert found.left_out == 1 + 2 * count - 1 - 100
    assert {"run", "n0"} <= {slice.name for slice in found.slices}


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.floats(0, 10), st.floats(0, 10), st.sampled_from(["", "cpu", "cuda:0"])),
        max_size=40,
    )
)
def test_rows_never_overlap_and_nothing_is_lost(steps: list[tuple[int, float, float, str]]) -> None:
    entries: list[tuple[float, str, str, dict[str, Any]]] = [(0.0, "queued", "", {})]
    for number, (_, begin, length, device) in enumerate(steps):
        entries.append((begin, "running", f"n{number}", {"device": device} if device else {}))
        entries.append((begin + length, "done", f"n{number}", {"ms": length * 1000}))
    entries.sort(key=lambda entry: (entry[0], entry[1] == "done"))
    found = timeline(*log(*entries), {}, (), 30.0)
    work = [slice for slice in found.slices if slice.group == "steps"]
    assert {slice.name for slice in work} == {f"n{number}" for number in range(len(steps))}
    rows: dict[str, list[Slice]] = {}
    for slice in work:
        rows.setdefault(slice.row, []).append(slice)
    for row in rows.values():
        for before, after in itertools.pairwise(sorted(row, key=lambda slice: (slice.begin_s, slice.end_s))):
            assert before.end_s <= after.begin_s + 1e-9


def test_the_format_of_browsers() -> None:
    trace = chrome_trace(
        drawn(*DIAMOND), {"run": "r", "name": "diamond", "number": 1, "status": "succeeded", "began": 1.0}
    )
    work = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {(event["cat"], event["name"]) for event in work} >= {("run", "diamond"), ("steps", "left")}
    left = next(event for event in work if event["name"] == "left")
    assert (left["ts"], left["dur"]) == (2_000_000.0, 3_000_000.0)
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names[left["pid"], left["tid"]] == "cuda:0"
    assert {(event["pid"], event["tid"]) for event in work} <= set(names)

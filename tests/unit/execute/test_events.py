"""The log of a run: complete, in order, read from anywhere by any number of watchers, and small (law P11)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine.execute.events import COALESCED, Event, EventLog

STATES = ("running", "chunk", "log", "done", "failed")


def filled(*types: str) -> EventLog:
    log = EventLog()
    for number, type in enumerate(types):
        log.add(type, "n", {"number": number})
    return log


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


async def follow(log: EventLog, after: int = 0) -> list[Event]:
    return [event async for batch in log.watch(after) for event in batch]


def test_numbers_count_from_one_without_gaps_for_state_events() -> None:
    log = filled("queued", "started", "running", "done")
    assert [(event.seq, event.type) for event in log.after(0)] == [
        (1, "queued"),
        (2, "started"),
        (3, "running"),
        (4, "done"),
    ]


def test_a_run_taken_up_again_counts_on_from_its_boot() -> None:
    log = EventLog(1_000_000_000)
    log.add("queued")
    assert seqs(log.after(0)) == seqs(log.after(999_999_999)) == [1_000_000_001]
    assert log.after(1_000_000_001) == []


@pytest.mark.law("P11")
def test_of_progress_and_previews_only_the_latest_is_kept() -> None:
    log = EventLog()
    for number in range(1_000):
        for node in ("a", "b"):
            log.add("progress", node, {"done": number})
            log.add("preview", node, {"image": bytes(1_000)})
    assert len(log) + len(log.latest) == 4
    found = log.after(0)
    assert [(event.type, event.node) for event in found] == [
        ("progress", "a"),
        ("preview", "a"),
        ("progress", "b"),
        ("preview", "b"),
    ]
    assert {event.data["done"] for event in found if event.type == "progress"} == {999}


@pytest.mark.law("P11")
def test_chunks_and_states_are_never_dropped() -> None:
    log = EventLog()
    for number in range(500):
        log.add("chunk", "a", {"text": str(number)})
        log.add("progress", "a", {"done": number})
    assert [event.data["text"] for event in log.after(0, 10_000) if event.type == "chunk"] == [
        str(n) for n in range(500)
    ]


def test_all_events_that_stay_are_there_whole_and_in_order() -> None:
    log = filled("queued", "progress", "chunk", "done")
    assert log.events == [
        Event(1, "queued", "n", {"number": 0}),
        Event(3, "chunk", "n", {"number": 2}),
        Event(4, "done", "n", {"number": 3}),
    ]
    assert len(log) == 3


def test_a_latest_event_stands_where_it_happened() -> None:
    log = filled("running", "progress", "chunk", "progress", "done")
    assert [(event.seq, event.type) for event in log.after(0)] == [
        (1, "running"),
        (3, "chunk"),
        (4, "progress"),
        (5, "done"),
    ]
    assert [event.type for event in log.after(3)] == ["progress", "done"]
    assert [event.type for event in log.after(4)] == ["done"]


def test_a_batch_is_never_larger_than_the_limit() -> None:
    log = EventLog()
    for number in range(50):
        log.add("progress", f"n{number}")
        log.add("done", f"n{number}")
    whole = log.after(0, 1_000)
    assert len(whole) == 100
    for limit in (1, 7, 100):
        after, found = 0, []
        while batch := log.after(after, limit):
            assert len(batch) <= limit
            found += batch
            after = batch[-1].seq
        assert found == whole


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*STATES, *COALESCED]), st.sampled_from("ab")), max_size=40),
    st.integers(-1, 45),
    st.integers(1, 12),
)
def test_whoever_resumes_misses_nothing_that_stays(events: list[tuple[str, str]], after: int, limit: int) -> None:
    log = EventLog()
    kept: dict[Any, int] = {}
    for seq, (type, node) in enumerate(events, 1):
        log.add(type, node)
        kept[(type, node) if type in COALESCED else seq] = seq
    found: list[int] = []
    position = after
    while batch := log.after(position, limit):
        assert len(batch) <= limit
        found += seqs(batch)
        position = batch[-1].seq
    assert found == sorted(seq for seq in kept.values() if seq > after)


def test_an_event_as_a_client_sees_it() -> None:
    assert Event(3, "finished", "", {"status": "succeeded"}).to_dict() == {
        "seq": 3,
        "type": "finished",
        "status": "succeeded",
    }
    assert Event(4, "done", "n", {"ms": 1.5}).to_dict() == {"seq": 4, "type": "done", "node": "n", "ms": 1.5}


@pytest.mark.asyncio
async def test_a_watcher_sees_what_was_and_what_comes_until_the_end() -> None:
    log = filled("queued")
    watcher = asyncio.create_task(follow(log))
    for type in ("started", "done", "finished"):
        await asyncio.sleep(0)
        log.add(type)
    assert [event.type for event in await asyncio.wait_for(watcher, 5)] == ["queued", "started", "done", "finished"]


@pytest.mark.asyncio
async def test_watchers_do_not_take_events_from_each_other() -> None:
    log = EventLog()
    watchers = [asyncio.create_task(follow(log)) for _ in range(5)]
    for number in range(100):
        log.add("chunk", "n", {"text": str(number)})
        if number % 10 == 0:
            await asyncio.sleep(0)
    log.add("finished")
    for found in await asyncio.wait_for(asyncio.gather(*watchers), 5):
        assert seqs(found) == list(range(1, 102))


@pytest.mark.law("P11")
@pytest.mark.asyncio
async def test_a_slow_watcher_gets_all_states_and_the_freshest_preview() -> None:
    log = EventLog()
    watching = log.watch()
    log.add("running", "n")
    first = await anext(watching)
    assert seqs(first) == [1]
    for number in range(10_000):
        log.add("preview", "n", {"image": bytes(100), "number": number})
        if number % 100 == 0:
            log.add("chunk", "n", {"text": str(number)})
    log.add("finished")
    rest = [event async for batch in watching for event in batch]
    assert [event.data["text"] for event in rest if event.type == "chunk"] == [str(n) for n in range(0, 10_000, 100)]
    assert [event.data["number"] for event in rest if event.type == "preview"] == [9_999]
    assert rest[-1].type == "finished"


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 99])
async def test_resume_from_any_number(after: int) -> None:
    log = filled("queued", "started", "finished")
    assert seqs(await asyncio.wait_for(follow(log, after), 5)) == [seq for seq in (1, 2, 3) if seq > after]


@pytest.mark.asyncio
async def test_close_ends_watchers_where_they_are() -> None:
    log = filled("queued", "started")
    watchers = [asyncio.create_task(follow(log, after)) for after in (0, 1, 2)]
    await asyncio.sleep(0)
    log.add("running")
    log.close()
    assert [seqs(found) for found in await asyncio.wait_for(asyncio.gather(*watchers), 5)] == [[1, 2, 3], [2, 3], [3]]
    assert seqs(await asyncio.wait_for(follow(log), 5)) == [1, 2, 3]


@pytest.mark.asyncio
async def test_a_watcher_that_leaves_is_forgotten() -> None:
    log = filled("queued")
    watching = log.watch()
    await anext(watching)
    await watching.aclose()  # type: ignore[attr-defined]
    task = asyncio.create_task(follow(log))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not log._asleep


def test_what_only_matters_while_it_is_fresh_can_be_forgotten() -> None:
    log = filled("running", "progress", "preview", "done")
    log.forget_transient()
    assert [event.type for event in log.after(0)] == ["running", "done"]

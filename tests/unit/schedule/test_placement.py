"""Which device a step goes to: the choice by itself, and the scheduler with several devices."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine import Needs, node
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.plan import Plan, make_plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule.messages import (
    Cancel,
    Done,
    Ended,
    Instruction,
    Job,
    Remind,
    Reminded,
    Start,
    Stopped,
    Submit,
)
from graph_engine.schedule.placement import Choice, Sight, choose
from graph_engine.schedule.scheduler import Scheduler

GB = 10**9
RATE = 2e9


@node(id="p.big", needs=Needs(device=True))
def big(salt: int = 0) -> int: ...


@node(id="p.small", needs=Needs(device=True))
def small(salt: int = 0) -> int: ...


REGISTRY = Registry([big.node_type, small.node_type])  # type: ignore[attr-defined]


def plan_of(**nodes: str) -> Plan:
    """name="big" or "small"; each is a target of its own."""
    entries = {
        name: {"type": f"p.{type}", "values": {"salt": int.from_bytes(name.encode())}} for name, type in nodes.items()
    }
    document = parse({"format": "anyloom", "version": 1, "nodes": entries})
    return make_plan(resolve(document, REGISTRY, None), lambda name: "")


def starts(instructions: list[Instruction]) -> dict[str, str]:
    return {one.job.node: one.job.device for one in instructions if isinstance(one, Start)}


def reminders(instructions: list[Instruction]) -> list[Remind]:
    return [one for one in instructions if isinstance(one, Remind)]


def jobs(instructions: list[Instruction]) -> dict[str, Job]:
    return {one.job.node: one.job for one in instructions if isinstance(one, Start)}


# --- the choice -----------------------------------------------------------------------------------------------------------


def test_where_the_weights_are() -> None:
    sights = {"a": Sight(2 * GB, 9 * GB), "b": Sight(0, 0), "c": Sight(2 * GB, 9 * GB)}
    assert choose(sights, ["a", "b", "c"], {}) == Choice("b")


def test_among_equals_where_most_room_is_and_then_who_was_idle_longest() -> None:
    sights = {"a": Sight(GB, GB), "b": Sight(GB, 3 * GB), "c": Sight(GB, 3 * GB)}
    assert choose(sights, ["a", "c", "b"], {}) == Choice("c")
    assert choose(sights, ["a", "b", "c"], {}) == Choice("b")


def test_nothing_known_is_the_one_that_was_idle_longest() -> None:
    assert choose({}, ["b", "a"], {}) == Choice("b")


def test_it_waits_only_where_that_is_cheaper_and_never_longer_than_bringing_takes() -> None:
    sights = {"a": Sight(4 * GB, 9 * GB), "b": Sight(0, 0)}
    assert choose(sights, ["a"], {"b": 1.0}, RATE) == Choice("b", 2.0)
    assert choose(sights, ["a"], {"b": 2.5}, RATE) == Choice("a")
    assert choose(sights, ["a"], {}, RATE) == Choice("a"), "nobody knows how long b is busy"


def test_a_part_that_is_missing_there_too_counts() -> None:
    sights = {"a": Sight(4 * GB, 0), "b": Sight(3 * GB, 0)}
    assert choose(sights, ["a"], {"b": 1.0}, RATE) == Choice("a")
    assert choose(sights, ["a"], {"b": 0.1}, RATE) == Choice("b", 2.0)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10 * GB), st.integers(0, 10 * GB)), min_size=2, max_size=4),
    st.data(),
)
def test_beginning_takes_at_most_twice_as_long_as_the_best_choice(rows: list[tuple[int, int]], data: Any) -> None:
    """Whatever the truth about who is busy for how long: the rule of ski rental, when the wait was foreseen wrongly."""
    names = [f"d{n}" for n in range(len(rows))]
    sights = {name: Sight(*row) for name, row in zip(names, rows, strict=True)}
    count = data.draw(st.integers(1, len(names)))
    free, busy = names[:count], names[count:]
    foreseen = {name: data.draw(st.floats(0, 20)) for name in busy}
    really = {name: data.draw(st.floats(0, 20)) for name in busy}
    choice = choose(sights, free, foreseen, RATE)
    bring = {name: sight.missing_bytes / RATE for name, sight in sights.items()}
    cheapest_free = min(bring[name] for name in free)
    if not choice.patience_s:
        took = bring[choice.device]
        assert choice.device in free
        assert all(cheapest_free <= foreseen[name] + bring[name] for name in busy), "it should have waited"
    elif really[choice.device] <= choice.patience_s:
        took = really[choice.device] + bring[choice.device]
    else:
        took = choice.patience_s + cheapest_free
    assert took <= 2 * cheapest_free + 1e-9


# --- the scheduler --------------------------------------------------------------------------------------------------------


def scheduler_of(weights: dict[str, dict[str, int]], devices: tuple[str, ...] = ("a", "b")) -> Scheduler:
    """weights: node type -> device -> bytes that it would miss there."""
    scheduler = Scheduler({"pool": 1, "async": 1, "inline": 1}, devices)
    scheduler.look = lambda job: {device: Sight(weights.get(job.type.id, {}).get(device, 0), 0) for device in devices}
    scheduler.bytes_per_s = 1.0
    return scheduler


def occupied(weights: dict[str, dict[str, int]], small_s: float) -> tuple[Scheduler, Job]:
    """Device "a" is busy with a step that should take `small_s`; "b" is free."""
    scheduler = scheduler_of({"p.small": {"b": 10**6}} | weights)
    scheduler.lasted_ms |= {"p.small": small_s * 1_000, "p.big": 1_000.0}
    job = jobs(scheduler.handle(Submit("first", plan_of(v="small"), {})))["v"]
    assert job.device == "a"
    return scheduler, job


def test_two_steps_that_are_ready_run_on_two_devices() -> None:
    scheduler = scheduler_of({})
    assert set(starts(scheduler.handle(Submit("r", plan_of(u="big", v="big"), {}))).values()) == {"a", "b"}


def test_a_step_goes_to_its_weights() -> None:
    scheduler = scheduler_of({"p.big": {"a": 100}})
    assert starts(scheduler.handle(Submit("r", plan_of(u="big"), {}))) == {"u": "b"}


def test_it_waits_for_a_device_that_is_soon_free_and_is_first_there() -> None:
    scheduler, job = occupied({"p.big": {"b": 100}}, 1.0)
    out = scheduler.handle(Submit("r", plan_of(u="big"), {}))
    assert (starts(out), [one.seconds for one in reminders(out)]) == ({}, [100.0])
    other = scheduler.handle(Submit("s", plan_of(x="small", y="small"), {}))
    assert starts(other) == {}, "these have their weights on a too, and b would be dear"
    out = scheduler.handle(Done(job.id, (None,), 1_000.0))
    assert starts(out) == {"u": "a"}


def test_others_use_the_device_that_it_leaves_free() -> None:
    scheduler, _ = occupied({"p.big": {"b": 100}}, 1.0)
    assert starts(scheduler.handle(Submit("r", plan_of(u="big"), {}))) == {}
    scheduler.look = lambda job: {"a": Sight(0, 0), "b": Sight(0, 0)}
    assert starts(scheduler.handle(Submit("s", plan_of(q="small", u="big"), {}))) == {"q": "b"}


def test_when_it_has_waited_long_enough_it_goes_where_there_is_room() -> None:
    scheduler, _ = occupied({"p.big": {"b": 100}}, 1.0)
    (reminder,) = reminders(scheduler.handle(Submit("r", plan_of(u="big"), {})))
    assert starts(scheduler.handle(Reminded(reminder.key))) == {"u": "b"}
    assert scheduler.handle(Reminded(reminder.key)) == [], "a late reminder changes nothing"


def test_a_wait_that_would_be_long_is_none() -> None:
    scheduler, _ = occupied({"p.big": {"b": 100}}, 500.0)
    assert starts(scheduler.handle(Submit("r", plan_of(u="big"), {}))) == {"u": "b"}


def test_who_waits_behind_others_counts_them() -> None:
    """Each big step takes a minute; the fourth would wait for three."""
    scheduler, _ = occupied({"p.big": {"b": 100}}, 1.0)
    scheduler.lasted_ms["p.big"] = 40_000.0
    out = scheduler.handle(Submit("r", plan_of(q="big", r="big", s="big", t="big"), {}))
    assert (len(reminders(out)), starts(out)) == (3, {"t": "b"})


def test_one_that_waits_can_be_cancelled() -> None:
    scheduler, job = occupied({"p.big": {"b": 100}}, 1.0)
    (reminder,) = reminders(scheduler.handle(Submit("r", plan_of(u="big"), {})))
    out = scheduler.handle(Cancel("r"))
    assert [one.status for one in out if isinstance(one, Ended)] == ["cancelled"]
    assert scheduler.handle(Reminded(reminder.key)) == []
    assert starts(scheduler.handle(Done(job.id, (None,), 1_000.0))) == {}
    assert scheduler._waiting == {} and scheduler._impatient == set()


def test_a_second_run_that_wants_the_same_waits_with_it() -> None:
    scheduler, job = occupied({"p.big": {"b": 100}}, 1.0)
    scheduler.handle(Submit("r", plan_of(u="big"), {}))
    out = scheduler.handle(Submit("s", plan_of(u="big"), {}))
    assert (starts(out), reminders(out)) == ({}, [])
    scheduler.handle(Cancel("r"))
    done = jobs(scheduler.handle(Done(job.id, (None,), 1_000.0)))
    assert done["u"].device == "a"
    out = scheduler.handle(Done(done["u"].id, (None,), 5.0))
    assert [(one.run, one.status) for one in out if isinstance(one, Ended)] == [("s", "succeeded")]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(1, 4))
def test_everything_ends_and_no_device_is_idle_for_longer_than_somebody_is_patient(
    seed: int, devices: int, runs: int
) -> None:
    """Jobs end, runs are cancelled and reminders come in any order; weights lie anywhere."""
    source = random.Random(seed)
    names = tuple(f"d{n}" for n in range(devices))
    scheduler = scheduler_of({}, names)
    scheduler.look = lambda job: {name: Sight(source.choice([0, 1, 50]), source.randrange(3)) for name in names}
    scheduler.lasted_ms.update({"p.big": 1_000.0, "p.small": 10.0})
    running: dict[int, Job] = {}
    asked: list[str] = []
    ended: list[str] = []

    def see(out: list[Instruction]) -> None:
        for one in out:
            if isinstance(one, Start):
                assert one.job.device in names
                assert one.job.device not in [job.device for job in running.values()], "one job at a time"
                running[one.job.id] = one.job
            elif isinstance(one, Remind):
                asked.append(one.key)
            elif isinstance(one, Ended):
                ended.append(one.run)

    for number in range(runs):
        types = {f"n{number}_{n}": source.choice(["big", "small"]) for n in range(source.randint(1, 6))}
        see(scheduler.handle(Submit(f"r{number}", plan_of(**types), {})))
    while running or asked or len(ended) < runs:
        assert running or asked, "somebody waits for nothing"
        if len(running) < devices and scheduler.lanes["device"].queue:
            raise AssertionError("a device is free and a step was not even asked")
        what = source.random()
        if asked and (what < 0.3 or not running):
            see(scheduler.handle(Reminded(asked.pop(source.randrange(len(asked))))))
            if not asked and len(running) < devices:
                assert not scheduler._waiting, "free devices, and nobody is patient any more"
        elif what < 0.35 and len(ended) < runs:
            see(scheduler.handle(Cancel(f"r{source.randrange(runs)}")))
        elif running:
            job = running.pop(source.choice(sorted(running)))
            dead = scheduler.jobs[job.id].dead
            see(scheduler.handle(Stopped(job.id) if dead else Done(job.id, (None,), 5.0)))
    assert sorted(ended) == sorted(f"r{number}" for number in range(runs))
    assert sorted(scheduler.lanes["device"].devices) == sorted(names)
    assert scheduler._waiting == {} and scheduler.jobs == {}

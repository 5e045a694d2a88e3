"""The tricky moments of the scheduler, one by one and by hand; random graphs are in tests/property."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from graph_engine import Effect, Grow, Needs, node
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.plan import Plan, make_plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule import scheduler as scheduler_module
from graph_engine.schedule.messages import (
    Accept,
    Cancel,
    Done,
    Drop,
    Ended,
    Event,
    Failed,
    GraceOver,
    Instruction,
    Job,
    Lost,
    Notify,
    Output,
    Pause,
    Resume,
    Start,
    Stop,
    Stopped,
    Submit,
)
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.schedule.steps import FREE_AT_ONCE
from graph_engine.store.artifacts import Shape
from tests.property.world import World

VALUE: Shape = (None,)


@node(id="s.step", needs=Needs(inline=True))
def step(a: int = 0, b: int = 0) -> int:
    return a + b


@node(id="s.long", needs=Needs(device=True))
def long(a: int = 0, b: int = 0) -> int: ...


@node(id="s.work")
def work(a: int = 0, b: int = 0) -> int: ...


@node(id="s.endless", needs=Needs(inline=True))
def endless(a: int) -> int:
    grow = Grow()
    return grow.returning(int=grow.add("s.endless", a=a + 1)["int"])  # type: ignore[return-value]


@node(id="s.write", effect=Effect.EXTERNAL)
def write(a: int = 0) -> int: ...


REGISTRY = Registry(f.node_type for f in (step, long, work, endless, write))  # type: ignore[attr-defined]


def plan(targets: list[str] | None = None, /, **nodes: tuple[str, dict[str, Any]]) -> Plan:
    """name=("type", {port: a number, or the name of the node it is linked to})"""
    entries = {}
    for name, (type, inputs) in nodes.items():
        values = {port: value for port, value in inputs.items() if not isinstance(value, str)}
        links = {port: f"{value}.int" for port, value in inputs.items() if isinstance(value, str)}
        entries[name] = {"type": f"s.{type}", "values": values, "links": links}
    document = parse({"format": "anyloom", "version": 1, "nodes": entries})
    return make_plan(resolve(document, REGISTRY, targets), lambda name: "")


def chain(length: int, first: int, type: str = "step") -> Plan:
    """c0 -> c1 -> ...; `first` makes it other work than other chains."""
    nodes: dict[str, Any] = {"c0": (type, {"a": first})}
    nodes |= {f"c{n}": (type, {"a": f"c{n - 1}", "b": first}) for n in range(1, length)}
    return plan([f"c{length - 1}"], **nodes)


class Desk:
    """A scheduler, and what it said so far."""

    def __init__(self, slots: int = 8, devices: tuple[str, ...] = ("cpu",), **options: Any) -> None:
        self.scheduler = Scheduler({"pool": slots, "async": slots, "inline": slots}, devices, **options)
        self.slots = slots
        self.said: list[Instruction] = []
        self.running: dict[int, Job] = {}
        self.started: list[tuple[str, str]] = []

    def tell(self, event: Event) -> list[Instruction]:
        answer = self.scheduler.handle(event)
        self.said += answer
        for one in answer:
            if isinstance(one, Start):
                for job in (one.job, *one.then):
                    assert job.id not in self.running
                    self.running[job.id] = job
                    self.started.append((job.run, job.node))
        return answer

    def submit(
        self, run: str, plan: Plan, priority: int = 0, present: Mapping[str, Shape] | None = None
    ) -> list[Instruction]:
        return self.tell(Submit(run, plan, present or {}, priority))

    def job(self, node: str, run: str | None = None) -> int:
        """The running job of this node."""
        (found,) = [id for id, job in self.running.items() if job.node == node and run in (None, job.run)]
        return found

    def done(self, node: str, run: str | None = None) -> list[Instruction]:
        job = self.job(node, run)
        del self.running[job]
        return self.tell(Done(job, VALUE))

    def all(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.said if isinstance(one, kind)]

    @property
    def status(self) -> dict[str, str]:
        ended = self.all(Ended)
        assert len({one.run for one in ended}) == len(ended), "a run ends once"
        return {one.run: one.status for one in ended}

    def events(self, run: str, node: str = "") -> list[str]:
        return [one.type for one in self.all(Notify) if one.run == run and (not node or one.node == node)]

    def finish(self) -> None:
        """Every job is done, oldest first."""
        while self.running:
            job = next(iter(self.running))
            del self.running[job]
            self.tell(Done(job, VALUE))

    def check_empty(self) -> None:
        scheduler = self.scheduler
        for left in (scheduler.runs, scheduler.tasks, scheduler.jobs, scheduler.holds, scheduler.known):
            assert not left
        assert {name: lane.slots for name, lane in scheduler.lanes.items() if name != "device"} == dict.fromkeys(
            ("pool", "async", "inline"), self.slots
        )


def key_of(plan: Plan, name: str) -> str:
    return next(step.key for step in plan.steps if step.node == name)


# --- P3: one result per step --------------------------------------------------------------------------------------------

LATE = [
    lambda job: Done(job, VALUE),
    lambda job: Failed(job, {"code": "late", "message": "late"}),
    lambda job: Failed(job, {"code": "late", "message": "late"}, True),
    lambda job: Stopped(job),
    lambda job: Lost(job, ("some key",)),
    lambda job: GraceOver(job),
]


@pytest.mark.law("P3")
@pytest.mark.parametrize("late", LATE, ids=["done", "failed", "retryable", "stopped", "lost", "grace"])
def test_a_doubled_report_changes_nothing(late: Any) -> None:
    desk = Desk(slots=1)
    desk.submit("r", plan(a=("step", {}), b=("step", {"a": "a"})))
    job = desk.job("a")
    desk.done("a")
    assert desk.tell(late(job)) == []
    assert desk.tell(late(10**6)) == []
    desk.done("b")
    assert desk.tell(late(job)) == []
    assert desk.status == {"r": "succeeded"}
    assert desk.started == [("r", "a"), ("r", "b")]
    desk.check_empty()


@pytest.mark.law("P3")
@pytest.mark.parametrize("late", LATE[:5], ids=["done", "failed", "retryable", "stopped", "lost"])
def test_a_report_after_the_cancel_only_frees_its_place(late: Any) -> None:
    desk = Desk(slots=1)
    desk.submit("r", plan(a=("step", {}), b=("step", {"a": "a"})))
    job = desk.job("a")
    assert Stop(job) in desk.tell(Cancel("r"))
    assert desk.status == {}
    answer = desk.tell(late(job))
    assert desk.status == {"r": "cancelled"}
    assert not [one for one in answer if isinstance(one, Start | Output | Notify)]
    assert desk.tell(late(job)) == []
    assert desk.started == [("r", "a")]
    desk.check_empty()


@pytest.mark.law("P3")
def test_a_result_of_a_cancelled_run_serves_nobody_by_accident() -> None:
    """The same work asked for again while the old attempt still runs is another attempt."""
    desk = Desk()
    work = plan(a=("step", {}))
    desk.submit("old", work)
    old = desk.job("a", "old")
    desk.tell(Cancel("old"))
    desk.submit("new", work)
    new = desk.job("a", "new")
    assert new != old
    desk.tell(Done(old, VALUE))
    assert "new" not in desk.status
    desk.tell(Done(new, VALUE))
    assert desk.status == {"old": "cancelled", "new": "succeeded"}
    desk.check_empty()


@pytest.mark.law("P3")
def test_cancel_and_submit_twice_are_once() -> None:
    desk = Desk()
    work = plan(a=("step", {}))
    desk.submit("r", work)
    assert desk.submit("r", work) == []
    desk.tell(Cancel("r"))
    assert desk.tell(Cancel("r")) == []
    assert desk.tell(Cancel("nobody")) == []
    desk.tell(Stopped(desk.job("a")))
    assert desk.tell(Cancel("r")) == []
    assert desk.events("r").count("cancelled") == 1
    desk.check_empty()


# --- stopping -----------------------------------------------------------------------------------------------------------


@pytest.mark.law("P4")
def test_when_the_grace_is_over_the_run_ends_and_its_place_stays_taken() -> None:
    desk = Desk(slots=1)
    desk.submit("r", plan(a=("step", {})))
    stuck = desk.job("a")
    desk.tell(Cancel("r"))
    desk.tell(GraceOver(stuck))
    assert desk.status == {"r": "cancelled"}
    desk.submit("next", plan(z=("step", {"a": 9})))
    assert ("next", "z") not in desk.started
    desk.tell(Done(stuck, VALUE))
    assert ("next", "z") in desk.started
    desk.done("z")
    desk.check_empty()


def test_what_has_not_begun_is_not_stopped_but_forgotten() -> None:
    desk = Desk(slots=1)
    desk.submit("r", plan(["a", "b"], a=("step", {"a": 1}), b=("step", {"a": 2})))
    desk.tell(Cancel("r"))
    assert [one.job for one in desk.all(Stop)] == [desk.job("a")]
    desk.tell(Stopped(desk.job("a")))
    assert desk.started == [("r", "a")]
    assert desk.status == {"r": "cancelled"}
    desk.check_empty()


def test_a_job_that_two_runs_want_is_stopped_with_the_second() -> None:
    desk = Desk()
    work = plan(a=("step", {}))
    desk.submit("first", work)
    desk.submit("second", work)
    assert len(desk.started) == 1
    desk.tell(Cancel("first"))
    assert desk.status == {"first": "cancelled"}
    assert desk.all(Stop) == []
    desk.tell(Cancel("second"))
    assert [one.job for one in desk.all(Stop)] == [desk.job("a")]
    desk.tell(Stopped(desk.job("a")))
    assert desk.status == {"first": "cancelled", "second": "cancelled"}
    desk.check_empty()


def test_a_device_comes_back_with_its_job() -> None:
    desk = Desk(devices=("cuda:0", "cuda:1"))
    desk.submit("r", plan(list("abc"), a=("long", {"a": 1}), b=("long", {"a": 2}), c=("long", {"a": 3})))
    assert sorted(job.device for job in desk.running.values()) == ["cuda:0", "cuda:1"]
    freed = desk.running[desk.job("a")].device
    desk.done("a")
    assert desk.running[desk.job("c")].device == freed
    desk.finish()
    assert sorted(desk.scheduler.lanes["device"].devices) == ["cuda:0", "cuda:1"]
    desk.check_empty()


# --- failures -----------------------------------------------------------------------------------------------------------

ERROR = {"code": "no_good", "message": "no good"}


@pytest.mark.law("P6")
def test_a_failure_blocks_its_readers_and_nobody_else() -> None:
    desk = Desk()
    work = plan(
        ["end", "left"],
        bad=("step", {"a": 1}), good=("step", {"a": 2}), mid=("step", {"a": "bad"}), end=("step", {"a": "mid", "b": "good"}),
        left=("step", {"a": "good"}),
    )  # fmt: skip
    desk.submit("r", work)
    desk.tell(Failed(desk.job("bad"), ERROR))
    del desk.running[desk.job("bad")]
    desk.finish()
    assert desk.status == {"r": "partial"}
    assert desk.events("r", "mid") == desk.events("r", "end") == ["blocked"]
    assert [one.data["by"] for one in desk.all(Notify) if one.type == "blocked"] == ["bad", "bad"]
    assert desk.all(Ended)[0].errors == [{**ERROR, "node": "bad"}]
    assert [one.node for one in desk.all(Output)] == ["left"]
    desk.check_empty()


def test_a_retry_keeps_everybody_who_waits() -> None:
    desk = Desk()
    desk.submit("first", plan(a=("step", {}), b=("step", {"a": "a"})))
    desk.submit("second", plan(x=("step", {}), y=("step", {"a": "x"})))
    for attempt in (2, 3):
        job = next(iter(desk.running))
        assert desk.running.pop(job).attempt == attempt - 1
        desk.tell(Failed(job, ERROR, True))
        for run, name in (("first", "a"), ("second", "x")):
            told = [one.data for one in desk.all(Notify) if (one.run, one.node, one.type) == (run, name, "retrying")]
            assert told[-1] == {"attempt": attempt, "error": ERROR}
    desk.finish()
    assert desk.status == {"first": "succeeded", "second": "succeeded"}
    desk.check_empty()


@pytest.mark.law("P14")
def test_attempts_are_limited() -> None:
    desk = Desk(max_attempts=3)
    work = plan(a=("step", {}))
    desk.submit("first", work)
    desk.submit("second", work)
    for _ in range(3):
        job = next(iter(desk.running))
        del desk.running[job]
        desk.tell(Failed(job, ERROR, True))
    assert desk.running == {}
    assert desk.status == {"first": "failed", "second": "failed"}
    desk.check_empty()


def test_cancelled_between_two_attempts() -> None:
    desk = Desk(slots=1)
    desk.submit("r", plan(a=("step", {"a": 1})))
    desk.submit("other", plan(z=("step", {"a": 2})))
    job = desk.job("a")
    del desk.running[job]
    desk.tell(Failed(job, ERROR, True))
    waiting = {"a", "z"} - {job.node for job in desk.running.values()}
    run = "r" if waiting == {"a"} else "other"
    desk.tell(Cancel(run))
    assert desk.status == {run: "cancelled"}
    desk.finish()
    desk.check_empty()


# --- values that were thought present -------------------------------------------------------------------------------------


def test_what_is_present_is_not_asked_for_again() -> None:
    work = plan(a=("step", {"a": 1}), b=("step", {"a": "a"}), c=("step", {"a": "b"}))
    desk = Desk()
    desk.submit("r", work, present={key_of(work, "b"): VALUE})
    assert desk.started == [("r", "c")]
    cached = [one.data["nodes"] for one in desk.all(Notify) if one.type == "cached"]
    assert cached == [["b"]]
    desk.finish()
    desk.check_empty()
    whole = Desk()
    whole.submit("r", work, present={key_of(work, "c"): VALUE})
    assert (whole.started, whole.status) == ([], {"r": "succeeded"})
    whole.check_empty()


def test_what_turns_out_to_be_gone_is_computed_again() -> None:
    work = plan(a=("step", {"a": 1}), b=("step", {"a": "a"}), c=("step", {"a": "b"}))
    gone = key_of(work, "b")
    desk = Desk(slots=1)
    desk.submit("r", work, present={gone: VALUE})
    lost = desk.job("c")
    del desk.running[lost]
    desk.tell(Lost(lost, (gone,)))
    assert desk.started[1:] == [("r", "a")]
    desk.done("a")
    desk.done("b")
    desk.done("c")
    assert desk.started == [("r", name) for name in "cabc"]
    assert desk.status == {"r": "succeeded"}
    assert desk.tell(Lost(lost, (gone,))) == []
    desk.check_empty()


def test_what_two_runs_lost_is_computed_once() -> None:
    work = plan(a=("step", {"a": 1}), b=("step", {"a": "a"}))
    gone = key_of(work, "a")
    desk = Desk()
    desk.submit("first", work, present={gone: VALUE})
    desk.submit("second", work, present={gone: VALUE})
    lost = desk.job("b")
    del desk.running[lost]
    desk.tell(Lost(lost, (gone,)))
    assert [node for _, node in desk.started] == ["b", "a"]
    desk.finish()
    assert desk.status == {"first": "succeeded", "second": "succeeded"}
    desk.check_empty()


def test_values_are_dropped_after_their_last_reader() -> None:
    work = plan(a=("step", {"a": 1}), b=("step", {"a": "a"}), c=("step", {"a": "a", "b": "b"}), d=("step", {"a": "c"}))
    desk = Desk()
    desk.submit("r", work)
    dropped = []
    for name in "abcd":
        answer = desk.done(name)
        dropped.append([one.key for one in answer if isinstance(one, Drop)])
    assert dropped == [[], [], [key_of(work, "a"), key_of(work, "b")], [key_of(work, "c"), key_of(work, "d")]]
    desk.check_empty()


# --- who goes first -------------------------------------------------------------------------------------------------------


def turns(desk: Desk, count: int) -> list[str]:
    """Which run each of the next jobs belongs to, on one slot."""
    found = []
    for _ in range(count):
        (job,) = desk.running.values()
        found.append(job.run)
        desk.done(job.node, job.run)
    return found


def test_two_runs_of_a_hundred_steps_take_turns() -> None:
    desk = Desk(slots=1)
    desk.submit("A", chain(100, 1))
    desk.submit("B", chain(100, 2))
    order = turns(desk, 200)
    for at in range(0, 198):
        assert len(set(order[at : at + 3])) == 2, f"one run had three turns in a row from {at}: {order[at : at + 3]}"
    assert desk.status == {"A": "succeeded", "B": "succeeded"}
    desk.check_empty()


def test_a_wide_run_and_a_narrow_one_take_turns() -> None:
    desk = Desk(slots=1)
    wide = {f"w{n}": ("step", {"a": n}) for n in range(100)}
    desk.submit("wide", plan(list(wide), **wide))
    desk.submit("narrow", chain(40, 1_000))
    order = turns(desk, 80)
    assert abs(order.count("narrow") - 40) <= 2
    desk.finish()
    desk.check_empty()


def test_a_late_run_neither_waits_nor_is_made_up_to() -> None:
    desk = Desk(slots=1)
    desk.submit("early", chain(200, 1))
    turns(desk, 100)
    desk.submit("late", chain(100, 2))
    order = turns(desk, 100)
    assert order[:6].count("late") >= 2, "the late run waits"
    assert 45 <= order.count("early") <= 55, "the late run is paid for the time it was not there"
    desk.finish()
    desk.check_empty()


def test_a_share_of_one_lane_is_no_debt_in_another() -> None:
    """Work on the loop costs microseconds; it must not put a run behind in the queue for the device."""
    desk = Desk(slots=1)
    inline: dict[str, Any] = {"c0": ("step", {"a": 5})} | {f"c{n}": ("step", {"a": f"c{n - 1}"}) for n in range(1, 300)}
    inline |= {f"d{n}": ("long", {"a": "c299", "b": n}) for n in range(20)}
    wide = {f"w{n}": ("long", {"b": 100 + n}) for n in range(100)}
    desk.submit("device", plan(list(wide), **wide))
    desk.submit("mixed", plan([f"d{n}" for n in range(20)], **inline))
    while on_loop := [job for job in desk.running.values() if job.type.lane == "inline"]:
        desk.done(on_loop[0].node, on_loop[0].run)
    order = turns(desk, 30)
    assert order.count("mixed") >= 14, order
    desk.finish()
    desk.check_empty()


def test_priority_goes_first_and_does_not_take_back_what_runs() -> None:
    desk = Desk(slots=1)
    desk.submit("low", chain(3, 1), priority=0)
    desk.submit("high", chain(3, 2), priority=5)
    assert turns(desk, 6) == ["low", "high", "high", "high", "low", "low"]
    desk.check_empty()


def test_a_shared_step_goes_at_the_highest_priority_of_those_who_wait() -> None:
    desk = Desk(slots=1)
    shared = ("step", {"a": 77})
    desk.submit("busy", plan(x=("step", {"a": 1})))
    desk.submit("low", plan(["s"], s=shared), priority=-5)
    desk.submit("middle", plan(["m"], m=("step", {"a": 2})))
    desk.submit("high", plan(["other"], other=shared), priority=5)
    desk.done("x")
    (job,) = desk.running.values()
    assert job.key == key_of(plan(["s"], s=shared), "s")
    desk.tell(Done(job.id, VALUE))
    assert desk.status == {"busy": "succeeded", "low": "succeeded", "high": "succeeded"}
    desk.running.pop(job.id)
    desk.finish()
    desk.check_empty()


def test_a_shared_step_keeps_its_priority_through_a_retry() -> None:
    desk = Desk(slots=1)
    shared = ("step", {"a": 77})
    desk.submit("low", plan(["s"], s=shared), priority=-5)
    desk.submit("high", plan(["other"], other=shared), priority=5)
    desk.submit("middle", plan(["m"], m=("step", {"a": 2})))
    (job,) = desk.running.values()
    desk.running.clear()
    desk.tell(Failed(job.id, ERROR, True))
    (again,) = desk.running.values()
    assert again.key == job.key
    desk.finish()
    desk.check_empty()


def test_within_a_run_the_plans_order_is_kept() -> None:
    desk = Desk(slots=1)
    work = plan(
        ["e1", "e2"], t=("step", {"a": 1}), b1=("step", {"a": "t", "b": 1}), b2=("step", {"a": "t", "b": 2}),
        e1=("step", {"a": "b1"}), e2=("step", {"a": "b2"}),
    )  # fmt: skip
    desk.submit("r", work)
    desk.finish()
    assert [node for _, node in desk.started] == ["t", "b1", "e1", "b2", "e2"]
    desk.check_empty()


# --- large runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.law("P10")
def test_a_large_run_is_asked_for_in_pieces_between_which_others_have_their_turn() -> None:
    desk = Desk()
    size = scheduler_module.ASK_AT_ONCE * 2 + 500
    answer = desk.submit("large", chain(size, 1))
    assert [one for one in answer if isinstance(one, Pause)] == [Pause()]
    assert not desk.started
    desk.submit("small", plan(z=("step", {"a": 2})))
    assert desk.started == [("small", "z")]
    pieces = 1
    while not any(run == "large" for run, _ in desk.started):
        assert any(isinstance(one, Pause) for one in desk.said)
        desk.tell(Resume())
        pieces += 1
        assert pieces < 10
    assert pieces >= 2
    desk.finish()
    assert desk.status == {"large": "succeeded", "small": "succeeded"}
    for _ in range(size // FREE_AT_ONCE + 1):  # the states of the large run are freed in pieces, too
        assert set(map(type, desk.tell(Resume()))) <= {Pause}
    assert desk.tell(Resume()) == []
    desk.check_empty()


@pytest.mark.law("P10")
def test_a_large_run_can_be_cancelled_while_it_is_asked_for() -> None:
    desk = Desk()
    desk.submit("large", chain(scheduler_module.ASK_AT_ONCE * 2, 1))
    desk.tell(Cancel("large"))
    assert desk.status == {"large": "cancelled"}
    for _ in range(5):
        desk.tell(Resume())
    assert desk.started == []
    desk.check_empty()


@pytest.mark.law("P14")
def test_a_loop_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_GROWTH", 25)

    async def scenario() -> None:
        world = World(REGISTRY, "none", random.Random(1))
        nodes = {"loop": {"type": "s.endless", "values": {"a": 0}}, "fine": {"type": "s.step", "values": {"a": 1}}}
        world.submit("r", {"format": "anyloom", "version": 1, "nodes": nodes, "targets": ["loop", "fine"]})
        await asyncio.wait_for(world.settle(), 30)
        assert world.status == {"r": "partial"}
        failed = [event for event in world.events("r") if event.type == "failed"]
        assert failed[0].data["error"]["code"] == "growth_without_end"
        assert "25 graphs" in failed[0].data["error"]["message"]
        assert sum(world.calls.values()) < 40
        assert all(len(event.node) < 400 for event in world.events("r"))
        world.check_empty()

    asyncio.run(scenario())


def test_a_step_with_an_effect_waits_for_the_acceptance_and_its_siblings_do_not() -> None:
    desk = Desk()
    work = plan(None, a=("work", {"a": 1}), b=("write", {"a": "a"}), c=("work", {"a": 2}))
    desk.tell(Submit("r", work, {}, accepted=False))
    desk.finish()
    assert [name for _, name in desk.started] == ["a", "c"]
    assert "r" not in desk.status
    desk.tell(Accept("r"))
    desk.finish()
    assert [name for _, name in desk.started] == ["a", "c", "b"]
    assert desk.status == {"r": "succeeded"}
    desk.tell(Accept("r"))
    desk.check_empty()


def test_a_run_that_is_never_accepted_can_be_cancelled() -> None:
    desk = Desk()
    desk.tell(Submit("r", plan(None, b=("write", {"a": 1})), {}, accepted=False))
    desk.tell(Cancel("r"))
    assert desk.status == {"r": "cancelled"}
    assert not desk.started
    desk.check_empty()

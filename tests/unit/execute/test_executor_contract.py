"""What every executor promises, whatever its hands are: to add one, add its factory to `FACTORIES`."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worker_pack.contract_nodes import (
    awaits_what_is_cancelled,
    crowd,
    deaf,
    exits,
    fails,
    for_ever,
    grows,
    in_a_task,
    needs_more,
    patient,
    plain,
    quick,
    scratching,
    skips,
)
from worker_pack.contract_nodes import (
    gate as stays,
)
from works import context_of, typed, work

from graph_engine import Grow, Need, Needs
from graph_engine.execute.executor import (
    Coming,
    Executor,
    Interrupted,
    NotBegun,
    Outputs,
    Raised,
    Report,
    ReportTo,
    Work,
)
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.worker import Recipe, WorkerExecutor
from graph_engine.execute.worker_models import Fleet
from graph_engine.models.catalog import Catalog

POOL = 4
DEVICES = ("cpu", "cpu:1")
DEVICE = Needs(device=True)
RECIPE = Recipe(custom_nodes=(Path(__file__).parent / "worker_pack",))
FACTORIES: dict[str, Callable[[ReportTo], Executor]] = {
    "local": lambda report: LocalExecutor(DEVICES, POOL, report),
    "worker": lambda report: WorkerExecutor(DEVICES, POOL, report, RECIPE, Fleet(Catalog(), {})),
}
ENDS_WHAT_HANGS = {"worker"}
"""Executors that end a job that does not stop, instead of going on without it."""


class Watched:
    """An executor and what it reported."""

    def __init__(self, make: Callable[[ReportTo], Executor]) -> None:
        self.reports: dict[int, list[Report]] = {}
        self.order: list[int] = []
        self.lock = threading.Lock()
        self.started: list[int] = []
        self.executor = make(self.report)
        self.ends_what_hangs = make in [FACTORIES[name] for name in ENDS_WHAT_HANGS]

    def report(self, job: int, report: Report) -> None:
        with self.lock:
            self.reports.setdefault(job, []).append(report)
            self.order.append(job)

    def start(self, *works: Work) -> list[int]:
        for one in works:
            self.started += [one.job.id, *(then.job.id for then in one.then)]
            self.executor.start(one)
        return [one.job.id for one in works]

    async def all_reported(self, timeout_s: float = 20.0) -> None:
        until = time.monotonic() + timeout_s
        while set(self.started) - set(self.reports) and time.monotonic() < until:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.01)
        assert set(self.started) == set(self.reports)
        assert {job: len(reports) for job, reports in self.reports.items()} == dict.fromkeys(self.started, 1)

    async def reported(self, job: int) -> Report:
        until = time.monotonic() + 20
        while job not in self.reports:
            assert time.monotonic() < until, "no report"
            await asyncio.sleep(0.002)
        return self.reports[job][0]


@pytest_asyncio.fixture(params=FACTORIES)
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    found = Watched(FACTORIES[request.param])
    yield found
    await found.executor.close()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


# --- nodes ------------------------------------------------------------------------------------------------------------


class Gate:
    """A job that says when it is in and stays until it is let out."""

    def __init__(self, folder: Path) -> None:
        self.place = Path(tempfile.mkdtemp(dir=folder))

    def work(self, device: str = "", **options: Any) -> Work:
        return work(typed(stays, **options), device=device, place=str(self.place))

    async def entered(self) -> None:
        await until((self.place / "inside").exists)

    def open(self) -> None:
        (self.place / "out").touch()


class Crowd:
    """Jobs of which is counted how many run at the same time, and in which order they came."""

    def __init__(self, folder: Path, seconds: float = 0.01) -> None:
        self.place, self.seconds = Path(tempfile.mkdtemp(dir=folder)) / "lines", seconds

    def works(self, numbers: Iterable[int], **options: Any) -> list[Work]:
        type = typed(crowd, **options)
        return [work(type, number=number, place=str(self.place), seconds=self.seconds) for number in numbers]

    @property
    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.place.read_text().splitlines()] if self.place.exists() else []

    @property
    def order(self) -> list[int]:
        return [int(number) for what, number in self.lines if what == "in"]

    @property
    def most(self) -> int:
        return max(accumulate(1 if what == "in" else -1 for what, _ in self.lines))


PLAIN, IN_A_TASK, FOR_EVER, PATIENT = typed(plain), typed(in_a_task), typed(for_ever), typed(patient)
ON_DEVICE = typed(plain, needs=DEVICE)
INLINE = typed(plain, needs=Needs(inline=True))
EVERY_LANE = [PLAIN, IN_A_TASK, ON_DEVICE, INLINE]


# --- reports ------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (fails, Raised),
        (exits, Raised),
        (needs_more, Need),
        (grows, Grow),
        (skips, Outputs),
        (awaits_what_is_cancelled, Raised),
    ],
)
@pytest.mark.parametrize("needs", [Needs(), DEVICE, Needs(inline=True)], ids=["pool", "device", "inline"])
async def test_every_end_is_reported_once(watched: Watched, function: Any, kind: type, needs: Needs) -> None:
    watched.start(work(typed(function, needs=needs)), work(typed(function, needs=needs)))
    await watched.all_reported()
    for reports in watched.reports.values():
        assert isinstance(reports[0], kind)


@pytest.mark.asyncio
@pytest.mark.parametrize("type", EVERY_LANE, ids=lambda type: type.lane)
async def test_values_come_back(watched: Watched, type: Any) -> None:
    jobs = watched.start(*[work(type, a=number) for number in range(20)])
    await watched.all_reported()
    assert [watched.reports[job][0].values for job in jobs] == [(number,) for number in range(20)]  # type: ignore[union-attr]


@pytest.mark.asyncio
async def test_start_returns_at_once(watched: Watched, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    began = time.monotonic()
    watched.start(gate.work(), gate.work(needs=DEVICE), work(FOR_EVER))
    assert time.monotonic() - began < 0.5
    gate.open()


@pytest.mark.asyncio
async def test_a_failure_harms_no_later_job(watched: Watched) -> None:
    for _ in range(20):
        watched.start(work(typed(exits)), work(typed(exits, needs=DEVICE)))
    await watched.all_reported()
    (job,) = watched.start(work(ON_DEVICE, a=3))
    assert isinstance(await watched.reported(job), Outputs)


@pytest.mark.asyncio
async def test_jobs_that_follow_are_reported_each(watched: Watched) -> None:
    first = work(PLAIN, a=1)
    thens = tuple(work(PLAIN)._replace(inputs={"a": Coming(0)}) for _ in range(3))
    watched.start(first._replace(then=thens))
    bad = tuple(work(PLAIN)._replace(inputs={"a": Coming(0)}) for _ in range(2))
    watched.start(work(typed(fails))._replace(then=bad))
    await watched.all_reported()
    assert isinstance(watched.reports[first.job.id][0], Outputs)
    for then in thens:  # as many as there was time for, none of them wrongly
        report = watched.reports[then.job.id][0]
        assert isinstance(report, NotBegun) or (isinstance(report, Outputs) and report.values == (1,))
    assert [watched.reports[one.job.id] for one in bad] == [[NotBegun()], [NotBegun()]]


# --- stop -----------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("type", EVERY_LANE, ids=lambda type: type.lane)
async def test_stopped_before_it_was_started_it_does_not_run(watched: Watched, type: Any, tmp_path: Path) -> None:
    """Its values were still being read from the disk, say."""
    crowd = Crowd(tmp_path)
    given = crowd.works([1], needs=type.needs)[0] if not type.is_async else work(FOR_EVER)
    follower = work(PLAIN)._replace(inputs={"number": Coming(0)})
    watched.executor.stop(given.job.id)
    watched.start(given._replace(then=(follower,) if type.lane == "pool" else ()))
    assert await watched.reported(given.job.id) == Interrupted()
    await watched.all_reported()
    assert crowd.order == []


@pytest.mark.asyncio
async def test_stopped_while_it_waits_for_its_lane_it_does_not_run(watched: Watched, tmp_path: Path) -> None:
    gate, crowd = Gate(tmp_path), Crowd(tmp_path)
    watched.start(gate.work(needs=DEVICE))
    await gate.entered()
    waiting, other = watched.start(*crowd.works([1, 2], needs=DEVICE))
    watched.executor.stop(waiting)
    gate.open()
    await watched.all_reported()
    assert watched.reports[waiting] == [Interrupted()]
    assert isinstance(watched.reports[other][0], Outputs)
    assert crowd.order == [2]


@pytest.mark.asyncio
async def test_an_async_job_stopped_before_its_first_step_is_reported(watched: Watched) -> None:
    (job,) = watched.start(work(FOR_EVER))
    watched.executor.stop(job)
    assert await watched.reported(job) == Interrupted()
    await watched.all_reported()


@pytest.mark.asyncio
async def test_an_async_job_ends_where_it_waits(watched: Watched) -> None:
    (job,) = watched.start(work(FOR_EVER))
    await asyncio.sleep(0.01)
    watched.executor.stop(job)
    assert await watched.reported(job) == Interrupted()


@pytest.mark.asyncio
async def test_an_async_job_that_does_not_listen_ends_by_itself(watched: Watched) -> None:
    (job,) = watched.start(work(typed(deaf), seconds=0.1))
    await asyncio.sleep(0.01)
    watched.executor.stop(job)
    report = await watched.reported(job)
    assert isinstance(report, Outputs)
    assert report.values == (7,)


@pytest.mark.asyncio
@pytest.mark.law("P4")
@pytest.mark.parametrize("needs", [Needs(), DEVICE], ids=["pool", "device"])
async def test_a_running_job_ends_at_its_next_check(watched: Watched, tmp_path: Path, needs: Needs) -> None:
    given = work(typed(patient, needs=needs))
    watched.start(given._replace(context=context_of(given.job, tmp_path, lambda *_: None)))
    await asyncio.sleep(0.03)
    assert not watched.reports
    began = time.monotonic()
    watched.executor.stop(given.job.id)
    assert await watched.reported(given.job.id) == Interrupted()
    assert time.monotonic() - began < 2


@pytest.mark.asyncio
@pytest.mark.parametrize("type", EVERY_LANE, ids=lambda type: type.lane)
async def test_stopped_after_its_end_or_twice_changes_nothing(watched: Watched, type: Any) -> None:
    (job,) = watched.start(work(type, a=1))
    await watched.reported(job)
    for _ in range(3):
        watched.executor.stop(job)
    watched.executor.stop(10**9)
    watched.executor.abandon(job)
    watched.executor.abandon(10**9)
    (other,) = watched.start(work(type, a=2))
    assert isinstance(await watched.reported(other), Outputs)
    await watched.all_reported()


@pytest.mark.asyncio
@pytest.mark.parametrize("needs", [Needs(), DEVICE], ids=["pool", "device"])
async def test_a_context_is_given_back_before_the_report(watched: Watched, tmp_path: Path, needs: Needs) -> None:
    given = work(typed(scratching, needs=needs))
    watched.start(given._replace(context=context_of(given.job, tmp_path, lambda *_: None)))
    report = await watched.reported(given.job.id)
    assert isinstance(report, Outputs)
    assert not Path(report.values[0]).exists()


# --- lanes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_device_takes_one_job_at_a_time_in_order(watched: Watched, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, 0.002)
    watched.start(*crowd.works(range(30), needs=DEVICE))
    await watched.all_reported()
    assert crowd.most == 1
    assert crowd.order == list(range(30))
    assert watched.order == watched.started


@pytest.mark.asyncio
async def test_devices_work_side_by_side(watched: Watched, tmp_path: Path) -> None:
    gates = [Gate(tmp_path), Gate(tmp_path)]
    watched.start(*[gate.work(device, needs=DEVICE) for gate, device in zip(gates, DEVICES, strict=True)])
    for gate in gates:
        await gate.entered()
    for gate in gates:
        gate.open()
    await watched.all_reported()


@pytest.mark.asyncio
async def test_the_pool_works_side_by_side_up_to_its_size(watched: Watched, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, 0.05)
    assert watched.executor.lanes["pool"] == POOL
    watched.start(*crowd.works(range(3 * POOL)))
    await watched.all_reported()
    assert crowd.most == POOL


@pytest.mark.asyncio
async def test_a_long_job_keeps_no_short_one_waiting(watched: Watched, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    watched.start(gate.work())
    await gate.entered()
    for number in range(20):
        (job,) = watched.start(work(PLAIN, a=number))
        await watched.reported(job)
    gate.open()
    await watched.all_reported()


@pytest.mark.asyncio
async def test_thousands_of_async_jobs_wait_together(watched: Watched) -> None:
    of = typed(deaf)
    began = time.monotonic()
    watched.start(*[work(of, seconds=0.2) for _ in range(500)])
    await watched.all_reported()
    assert time.monotonic() - began < 10


# --- abandon --------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.law("P4")
async def test_a_lane_goes_on_without_a_job_that_hangs(watched: Watched, tmp_path: Path) -> None:
    gates = [Gate(tmp_path) for _ in range(5)]
    for number, gate in enumerate(gates):
        (stuck,) = watched.start(gate.work(needs=DEVICE))
        await gate.entered()
        watched.executor.stop(stuck)
        watched.executor.abandon(stuck)
        (job,) = watched.start(work(ON_DEVICE, a=number))
        report = await watched.reported(job)
        assert isinstance(report, Outputs)
        if watched.ends_what_hangs:
            assert watched.reports[stuck] == [Interrupted()]
        else:
            assert stuck not in watched.reports
    for gate in gates:
        gate.open()
    await watched.all_reported()


@pytest.mark.asyncio
async def test_what_waited_behind_a_job_that_hangs_is_done(watched: Watched, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    (stuck,) = watched.start(gate.work(needs=DEVICE))
    await gate.entered()
    (behind,) = watched.start(work(ON_DEVICE, a=1))
    watched.executor.abandon(stuck)
    assert isinstance(await watched.reported(behind), Outputs)
    gate.open()
    await watched.all_reported()


@pytest.mark.asyncio
async def test_after_an_abandoned_job_came_back_its_lane_is_as_before(watched: Watched, tmp_path: Path) -> None:
    """Many times over, because threads that end give their numbers to threads that begin; processes take longer."""
    for _ in range(3 if watched.ends_what_hangs else 30):
        gate = Gate(tmp_path)
        (stuck,) = watched.start(gate.work(needs=DEVICE))
        await gate.entered()
        watched.executor.abandon(stuck)
        gate.open()
        await watched.reported(stuck)
        for number in range(3):
            (job,) = watched.start(work(ON_DEVICE, a=number))
            assert isinstance(await watched.reported(job), Outputs)
    crowd = Crowd(tmp_path, 0.002)
    watched.start(*crowd.works(range(20), needs=DEVICE))
    await watched.all_reported()
    assert (crowd.most, crowd.order) == (1, list(range(20)))


# --- close ----------------------------------------------------------------------------------------------------------------


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("anyloom")}


@pytest.mark.asyncio
@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
async def test_close_ends_everything(make: Callable[[ReportTo], Executor], tmp_path: Path) -> None:
    before = ours()
    watched, crowd = Watched(make), Crowd(tmp_path, 0.2)
    given = work(PATIENT)
    watched.start(given._replace(context=context_of(given.job, tmp_path, lambda *_: None)))
    watched.start(*crowd.works(range(POOL + 3)))
    watched.start(work(FOR_EVER), work(FOR_EVER))
    watched.start(*[work(ON_DEVICE, a=1) for _ in range(3)])
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await watched.executor.close()
    assert time.monotonic() - began < 3
    assert ours() - before == set()
    await watched.all_reported()
    assert len(crowd.order) <= POOL, "what had not begun must not begin"
    assert watched.reports[given.job.id] == [Interrupted()]


@pytest.mark.asyncio
@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
@pytest.mark.parametrize("needs", [Needs(), DEVICE], ids=["pool", "device"])
async def test_close_does_not_wait_for_ever(make: Callable[[ReportTo], Executor], needs: Needs, tmp_path: Path) -> None:
    watched, gate = Watched(make), Gate(tmp_path)
    watched.start(*[gate.work(needs=needs) for _ in range(POOL)])
    await gate.entered()
    began = time.monotonic()
    await watched.executor.close()
    assert time.monotonic() - began < 4
    gate.open()
    await watched.all_reported()


@pytest.mark.asyncio
@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
async def test_an_idle_executor_has_no_threads(make: Callable[[ReportTo], Executor]) -> None:
    before = ours()
    watched = Watched(make)
    assert ours() == before
    await watched.executor.close()


# --- everything at once -----------------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["plain", "device", "device2", "inline", "async", "sleep", "for ever", "patient", "exits"]),
        st.sampled_from(["leave", "leave", "leave", "stop", "stop later", "stop before", "abandon"]),
    ),
    min_size=20,
    max_size=80,
)


CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@settings(max_examples=12, **CALM)
@given(script=ACTIONS, seed=st.integers(0, 2**32))
def test_whatever_happens_each_job_is_reported_once(tmp_path: Path, script: list[tuple[str, str]], seed: int) -> None:
    whatever_happens(FACTORIES["local"], tmp_path, script, seed)


@settings(max_examples=4, **CALM)
@given(script=ACTIONS, seed=st.integers(0, 2**32))
def test_whatever_happens_to_processes_each_job_is_reported_once(
    tmp_path: Path, script: list[tuple[str, str]], seed: int
) -> None:
    """Fewer, because every job that is given up costs a process."""
    whatever_happens(FACTORIES["worker"], tmp_path, script, seed)


def whatever_happens(
    make: Callable[[ReportTo], Executor], tmp_path: Path, script: list[tuple[str, str]], seed: int
) -> None:
    source = random.Random(seed)
    kinds = {
        "plain": PLAIN, "device": ON_DEVICE, "device2": ON_DEVICE, "inline": INLINE, "async": IN_A_TASK,
        "sleep": typed(quick), "for ever": FOR_EVER, "patient": PATIENT, "exits": typed(exits),
    }  # fmt: skip

    async def scenario() -> None:
        watched = Watched(make)
        later: list[int] = []
        for what, then in script * 3:
            literals = {"a": 1} if kinds[what].by_name else {}
            given = work(kinds[what], device=DEVICES[1] if what == "device2" else "", **literals)
            if kinds[what].context_name:
                given = given._replace(context=context_of(given.job, tmp_path, lambda *_: None))
            if then == "stop before":
                watched.executor.stop(given.job.id)
            watched.start(given)
            endless = what in ("for ever", "patient")
            if then == "stop" or (endless and then == "abandon"):
                watched.executor.stop(given.job.id)
            if then == "abandon":
                watched.executor.abandon(given.job.id)
            if then == "stop later" or endless:
                later.append(given.job.id)
            if source.random() < 0.2:
                await asyncio.sleep(source.choice([0, 0.001]))
            if later and source.random() < 0.3:
                watched.executor.stop(later.pop(source.randrange(len(later))))
        for job in later:
            watched.executor.stop(job)
        await watched.all_reported()
        await watched.executor.close()

    asyncio.run(scenario())

"""Roster: the runs that this engine has in memory: the active ones, recent ones that can still be watched, and the newest
records, so that listing them needs no disk."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, OrderedDict, deque
from typing import Any

from graph_engine.execute.events import EventLog
from graph_engine.graph.plan import Plan
from graph_engine.planner import Planned
from graph_engine.record import RunRecord
from graph_engine.store.history import RunRow

RECENT = 1_000
LIVE = 4_000
"""Ended runs whose events are kept, at most."""
PLANNED_STEPS = 10_000
"""Plans of recent runs are kept up to so many steps in all."""


class LiveRun:
    """A run that is active, or that ended and can still be watched."""

    __slots__ = (
        "accepted",
        "cancelled",
        "counted",
        "ended",
        "given",
        "log",
        "queued",
        "raw",
        "record",
        "recorded",
        "types",
    )

    def __init__(self, record: RunRecord, log: EventLog, plan: Plan, raw: dict[str, Any]) -> None:
        self.record, self.log = record, log
        self.accepted = False
        """It is durable and has its number."""
        self.queued = {"number": 0}
        """The data of its event `queued`, which nobody reads before it is accepted."""
        self.given: tuple[str, ...] = ()
        """Keys of results that it has from elsewhere."""
        self.counted = 0
        """How many of its events are among the counts of the roster."""
        self.cancelled = False
        """Somebody asked for it, perhaps before the scheduler had the run."""
        self.raw: dict[str, Any] | None = raw
        """The workflow, for media that carry it; None once the run has ended (the queue has it)."""
        self.types = {plan.steps[index].node: plan.steps[index].type for index in plan.targets}
        self.ended = asyncio.Event()
        """It has ended, or the engine closes."""
        self.recorded = False
        """Its end is on the disk: from then on the queue can answer for it."""


class Roster:
    """keep_events: how many events of ended runs are kept in all."""

    def __init__(self, keep_events: int) -> None:
        self.live: OrderedDict[str, LiveRun] = OrderedDict()
        self._keep_events = keep_events
        self._old_events = 0
        self._recent: deque[RunRecord] = deque()
        """Newest first."""
        self.plans: OrderedDict[str, Planned] = OrderedDict()
        """Of the latest runs, as they were planned."""
        self._planned_steps = 0
        self._outcomes: Counter[str] = Counter()
        self._full = False
        """There may be older ones that only the queue has."""

    def end(self, live: LiveRun) -> None:
        """The run is over; its events stay until its end is recorded and those of all ended runs are too many."""
        live.log.forget_transient()
        live.raw, live.types = None, {}
        live.ended.set()
        self._old_events += len(live.log)
        self._outcomes[f"run {live.record.status}"] += 1

    def recorded(self, live: LiveRun) -> None:
        """The end of this run is on the disk, so it may be forgotten here."""
        live.recorded = True
        surplus, events = len(self.live) - LIVE, self._old_events
        gone = []
        for run, old in self.live.items():
            if surplus <= 0 and events <= self._keep_events:
                break
            if old.recorded:
                gone.append(run)
                surplus, events = surplus - 1, events - len(old.log)
        for run in gone:
            self._count(self.live.pop(run))
        self._old_events = events

    def records(self) -> list[RunRecord]:
        """Of every run in memory; some twice."""
        return [live.record for live in self.live.values()] + list(self._recent)

    def remember(self, record: RunRecord) -> None:
        """Among the newest, in the order of their numbers; what was accepted at once may come in any order."""
        recent = self._recent
        place = next((index for index, other in enumerate(recent) if other.number < record.number), len(recent))
        if place < RECENT:
            if len(recent) == RECENT:
                recent.pop()
            recent.insert(place, record)
            self._full = self._full or len(recent) == RECENT

    def forget(self, run: str) -> None:
        """As if it had never been; of a run that has ended."""
        old = self.live.pop(run, None)
        if old is not None:
            self._count(old)
            self._old_events -= len(old.log)
        planned = self.plans.pop(run, None)
        if planned is not None:
            self._planned_steps -= len(planned.plan.steps)
        for index, record in enumerate(self._recent):
            if record.id == run:
                del self._recent[index]
                break

    def keep_plan(self, run: str, planned: Planned) -> None:
        """For questions about the run, until there are too many newer ones."""
        self.plans[run] = planned
        self._planned_steps += len(planned.plan.steps)
        while self._planned_steps > PLANNED_STEPS and len(self.plans) > 1:
            self._planned_steps -= len(self.plans.popitem(last=False)[1].plan.steps)

    def outcomes(self) -> dict[str, int]:
        """What came of steps and runs so far: event type -> how many, and `run STATUS` -> how many.

        Counted here, when somebody asks, so that a step pays nothing for it.
        """
        for live in self.live.values():
            self._count(live)
        return dict(self._outcomes)

    def _count(self, live: LiveRun) -> None:
        fresh = live.log.kept(live.counted)
        live.counted += len(fresh)
        self._outcomes.update(event.type for event in fresh)
        self._outcomes["cached"] += sum(len(event.data["nodes"]) - 1 for event in fresh if event.type == "cached")

    def newest(
        self, status: str | None, client: str | None, limit: int, before: int | None
    ) -> tuple[list[RunRecord], bool]:
        """What fits among the records in memory, newest first, and whether that is the whole answer."""
        found: list[RunRecord] = []
        for record in self._recent:
            if len(found) == limit:
                return found, True
            fits = (status is None or record.status == status) and (client is None or record.client == client)
            if fits and (before is None or record.number < before):
                found.append(record)
        return found, len(found) == limit or not self._full


def record_of(row: RunRow) -> RunRecord:
    """A row of the queue as people see it."""
    return RunRecord(
        row.id,
        row.status,
        number=row.number,
        name=row.name,
        client=row.client,
        priority=row.priority,
        created=row.created,
        started=row.started,
        finished=None if row.finished is None else end_of(row.started, row.finished),
        nodes=row.nodes,
        result=json.loads(row.result) if row.result else {},
        errors=json.loads(row.error) if row.error else [],
    )


def end_of(started: float | None, now: float) -> float:
    """When a run ended, unix seconds: not before it began, also when the clock was set back meanwhile."""
    return now if started is None else max(started, now)


def ending_of(record: RunRecord) -> dict[str, Any]:
    """The data of the event `finished`."""
    seconds = max(0.0, round((record.finished or 0) - (record.started or record.finished or 0), 6))
    ending: dict[str, Any] = {"status": record.status, "seconds": seconds}
    if record.errors:
        ending["errors"] = record.errors
    return ending

"""Questions: what people and monitors want to know of an engine. The lower half of the engine: it changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from graph_engine.errors import AnyloomError, NotFoundError, RequestError
from graph_engine.execute.events import is_part
from graph_engine.execute.executor import Executor
from graph_engine.execute.runner import Runner
from graph_engine.execute.worker_models import Fleet
from graph_engine.explanation import Past, explain, outcomes_of
from graph_engine.graph import fingerprint
from graph_engine.graph.node import NodeType
from graph_engine.memory.view import resident_bytes, view
from graph_engine.planner import Planned, Planner
from graph_engine.provision import Provision
from graph_engine.record import RunRecord
from graph_engine.roster import LiveRun, Roster, record_of
from graph_engine.store.artifacts import Artifact
from graph_engine.store.codec import encode
from graph_engine.store.history import UNFINISHED
from graph_engine.store.queue import RunQueue
from graph_engine.store.vault import Vault
from graph_engine.telemetry import Telemetry
from graph_engine.timeline import Facts, chrome_trace, facts_of, timeline
from graph_engine.wishes import Wishes

LOOKED_BACK = 200
"""Runs among which one is looked for to compare another with."""
PLANNED_ANEW = 3


class Questions:
    models: Fleet
    telemetry: Telemetry
    _executor: Executor
    _planner: Planner
    _queue: RunQueue
    _roster: Roster
    _runner: Runner
    _vault: Vault
    provision: Provision

    # --- runs -------------------------------------------------------------------------------------------------------

    async def run(self, run_id: str) -> RunRecord:
        """Raises NotFoundError."""
        live = self._roster.live.get(run_id)
        if live is not None:
            return self._with_pauses(live.record)
        row = await self._queue.get(run_id) if isinstance(run_id, str) else None
        if row is None:
            raise unknown_run(run_id)
        return record_of(row)

    async def runs(
        self, *, status: str | None = None, client: str | None = None, limit: int = 50, before: int | None = None
    ) -> list[RunRecord]:
        """Newest first; `before` is a run number to go on from."""
        found, complete = self._roster.newest(status, client, limit, before)
        if complete:
            return [self._with_pauses(record) for record in found]
        on_disk = UNFINISHED if status == "running" else status  # there it is queued until its first job begins
        rows = await self._queue.history(status=on_disk, client=client, limit=limit, before=before)
        records = [
            self._with_pauses(live.record) if (live := self._roster.live.get(row.id)) is not None else record_of(row)
            for row in rows
        ]
        return [record for record in records if status in (None, record.status)]

    def _with_pauses(self, record: RunRecord) -> RunRecord:
        run = self._runner.scheduler.runs.get(record.id)
        record.paused = list(run.paused) if run is not None else []
        return record

    def queue(self) -> dict[str, Any]:
        """The runs that have not ended, in the order in which they are served, with how far each has come."""
        scheduler = self._runner.scheduler
        working: dict[str, list[str]] = {}
        for task in scheduler.jobs.values():
            for state in task.subscribers:
                working.setdefault(state.run.id, []).append(state.id)
        active = [live for live in self._roster.live.values() if not live.record.ended]
        active.sort(key=lambda live: (-live.record.priority, live.record.number))
        runs = [
            {
                **self._with_pauses(live.record).to_dict(),
                "done": _done(live),
                "working": working.get(live.record.id, []),
            }
            for live in active
        ]
        return {"held": scheduler.held, "runs": runs}

    async def timeline(self, run_id: str) -> dict[str, Any]:
        """When every step of a run waited, computed and ended, as Chrome's trace event format has it.

        Raises NotFoundError for a run whose events are not kept any more.
        """
        record, live = await self.run(run_id), self._roster.live.get(run_id)
        if live is None:
            raise NotFoundError(
                f"the events of run {run_id[:40]!r} are not kept any more.",
                remedy="Run it again; those of recent runs are kept until the server stops.",
                code="no_timeline",
            )
        facts: dict[str, Facts] = {}
        with suppress(AnyloomError):  # a node pack that went away: rows without types are better than none
            facts = await asyncio.to_thread(facts_of, (await self._planned(run_id)).plan)
        log, now = live.log, time.perf_counter()
        events, times, spans = log.kept(), log.times, self.telemetry.of(run_id)
        about = {"run": record.id, "name": record.name, "number": record.number, "status": record.status}
        about["began"] = self.telemetry.epoch_s + (times[0] if times else now)
        return await asyncio.to_thread(lambda: chrome_trace(timeline(events, times, facts, spans, now), about))

    async def explain(self, run_id: str, with_run: str | None = None) -> dict[str, Any]:
        """Why each node of a run was computed, compared with the latest earlier run of the same name that has nodes in
        common with it, else with any such run, else with `with_run`. Raises NotFoundError.
        """
        record, planned = await self.run(run_id), await self._planned(run_id)
        earlier: RunRecord | None = None
        if with_run is not None:
            earlier = await self.run(with_run)
        else:
            earlier = await self._earlier(record, planned)
        before = await self._past(earlier.id) if earlier is not None else None
        nodes = await asyncio.to_thread(explain, await self._past(run_id), before)
        told = None if earlier is None else {"run": earlier.id, "number": earlier.number, "name": earlier.name}
        return {"run": run_id, "compared_with": told, "nodes": nodes}

    async def _earlier(self, record: RunRecord, planned: Planned) -> RunRecord | None:
        """The latest run before it of the same name, else of any, that has a node of the same id and type."""
        nodes = {(step.node, step.type.id) for step in planned.plan.steps}
        runs = await self.runs(limit=LOOKED_BACK, before=record.number)
        planned_anew = 0
        for other in sorted(runs, key=lambda other: other.name != record.name):
            found = self._roster.plans.get(other.id)
            if found is None and other.name == record.name and planned_anew < PLANNED_ANEW:
                planned_anew += 1
                with suppress(AnyloomError):  # it fits no more
                    found = await self._planned(other.id)
            if found is not None and any((step.node, step.type.id) in nodes for step in found.plan.steps):
                return other
        return None

    async def _past(self, run_id: str) -> Past:
        planned, live = await self._planned(run_id), self._roster.live.get(run_id)
        kept = run_id in self._roster.plans
        outcomes = await asyncio.to_thread(outcomes_of, live.log.kept()) if live is not None else None
        return Past(planned.plan, outcomes, planned.stamps if kept else None)

    async def _planned(self, run_id: str) -> Planned:
        """The plan of a run: as it was, while that is kept; else made anew of its document, with files and versions of today.

        Raises NotFoundError, and for a document that fits no more DocumentError and GraphError.
        """
        kept = self._roster.plans.get(run_id)
        if kept is not None:
            return kept
        row = await self._queue.get(run_id)
        if row is None:
            raise unknown_run(run_id)
        wishes = Wishes.of_text(row.targets)
        return (await self._planner.plan(row.document, None, wishes.targets, wishes.pins))[0]

    async def _pinned(self, node: str, source: str) -> Artifact:
        """The artifact of a pin: of this node in the run `source`, else of the key `source`."""
        key = source
        with suppress(NotFoundError):
            record = await self.run(source)
            steps = {step.node: step for step in (await self._planned(record.id)).plan.steps}
            if node not in steps:
                raise RequestError(
                    f"run {source!r} has no node {node!r}.",
                    remedy="Pin it to a run that has it.",
                    code="pin_unknown",
                    node=node,
                )
            key = fingerprint.run_key(steps[node].key, record.id) if steps[node].local else steps[node].key
        artifact = await self._vault.peek(key)
        if artifact is None and key != source:  # one that holds for its run only, because of what it grew
            artifact = await self._vault.peek(fingerprint.run_key(key, source))
        if artifact is None:
            raise NotFoundError(
                f"the result that {node!r} is pinned to ({source[:80]}) is not kept any more.",
                remedy="Take the pin away, or run that workflow again.",
                code="pin_gone",
                node=node,
            )
        return artifact

    async def artifact(self, key: str, port: int = 0) -> Any:
        """A result that a record refers to. Raises NotFoundError when the caches have let it go."""
        artifact = await self._vault.peek(key)
        if artifact is None or not 0 <= port < len(artifact.outputs):
            raise NotFoundError(
                f"the result {key[:80]!r} is not kept any more.",
                remedy="Run the workflow again.",
                code="unknown_artifact",
            )
        return artifact.outputs[port]

    async def artifact_bytes(self, key: str, port: int = 0) -> bytes:
        value = await self.artifact(key, port)
        return await asyncio.to_thread(encode, value)

    # --- the whole --------------------------------------------------------------------------------------------------

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that nodes run on, by their torch names."""
        return tuple(self._executor.devices)

    def activity(self) -> dict[str, Any]:
        """What changes from moment to moment: memory, and how much there is to do."""
        scheduler = self._runner.scheduler
        tasks = {"waiting": len(scheduler.tasks) - len(scheduler.jobs), "running": len(scheduler.jobs)}
        newest = self._roster.newest(None, None, 1, None)[0]
        runs = {
            "active": len(scheduler.runs),
            "held": scheduler.held,
            "newest": newest[0].number if newest else 0,
            "paused": sum(bool(run.paused) for run in scheduler.runs.values()),
        }
        return {**self.memory(), "runs": runs, "tasks": tasks}

    def memory(self) -> dict[str, Any]:
        """What lies on which device now, and who waits for room."""
        now = time.perf_counter()
        waiting = [
            {"run": job.run, "node": job.node, "device": job.device or "cpu", "since_s": round(now - since, 3)}
            for job, since in self.provision.waiting.values()
        ]
        devices = view(self.models, self.devices, self.telemetry)
        return {"time": time.time(), "devices": devices, "waiting": waiting, "process_bytes": resident_bytes()}

    def cache_stats(self) -> dict[str, Any]:
        return self._vault.stats()

    def outcomes(self) -> Mapping[str, int]:
        """What came of steps (by the type of their event) and of runs (`run STATUS`) since the engine was opened."""
        return self._roster.outcomes()

    def usual_s(self, type: NodeType, values: Mapping[str, Any], device: str) -> float | None:
        """How long a step of this type usually computes: of its size and with its passes, as far as the values tell that; None
        when none was seen here, in whatever life of the engine. values: literals, and the inputs that are known.
        """
        return self.provision.usual_s(type, values, device if type.needs.device else "cpu")


def unknown_run(run_id: object) -> NotFoundError:
    return NotFoundError(
        f"there is no run {str(run_id)[:80]!r}.", remedy="`anyloom runs` lists them.", code="unknown_run"
    )


def _done(live: LiveRun) -> int:
    """Steps that are over or were there already."""
    events = live.log.kept()
    grown = {event.node for event in events if event.type == "grown"}
    counts = Counter(event.type for event in events if not is_part(event.node, grown))
    cached = sum(len(event.data["nodes"]) for event in events if event.type == "cached")
    return cached + sum(counts[type] for type in ("done", "skipped", "failed", "blocked"))

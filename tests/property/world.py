"""A world for the scheduler without threads or time: jobs end one by one, in an order that a random source decides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from graph_engine.execute.call import call, follow
from graph_engine.execute.events import Event, EventLog
from graph_engine.execute.executor import Interrupted, Outputs, Report, Work
from graph_engine.execute.hooks import Hooks
from graph_engine.execute.runner import Runner
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.node import Effect
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import make_plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.memory_store import MemoryStore
from graph_engine.store.vault import Vault

LANES = {"pool": 3, "async": 3, "inline": 2}


class RandomExecutor:
    """Starts nothing by itself: `turn` ends a random one of the jobs that were started."""

    lanes: Mapping[str, int] = LANES
    devices = ("cpu",)

    def __init__(self, world: World) -> None:
        self.world, self.waiting, self.stopped = world, {}, set()  # type: ignore[var-annotated]

    def start(self, work: Work) -> None:
        assert work.job.id not in self.waiting
        for job in (work.job, *(then.job for then in work.then)):
            early = job.type.effect is Effect.EXTERNAL and job.run in self.world.unaccepted
            assert not early, "an effect waits until its run is accepted"
        self.waiting[work.job.id] = work
        assert not any(then.job.id in self.waiting for then in work.then)

    def stop(self, job: int) -> None:
        self.stopped.add(job)

    def abandon(self, job: int) -> None:
        raise AssertionError("nothing hangs here")

    async def close(self) -> None: ...

    def turn(self, source: random.Random) -> None:
        job = source.choice(sorted(self.waiting))
        work = self.waiting.pop(job)
        self.world.calls[work.job.key] = self.world.calls.get(work.job.key, 0) + 1
        report: Report = Interrupted() if job in self.stopped and source.random() < 0.5 else call(work)
        self.world.runner.report(job, report)
        if source.random() < 0.1:  # a doubled report changes nothing (P3)
            self.world.runner.report(job, report)
        until = float("inf") if source.random() < 0.7 else 0.0
        for then, outcome in follow(work.then, report, until, self.stopped):
            self.world.runner.report(then.job.id, outcome)
            if isinstance(outcome, Outputs):
                self.world.calls[then.job.key] = self.world.calls.get(then.job.key, 0) + 1


class Nothing:
    """No file is there."""

    def stamp(self, file: str) -> str:
        return ""

    stamp_at_once = stamp


class World:
    """Runs documents on a real Runner and Scheduler; use inside a running loop."""

    def __init__(self, registry: Registry, cache: str, source: random.Random, forgetful: bool = False) -> None:
        self.registry, self.source, self.forgetful = registry, source, forgetful
        self.calls: dict[str, int] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.status: dict[str, str] = {}
        self.logs: dict[str, EventLog] = {}
        self.unaccepted: list[str] = []
        """Runs that began before they were durable."""
        self.scheduler = Scheduler(LANES, ("cpu",))
        self.vault = Vault(MemoryStore(cache), None, 0.0)
        hooks = Hooks(lambda job, inputs: None, lambda run, artifact: None, self._output, self._ended)  # type: ignore[arg-type,return-value]
        self.runner = Runner(self.scheduler, self.vault, registry, Nothing(), 1.0, hooks)
        self.executor = RandomExecutor(self)
        self.runner.executor = self.executor

    def submit(
        self, run: str, document: Mapping[str, Any], priority: int = 0, breakpoints: frozenset[str] = frozenset()
    ) -> None:
        graph = resolve(parse(document), self.registry)
        self.results[run], self.logs[run] = {}, EventLog()
        plan = make_plan(graph, lambda name: "")
        present = self.vault.present(self.scheduler.keys(plan, run))
        if self.source.random() < 0.5:
            self.unaccepted.append(run)
        accepted = run not in self.unaccepted
        self.runner.submit(run, plan, present, self.logs[run], priority, (), breakpoints, accepted)

    async def turn(self) -> bool:
        """One job ends, if any runs; returns whether any did. Now and then the cache is lost."""
        if self.forgetful and self.source.random() < 0.05:
            self.vault.memory.clear()
        await self._heard()
        if self.unaccepted and (not self.executor.waiting or self.source.random() < 0.2):
            self.runner.accept(self.unaccepted.pop(0))
            await self._heard()
        if not self.executor.waiting:
            return bool(self.unaccepted)
        self.executor.turn(self.source)
        await asyncio.sleep(0)
        await self._heard()
        return True

    async def _heard(self) -> None:
        """The runner has worked off its inbox, which takes it several slices where the machine is slow."""
        while self.runner._inbox or self.runner._fetching:
            await asyncio.sleep(0)

    async def settle(self) -> None:
        while await self.turn():
            pass

    def events(self, run: str) -> list[Event]:
        return self.logs[run].after(0, 1_000_000)

    def _output(self, run: str, node: str, artifact: Artifact | None, shape: Shape) -> None:
        assert node not in self.results[run], "a target has one result"
        value = shape[0] if isinstance(shape[0], Skip) else artifact.outputs[0] if artifact else None
        self.results[run][node] = value

    def _ended(self, run: str, status: str, errors: list[dict[str, Any]]) -> None:
        assert run not in self.status, "a run ends once"
        self.status[run] = status

    def check_empty(self) -> None:
        """Nothing is left of ended runs."""
        scheduler = self.scheduler
        assert not scheduler.runs
        assert not scheduler.tasks
        assert not scheduler.jobs
        assert not scheduler.holds
        assert not scheduler.known
        assert not self.vault._held
        assert all(scheduler.lanes[name].slots == slots for name, slots in LANES.items())
        assert scheduler.lanes["device"].devices == ["cpu"]

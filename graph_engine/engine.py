"""Engine: the one place where the parts are joined. Open it, submit workflows, watch, cancel, close.

async with await Engine.open(Settings(data_dir=Path("data"))) as engine:
    record = await engine.submit(document, values={"prompt.text": "a red boat"})
    async for events in engine.watch(record.id):
        ...
    record = await engine.wait(record.id)
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from graph_engine import collector
from graph_engine.controls import Controls
from graph_engine.endings import Endings
from graph_engine.errors import AnyloomError, RequestError, StoreError
from graph_engine.execute.context import JobContext
from graph_engine.execute.events import Event, EventLog
from graph_engine.execute.executor import Executor
from graph_engine.execute.hooks import Hooks
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.runner import Runner
from graph_engine.execute.sights import sights
from graph_engine.execute.worker_models import Fleet
from graph_engine.graph.context import NodeContext
from graph_engine.graph.plan import Plan, wanted_steps
from graph_engine.graph.registry import Registry
from graph_engine.memory.devices import find_devices
from graph_engine.models.catalog import Catalog
from graph_engine.planner import Planned, Planner
from graph_engine.provision import Provision
from graph_engine.questions import unknown_run
from graph_engine.record import RunRecord
from graph_engine.roster import RECENT, LiveRun, Roster, end_of, ending_of, record_of
from graph_engine.schedule.affinity import Affinity
from graph_engine.schedule.messages import Job
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.settings import Settings
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.codec import decode_artifact, encode_artifact
from graph_engine.store.disk_store import DiskStore
from graph_engine.store.folders import Folders
from graph_engine.store.history import RunRow
from graph_engine.store.leftovers import remove_scratch
from graph_engine.store.memory_store import MemoryStore
from graph_engine.store.queue import RunQueue
from graph_engine.store.results import result_of
from graph_engine.store.vault import Vault
from graph_engine.tidying import Tidying
from graph_engine.wishes import Wishes, check_pins, check_priority

JOURNAL_BYTES = 32 << 20
"""Larger results lie on the disk with the others, not in the database."""
ENCODED_AT_ONCE_BYTES = 1 << 20
"""Larger results of side effects are put into bytes in a thread."""
SEQ_PER_BOOT = 1_000_000_000
"""Events of a run that was taken up again after a crash are numbered from here on, so that numbers never repeat."""


class Engine(Controls):
    """Several engines may live in one process; each has its data folder to itself."""

    def __init__(
        self, settings: Settings, registry: Registry, catalog: Catalog, queue: RunQueue, disk: DiskStore | None
    ) -> None:
        """Use `Engine.open`."""
        self.settings, self.registry, self.catalog = settings, registry, catalog
        self.folders = Folders(settings.input_dir, settings.output_dir, settings.temp_dir)
        self.models = Fleet(catalog, dict(settings.device_bytes))
        self.telemetry = self.models.telemetry
        self._queue = queue
        self._vault = Vault(MemoryStore(settings.cache), disk, settings.disk_cache_min_s)
        divided = settings.workers != "none"
        self.provision = Provision(self.models, settings.data_dir, self._vault, divided=divided)
        self._planner = Planner(settings, registry, self.folders.digest, self.folders.is_quick)
        self._roster = Roster(settings.keep_events)
        self._tidying = Tidying(settings.temp_dir, queue, self._roster)
        self._closing = False
        self._background = set()
        self._endings = Endings(queue, self._roster, settings.keep_history, self._keep)
        devices = settings.devices or find_devices()
        scheduler_lanes = {"pool": settings.pool_threads, "async": 1_000, "inline": 64}
        scheduler = Scheduler(scheduler_lanes, devices, settings.max_attempts)
        hooks = Hooks(
            self._context,
            self._journal,
            self._output,
            self._ended,
            self.provision.admit,
            self.provision.left,
            self.provision.too_large,
            self.provision.lasted,
            self._begun,
        )
        self._runner = Runner(scheduler, self._vault, registry, self._planner, settings.grace_s, hooks)
        self.provision.runner = self._runner
        self._executor = self._runner.executor = self._hands(devices)
        scheduler.lanes["device"].affinity = Affinity(self.provision.is_here)
        scheduler.look = lambda job: sights(job, self._vault.find, self.models, devices)

    def _hands(self, devices: tuple[str, ...]) -> Executor:
        settings = self.settings
        if settings.workers == "none":
            return LocalExecutor(devices, settings.pool_threads, self._runner.report)
        from graph_engine.execute.worker import Recipe, WorkerExecutor

        recipe = Recipe(settings.custom_nodes, settings.temp_dir, dict(settings.device_bytes), settings.warm_s)
        return WorkerExecutor(devices, settings.pool_threads, self._runner.report, recipe, self.models)

    @classmethod
    async def open(
        cls, settings: Settings, *, registry: Registry | None = None, catalog: Catalog | None = None
    ) -> Engine:
        """Open the data folder and take up every run that an earlier engine left unfinished (law P1).

        Raises StoreError when the folder is in use or damaged.
        """
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        for folder in (settings.models_path, settings.workflows_path):
            folder.mkdir(parents=True, exist_ok=True)
        queue = await asyncio.to_thread(RunQueue, settings.data_dir)
        try:
            await asyncio.to_thread(remove_scratch, settings.temp_dir, settings.input_dir)
            disk = None
            if settings.disk_cache_bytes > 0:
                disk = await asyncio.to_thread(DiskStore, settings.data_dir / "cache", settings.disk_cache_bytes)
            if registry is None:
                registry = await asyncio.to_thread(Registry.discover, settings.custom_nodes)
            if catalog is None:
                catalog = await asyncio.to_thread(Catalog.discover)
            engine = cls(settings, registry, catalog, queue, disk)
        except BaseException:
            await asyncio.to_thread(queue.close)
            raise
        await engine._executor.open()
        collector.settle()
        for row in await queue.recover():
            await engine._resume(row)
        engine._keep(queue.prune(keep=settings.keep_history))
        for row in await queue.history(limit=RECENT):
            if row.id not in engine._roster.live:
                engine._roster.remember(record_of(row))
        engine._tidying.begin()
        return engine

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop at once. Runs that have not ended stay in the queue and are taken up when the folder is opened again."""
        if self._closing:
            return
        self._closing = self._runner.closing = True
        self._endings.closing()
        await self._tidying.close()
        await self._executor.close()
        await asyncio.sleep(0)
        for future in list(self._background):
            with suppress(Exception):
                await future
        for live in self._roster.live.values():
            live.log.close()
            live.ended.set()
        await self._endings.close()
        with suppress(StoreError):  # a disk that fails now changes nothing that was promised
            await self._queue.release()
        await asyncio.to_thread(self._queue.close)
        await asyncio.to_thread(self._vault.close)
        await asyncio.to_thread(self.models.close)
        await asyncio.to_thread(self.provision.close)

    # --- submit -----------------------------------------------------------------------------------------------------

    async def validate(
        self,
        document: str | bytes | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Check a workflow without running it. Raises DocumentError, GraphError with every problem."""
        graph = await self._planner.check(document, values, targets)
        return {"nodes": len(graph.nodes), "targets": list(graph.targets)}

    async def plan(
        self,
        document: str | bytes | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
        pins: Mapping[str, str] | None = None,
    ) -> tuple[Plan, frozenset[int]]:
        """The plan of a run that is not made, and the steps that would be computed. Raises as `submit`."""
        keys = {node: (await self._pinned(node, source)).key for node, source in (pins or {}).items()}
        ready, _ = await self._planner.plan(document, values, targets, keys)
        return ready.plan, wanted_steps(ready.plan, await self._runner.present("", ready.plan))

    async def submit(
        self,
        document: str | bytes | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
        priority: int = 0,
        client: str = "",
        name: str = "",
        pins: Mapping[str, str] | None = None,
        breakpoints: Iterable[str] = (),
    ) -> RunRecord:
        """Accept a run. When this returns, the run survives any crash (law P1).

        values: {"node.input": literal} written over the document. Higher priority goes first.
        pins: node -> a run, or the key of an artifact, that its outputs are taken from; nothing is computed for it.
        breakpoints: nodes before which the run pauses, until `go_on`.
        Raises DocumentError, GraphError, RequestError, StoreError, NotFoundError for a pin that is gone.
        """
        if self._closing:
            raise RequestError("the engine is closing.", remedy="Submit again when it is back.", code="closing")
        check_priority(priority)
        inner_pins, stops = await self._planner.within(document, pins or {}, breakpoints)
        pinned = [(node, await self._pinned(node, source)) for node, source in inner_pins.items()]
        wishes = Wishes(tuple(targets or ()), {node: found.key for node, found in pinned}, stops)
        ready, text = await self._planner.plan(document, values, targets, wishes.pins)
        wishes.check(step.node for step in ready.plan.steps)
        check_pins(ready.plan, dict(pinned))
        run = uuid.uuid4().hex
        record = RunRecord(
            run,
            "queued",
            name=name or ready.document.title,
            client=client,
            priority=priority,
            created=time.time(),
            nodes=len(ready.plan.steps),
        )
        row = RunRow(
            id=run,
            document=text,
            name=record.name,
            targets=wishes.to_text(),
            priority=priority,
            client=client,
            nodes=record.nodes,
            created=record.created,
        )
        adding = self._queue.add(row)
        # While the disk is at it, the run begins with what has no effect outside; nobody knows of it before the disk is done.
        live = self._enlist(record, ready, 0)
        adding.add_done_callback(partial(self._added, live))
        artifacts = [artifact for _, artifact in pinned]
        # From here on the run is taken, also when whoever submitted it stops waiting for the answer.
        beginning = asyncio.ensure_future(self._take_in(live, ready.plan, artifacts, wishes))
        self._keep(beginning)
        await asyncio.shield(beginning)
        self._accept(live, await asyncio.shield(adding))
        return record

    async def _take_in(self, live: LiveRun, plan: Plan, pinned: list[Artifact], wishes: Wishes) -> None:
        for artifact in pinned:
            await self._keep_pinned(live.record.id, artifact)
        await self._begin(live, plan, pinned, wishes)

    async def _keep_pinned(self, run: str, artifact: Artifact) -> None:
        """It must be there after a crash as well: beside the run, or if it is large on the disk with the other results."""
        with suppress(
            AnyloomError
        ):  # a value without a form on disk; then the run that is taken up says that it is gone
            payload = await asyncio.to_thread(encode_artifact, artifact)
            if len(payload) <= JOURNAL_BYTES:
                await self._queue.journal(run, artifact.key, payload)
            else:
                self._vault.save(artifact)

    def _enlist(self, record: RunRecord, ready: Planned, boots: int) -> LiveRun:
        live = LiveRun(record, EventLog(boots * SEQ_PER_BOOT), ready.plan, ready.document.raw)
        self._roster.live[record.id] = live
        self._roster.keep_plan(record.id, ready)
        live.log.add("queued", "", live.queued)
        record.status, record.started = "running", time.time()
        return live

    def _added(self, live: LiveRun, adding: asyncio.Future[int]) -> None:
        """The disk has answered: the run is accepted, or never was."""
        if adding.cancelled() or adding.exception() is not None:
            live.cancelled = True
            self._roster.live.pop(live.record.id, None)
            self._runner.cancel(live.record.id)
        else:
            self._accept(live, adding.result())

    def _accept(self, live: LiveRun, number: int) -> None:
        if live.accepted:
            return
        live.accepted, live.record.number, live.queued["number"] = True, number, number
        self._roster.remember(live.record)
        self._runner.accept(live.record.id)

    async def _begin(self, live: LiveRun, plan: Plan, journal: list[Artifact], wishes: Wishes) -> None:
        record = live.record
        live.given = tuple(artifact.key for artifact in journal)
        if self.settings.workers != "none" and any(step.type.lane == "device" for step in plan.steps):
            self._executor.prepare()
        self._vault.memory.new_generation()
        present = await self._runner.present(record.id, plan)
        if not self._closing:
            self._runner.submit(
                record.id, plan, present, live.log, record.priority, journal, wishes.breakpoints, live.accepted
            )
            if live.cancelled:
                self._runner.cancel(record.id)

    async def _resume(self, row: RunRow) -> None:
        """Take up a run that an earlier engine did not finish."""
        record = record_of(row)
        try:
            wishes = Wishes.of_text(row.targets)
            ready, _ = await self._planner.plan(row.document, None, wishes.targets, wishes.pins)
            journal = [decode_artifact(payload) for payload in row.journal.values()]
            lost = set(wishes.pins.values()) - {artifact.key for artifact in journal}
            journal += [await self._pinned(node, key) for node, key in wishes.pins.items() if key in lost]
        except (
            Exception
        ) as fault:  # of a node pack that was changed meanwhile, say: no run may keep the server from opening
            error = fault if isinstance(fault, AnyloomError) else AnyloomError(f"{type(fault).__name__}: {fault}.")
            problem = {**error.to_dict(), "message": f"the run cannot be taken up again: {error.message}"}
            await self._queue.finish(row.id, "failed", error=json.dumps([problem]))
            return
        if row.starts >= self.settings.max_attempts:
            problem = {
                "code": "poisoned",
                "message": f"the server died {row.starts} times while this run was active; it is not tried again.",
                "remedy": "Look for the node that ends the process, and submit it anew.",
            }
            await self._queue.finish(row.id, "failed", error=json.dumps([problem]))
            return
        live = self._enlist(record, ready, row.boots)
        self._accept(live, row.number)
        await self._begin(live, ready.plan, journal, wishes)

    # --- watch and ask ------------------------------------------------------------------------------------------------

    async def watch(self, run_id: str, after: int = 0, pace_s: float = 0.0) -> AsyncIterator[list[Event]]:
        """Batches of events after number `after`; ends after `finished`. Raises NotFoundError.

        pace_s: how long events are collected for one batch, for watchers to whom each batch is a message.
        """
        live = self._roster.live.get(run_id)
        if live is None:
            record = await self.run(run_id)
            live = self._roster.live.get(run_id)
            if live is None:  # its log is forgotten; what stands in the record is still true
                yield [Event(max(after, 0) + 1, "finished", "", ending_of(record))]
                return
        async for batch in live.log.watch(after, pace_s):
            yield batch

    async def wait(self, run_id: str, timeout_s: float | None = None) -> RunRecord:
        """The record once the run has ended, or as it is when the time is over.

        Raises NotFoundError, and RequestError (`closing`) when the engine closes before the run has ended.
        """
        live = self._roster.live.get(run_id)
        if live is None:
            return await self.run(run_id)
        with suppress(TimeoutError):
            await asyncio.wait_for(live.ended.wait(), timeout_s)
        if live.ended.is_set() and not live.record.ended:
            raise RequestError(
                f"the engine closed before the run {run_id} had ended.",
                remedy="It is in the queue and goes on when the engine is opened again; wait for it then.",
                code="closing",
            )
        return live.record

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to end. False when it had ended already. Raises NotFoundError."""
        live = self._roster.live.get(run_id)
        if live is None:
            await self.run(run_id)
            return False
        if live.record.ended:
            return False
        live.cancelled = True
        self.models.forget(run_id)
        self._runner.cancel(run_id)
        return True

    async def document(self, run_id: str) -> dict[str, Any]:
        """The workflow that ran, with the values it ran with."""
        live = self._roster.live.get(run_id)
        if live is not None and live.raw is not None:
            return live.raw
        row = await self._queue.get(run_id)
        if row is None:
            raise unknown_run(run_id)
        found: dict[str, Any] = json.loads(row.document)
        return found

    def system(self) -> dict[str, Any]:
        """What a person or a monitor wants to know of the engine."""
        from graph_engine import __version__

        scheduler = self._runner.scheduler
        return {
            "version": __version__,
            "devices": list(self._executor.devices),
            "lanes": dict(self._executor.lanes),
            "nodes": len(self.registry),
            "failed_packs": dict(self.registry.failures),
            "runs": {"active": len(scheduler.runs)},
            "tasks": {"waiting": len(scheduler.tasks) - len(scheduler.jobs), "running": len(scheduler.jobs)},
            "cache": self._vault.stats(),
            "models": self.models.stats(),
            "memory": self.memory(),
        }

    # --- what the runner asks -----------------------------------------------------------------------------------------

    def _begun(self, run: str) -> asyncio.Future[bool] | None:
        """Counted with its first job: a run that only waited while the server died is not to blame."""
        live = self._roster.live.get(run)
        if live is None or self._closing:
            return None
        counting = self._queue.started(run, at=live.record.started)
        self._keep(counting)
        # Before it is accepted nobody knows of it, and what begins then has no effect outside; the disk is at it anyway.
        return counting if live.accepted else None

    def _context(self, job: Job, inputs: Mapping[str, Any]) -> NodeContext:
        live = self._roster.live.get(job.run)
        raw = live.raw if live is not None else None
        models = {port: inputs[port] for port in job.next_use if port in inputs}
        values, device = {**job.literals, **inputs}, job.device or "cpu"
        working = self.provision.working_bytes(job.type, values, device)
        expected = self.provision.expected(job, models) if models and job.device and job.attempt == 1 else None
        return JobContext(
            job,
            raw,
            self.folders,
            self.settings.models_path,
            self.models,
            self._runner.post,
            models,
            working,
            expected,
            lambda bytes: self.provision.saw(job.type, values, device, bytes),
        )

    def _journal(self, run: str, artifact: Artifact) -> None:
        if artifact.bytes > ENCODED_AT_ONCE_BYTES:
            if artifact.bytes > JOURNAL_BYTES and self._vault.disk is not None:
                self._vault.save(artifact)
            else:
                self._keep(asyncio.ensure_future(self._journal_large(run, artifact)))
            return
        with suppress(AnyloomError):  # a value without a form on disk is computed again after a crash
            self._keep(self._queue.journal(run, artifact.key, encode_artifact(artifact)))

    async def _journal_large(self, run: str, artifact: Artifact) -> None:
        with suppress(AnyloomError):
            await self._queue.journal(run, artifact.key, await asyncio.to_thread(encode_artifact, artifact))

    def _output(self, run: str, node: str, artifact: Artifact | None, shape: Shape) -> None:
        live = self._roster.live.get(run)
        if live is None:
            return
        result, referred = result_of(live.types[node], artifact, shape)
        if referred and artifact is not None:
            self._vault.memory.put(artifact)
            self._vault.save(artifact)
        live.record.result[node] = result
        live.log.add("output", node, {"outputs": result})

    def _ended(self, run: str, status: str, errors: list[dict[str, Any]]) -> None:
        live = self._roster.live.get(run)
        self.models.forget(run)
        if live is None or self._closing:
            return
        for key in live.given:  # what nobody asked for
            if key not in self._runner.scheduler.holds:
                self._vault.drop(key)
        record = live.record
        record.status, record.errors, record.finished = status, errors, end_of(record.started, time.time())
        self._endings.write(live)
        live.log.add("finished", "", ending_of(record))
        self._roster.end(live)

    def _keep(self, future: asyncio.Future[Any]) -> None:
        """A write that nobody waits for, but whose failure must be seen."""
        self._background.add(future)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None and not self._closing:
            asyncio.get_running_loop().call_exception_handler({"message": "the run queue failed", "exception": error})

"""Engine: the one place where the parts are joined. Open it, submit workflows, watch, cancel, close.

    async with await Engine.open(Settings(data_dir=Path("data"))) as engine:
        record = await engine.submit(document, values={"prompt.text": "a red boat"})
        async for events in engine.watch(record.id):
            ...
        record = await engine.wait(record.id)
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, NotFoundError, RequestError
from graph_engine.execute.context import JobContext
from graph_engine.execute.events import Event, EventLog
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.runner import Hooks, Runner
from graph_engine.graph.context import NodeContext
from graph_engine.graph.document import Document, dump_json, override, parse
from graph_engine.graph.graph import Graph, resolve
from graph_engine.graph.plan import Plan, make_plan
from graph_engine.graph.registry import Registry
from graph_engine.memory.devices import find_devices
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.record import RunRecord
from graph_engine.schedule.messages import Job
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.settings import Settings
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.codec import decode_artifact, encode, encode_artifact
from graph_engine.store.disk_store import DiskStore
from graph_engine.store.folders import Folders
from graph_engine.store.history import RunRow
from graph_engine.store.memory_store import MemoryStore
from graph_engine.store.queue import RunQueue
from graph_engine.store.results import result_of
from graph_engine.store.vault import Vault

LARGE_DOCUMENT_BYTES, LARGE_DOCUMENT_NODES = 24 * 1024, 200
"""Documents above this are checked and planned in a thread, so that the loop stays free (law P10)."""
PLANNED_STEPS_KEPT = 12_000
"""Plans of recent documents are kept up to so many steps in all, so that submitting one again costs a look-up."""
RECENT = 1_000
SEQ_PER_BOOT = 1_000_000_000
"""Events of a run that was taken up again after a crash are numbered from here on, so that numbers never repeat."""


class _Ready(NamedTuple):
    """A document that was checked, with the digests of the files that its plan rests on."""

    document: Document
    plan: Plan
    stamps: dict[str, str]


class _Live:
    """A run that this engine has in memory: active, or ended and still watched or recent."""

    __slots__ = ("record", "log", "types", "raw", "ended", "cancelled")

    def __init__(self, record: RunRecord, log: EventLog, plan: Plan, raw: dict[str, Any]) -> None:
        self.record, self.log = record, log
        self.cancelled = False
        """Somebody asked for it, perhaps before the scheduler had the run."""
        self.raw: dict[str, Any] | None = raw
        """The workflow, for media that carry it; None once the run has ended (the queue has it)."""
        self.types = {plan.steps[index].node: plan.steps[index].type for index in plan.targets}
        self.ended = asyncio.Event()


class Engine:
    """Several engines may live in one process; each has its data folder to itself."""

    def __init__(self, settings: Settings, registry: Registry, catalog: Catalog, queue: RunQueue, disk: DiskStore | None) -> None:
        """Use `Engine.open`."""
        self.settings, self.registry, self.catalog = settings, registry, catalog
        self.folders = Folders(settings.input_dir, settings.output_dir, settings.temp_dir)
        self.models = ModelPool(catalog, dict(settings.device_bytes))
        self._queue = queue
        self._vault = Vault(MemoryStore(settings.cache), disk, settings.disk_cache_min_s)
        self._live: OrderedDict[str, _Live] = OrderedDict()
        self._recent: deque[RunRecord] = deque()
        """The newest runs, newest first, so that listing them needs no disk."""
        self._old_events = 0
        self._plans: OrderedDict[str, _Ready] = OrderedDict()
        self._closing = False
        self._background: set[asyncio.Future[Any]] = set()
        devices = settings.devices or find_devices()
        scheduler_lanes = {"pool": settings.pool_threads, "async": 1_000, "inline": 64}
        scheduler = Scheduler(scheduler_lanes, devices, settings.max_attempts)
        hooks = Hooks(self._context, self._journal, self._output, self._ended)
        self._runner = Runner(scheduler, self._vault, registry, self.folders.digest, settings.grace_s, hooks)
        self._executor = LocalExecutor(devices, settings.pool_threads, self._runner.report)
        self._runner.executor = self._executor

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
            disk = None
            if settings.disk_cache_bytes > 0:
                disk = await asyncio.to_thread(DiskStore, settings.data_dir / "cache", settings.disk_cache_bytes)
            registry = registry or await asyncio.to_thread(Registry.discover, settings.custom_nodes)
            catalog = catalog or Catalog.discover()
            engine = cls(settings, registry, catalog, queue, disk)
        except BaseException:
            await asyncio.to_thread(queue.close)
            raise
        gc.collect()
        gc.freeze()  # what was imported lives for ever; walking it at each collection costs tens of milliseconds
        gc.set_threshold(20_000, 50, 100)
        for row in await queue.recover():
            await engine._resume(row)
        engine._keep(queue.prune(keep=settings.keep_history))
        for row in await queue.history(limit=RECENT):
            if row.id not in engine._live:
                engine._remember(_record(row))
        return engine

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop at once. Runs that have not ended stay in the queue and are taken up when the folder is opened again."""
        if self._closing:
            return
        self._closing = True
        await self._executor.close()
        await asyncio.sleep(0)
        for future in list(self._background):
            with suppress(Exception):
                await future
        for live in self._live.values():
            live.log.close()
        await asyncio.to_thread(self._queue.close)
        await asyncio.to_thread(self._vault.close)

    # --- submit -----------------------------------------------------------------------------------------------------

    async def validate(
        self,
        document: str | bytes | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Check a workflow without running it. Raises DocumentError, GraphError with every problem."""
        checked = self._check, document, values, targets
        _, graph = await asyncio.to_thread(*checked) if _is_large(document) else self._check(document, values, targets)
        return {"nodes": len(graph.nodes), "targets": list(graph.targets)}

    async def submit(
        self,
        document: str | bytes | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
        priority: int = 0,
        client: str = "",
        name: str = "",
    ) -> RunRecord:
        """Accept a run. When this returns, the run survives any crash (law P1).

        values: {"node.input": literal} written over the document. Higher priority goes first.
        Raises DocumentError, GraphError, RequestError, StoreError.
        """
        if self._closing:
            raise RequestError("the engine is closing.", remedy="Submit again when it is back.", code="closing")
        if isinstance(priority, bool) or not isinstance(priority, int) or not -1_000_000 <= priority <= 1_000_000:
            raise RequestError(f"priority {priority!r} is no whole number in -1000000..1000000.", remedy="Use 0.")
        ready, text = await self._prepare(document, values, targets)
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
            targets=json.dumps(list(targets or ())),
            priority=priority,
            client=client,
            nodes=record.nodes,
            created=record.created,
        )
        record.number = await self._queue.add(row)
        await self._begin(record, ready, 0, [])
        return record

    async def _prepare(
        self, source: str | bytes | Mapping[str, Any], values: Mapping[str, Any] | None, targets: Sequence[str] | None
    ) -> tuple[_Ready, str]:
        """The checked document and its plan, remembered for the next time, and the text to keep."""
        if _is_large(source):
            key, ready, text = await asyncio.to_thread(self._find_or_plan, source, values, targets)
        else:
            key, ready, text = self._find_or_plan(source, values, targets)
        self._plans[key] = ready
        self._plans.move_to_end(key)
        kept = sum(len(known.plan.steps) for known in self._plans.values())
        while kept > PLANNED_STEPS_KEPT and len(self._plans) > 1:
            kept -= len(self._plans.popitem(last=False)[1].plan.steps)
        return ready, text

    def _find_or_plan(
        self, source: str | bytes | Mapping[str, Any], values: Mapping[str, Any] | None, targets: Sequence[str] | None
    ) -> tuple[str, _Ready, str]:
        """(key of the plan, the plan, the document's text)"""
        text = _text_of(source)
        wishes = _text_of({"values": dict(values or {}), "targets": list(targets or ())})
        key = hashlib.blake2b(f"{text}\0{wishes}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        ready = self._plans.get(key)
        if ready is None or any(self.folders.digest(file) != stamp for file, stamp in ready.stamps.items()):
            ready = self._plan(source, values, targets)
        return key, ready, dump_json(ready.document.raw) if values else text

    def _check(
        self, source: str | bytes | Mapping[str, Any], values: Mapping[str, Any] | None, targets: Sequence[str] | None
    ) -> tuple[Document, Graph]:
        settings = self.settings
        document = parse(
            source, max_bytes=settings.max_document_bytes, max_nodes=settings.max_nodes, max_depth=settings.max_depth
        )
        if values:
            document = override(document, values)
        return document, resolve(document, self.registry, targets)

    def _plan(
        self, source: str | bytes | Mapping[str, Any], values: Mapping[str, Any] | None, targets: Sequence[str] | None
    ) -> _Ready:
        document, graph = self._check(source, values, targets)
        stamps: dict[str, str] = {}

        def stamp(file: str) -> str:
            stamps[file] = self.folders.digest(file)
            return stamps[file]

        return _Ready(document, make_plan(graph, stamp), stamps)

    async def _begin(self, record: RunRecord, ready: _Ready, boots: int, journal: list[Artifact]) -> None:
        log = EventLog(boots * SEQ_PER_BOOT)
        live = _Live(record, log, ready.plan, ready.document.raw)
        self._live[record.id] = live
        self._remember(record)
        log.add("queued", "", {"number": record.number})
        record.status, record.started = "running", time.time()
        self._keep(self._queue.started(record.id))
        self._vault.memory.new_generation()
        present = await self._runner.present(record.id, ready.plan)
        if not self._closing:
            self._runner.submit(record.id, ready.plan, present, log, record.priority, journal)
            if live.cancelled:
                self._runner.cancel(record.id)

    async def _resume(self, row: RunRow) -> None:
        """Take up a run that an earlier engine did not finish."""
        record = _record(row)
        try:
            targets = json.loads(row.targets)
            ready = await asyncio.to_thread(self._plan, row.document, None, targets)
            journal = [decode_artifact(payload) for payload in row.journal.values()]
        except AnyloomError as error:
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
        await self._begin(record, ready, row.boots, journal)

    # --- watch and ask ------------------------------------------------------------------------------------------------

    async def watch(self, run_id: str, after: int = 0) -> AsyncIterator[list[Event]]:
        """Batches of events after number `after`; ends after `finished`. Raises NotFoundError."""
        live = self._live.get(run_id)
        if live is None:
            record = await self.run(run_id)
            live = self._live.get(run_id)
            if live is None:  # its log is forgotten; what stands in the record is still true
                yield [Event(max(after, 0) + 1, "finished", "", _ending(record))]
                return
        async for batch in live.log.watch(after):
            yield batch

    async def wait(self, run_id: str, timeout_s: float | None = None) -> RunRecord:
        """The record once the run has ended, or as it is when the time is over. Raises NotFoundError."""
        live = self._live.get(run_id)
        if live is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(live.ended.wait(), timeout_s)
            return live.record
        return await self.run(run_id)

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to end. False when it had ended already. Raises NotFoundError."""
        live = self._live.get(run_id)
        if live is None:
            await self.run(run_id)
            return False
        if live.record.ended:
            return False
        live.cancelled = True
        self._runner.cancel(run_id)
        return True

    async def run(self, run_id: str) -> RunRecord:
        live = self._live.get(run_id)
        if live is not None:
            return live.record
        row = await self._queue.get(run_id) if isinstance(run_id, str) else None
        if row is None:
            raise NotFoundError(f"there is no run {run_id!r}.", remedy="`anyloom runs` lists them.", code="unknown_run")
        return _record(row)

    async def runs(
        self, *, status: str | None = None, client: str | None = None, limit: int = 50, before: int | None = None
    ) -> list[RunRecord]:
        """Newest first; `before` is a run number to go on from."""
        found: list[RunRecord] = []
        for record in self._recent:
            if len(found) == limit:
                return found
            fits = (status is None or record.status == status) and (client is None or record.client == client)
            if fits and (before is None or record.number < before):
                found.append(record)
        if len(found) == limit or len(self._recent) < RECENT:
            return found
        rows = await self._queue.history(status=status, client=client, limit=limit, before=before)
        return [live.record if (live := self._live.get(row.id)) is not None else _record(row) for row in rows]

    async def document(self, run_id: str) -> dict[str, Any]:
        """The workflow that ran, with the values it ran with."""
        live = self._live.get(run_id)
        if live is not None and live.raw is not None:
            return live.raw
        row = await self._queue.get(run_id)
        if row is None:
            raise NotFoundError(f"there is no run {run_id!r}.", remedy="`anyloom runs` lists them.", code="unknown_run")
        found: dict[str, Any] = json.loads(row.document)
        return found

    async def artifact(self, key: str, port: int = 0) -> Any:
        """A result that a record refers to. Raises NotFoundError when the caches have let it go."""
        artifact = await self._vault.peek(key)
        if artifact is None or not 0 <= port < len(artifact.outputs):
            raise NotFoundError(
                f"the result {key[:80]!r} is not kept any more.", remedy="Run the workflow again.", code="unknown_artifact"
            )
        return artifact.outputs[port]

    async def artifact_bytes(self, key: str, port: int = 0) -> bytes:
        value = await self.artifact(key, port)
        return await asyncio.to_thread(encode, value)

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
        }

    # --- what the runner asks -----------------------------------------------------------------------------------------

    def _context(self, job: Job) -> NodeContext:
        live = self._live.get(job.run)
        raw = live.raw if live is not None else None
        return JobContext(job, raw, self.folders, self.settings.models_path, self.models, self._runner.post)

    def _journal(self, run: str, artifact: Artifact) -> None:
        with suppress(AnyloomError):  # a value without a form on disk is computed again after a crash
            self._keep(self._queue.journal(run, artifact.key, encode_artifact(artifact)))

    def _output(self, run: str, node: str, artifact: Artifact | None, shape: Shape) -> None:
        live = self._live.get(run)
        if live is None:
            return
        result, referred = result_of(live.types[node], artifact, shape)
        if referred and artifact is not None:
            self._vault.memory.put(artifact)
            self._vault.save(artifact)
        live.record.result[node] = result
        live.log.add("output", node, {"outputs": result})

    def _ended(self, run: str, status: str, errors: list[dict[str, Any]]) -> None:
        live = self._live.get(run)
        if live is None or self._closing:
            return
        record = live.record
        record.status, record.errors, record.finished = status, errors, time.time()
        result, error = json.dumps(record.result), json.dumps(errors)
        self._keep(self._queue.finish(run, status, result=result, error=error, at=record.finished))
        live.log.add("finished", "", _ending(record))
        live.log.forget_transient()
        live.raw = None
        live.types = {}
        live.ended.set()
        self._old_events += len(live.log.events)
        self._forget()

    def _forget(self) -> None:
        """Ended runs stay watchable until their events are too many; history has the rest."""
        if self._old_events <= self.settings.keep_events and len(self._live) <= 4_000:
            return
        for run, live in list(self._live.items()):
            if live.record.ended:
                self._old_events -= len(live.log.events)
                del self._live[run]
                if self._old_events <= self.settings.keep_events // 2 and len(self._live) <= 2_000:
                    break

    def _remember(self, record: RunRecord) -> None:
        """Among the newest runs, in the order of their numbers; what was accepted at once may come in any order."""
        recent = self._recent
        place = next((index for index, other in enumerate(recent) if other.number < record.number), len(recent))
        if place < RECENT:
            if len(recent) == RECENT:
                recent.pop()
            recent.insert(place, record)

    def _keep(self, future: asyncio.Future[Any]) -> None:
        """A write that nobody waits for, but whose failure must be seen."""
        self._background.add(future)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None and not self._closing:
            asyncio.get_running_loop().call_exception_handler({"message": "the run queue failed", "exception": error})


def _is_large(source: str | bytes | Mapping[str, Any]) -> bool:
    if isinstance(source, Mapping):
        nodes = source.get("nodes")
        return isinstance(nodes, Mapping) and len(nodes) > LARGE_DOCUMENT_NODES
    return len(source) > LARGE_DOCUMENT_BYTES


def _text_of(source: str | bytes | Mapping[str, Any]) -> str:
    """Raises RequestError for what is no JSON."""
    try:
        if isinstance(source, Mapping):
            return dump_json(source)
        return source if isinstance(source, str) else source.decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"this is no JSON: {error}.", remedy="Use JSON values only.") from None


def _record(row: RunRow) -> RunRecord:
    return RunRecord(
        row.id,
        row.status,
        number=row.number,
        name=row.name,
        client=row.client,
        priority=row.priority,
        created=row.created,
        started=row.started,
        finished=row.finished,
        nodes=row.nodes,
        result=json.loads(row.result) if row.result else {},
        errors=json.loads(row.error) if row.error else [],
    )


def _ending(record: RunRecord) -> dict[str, Any]:
    seconds = round((record.finished or 0) - (record.started or record.finished or 0), 6)
    ending: dict[str, Any] = {"status": record.status, "seconds": seconds}
    if record.errors:
        ending["errors"] = record.errors
    return ending


"""The executor with one process per device; everything that needs no device stays in the server's process.

What a job does in there cannot harm the server: a process that dies (kill, segmentation fault, out of memory) takes one
attempt of one step along, and is begun again. A process that does not stop when it is told to is ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, RequestError, WorkerLost
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, Raised, Report, ReportTo, Work
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.threads import ThreadLane
from graph_engine.execute.worker_child import Child, Ending
from graph_engine.execute.worker_forms import report_from, work_form
from graph_engine.execute.worker_models import Far, Fleet, bytes_of
from graph_engine.execute.worker_parcel import Parcel
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory, is_host
from graph_engine.memory.reservations import models_of
from graph_engine.telemetry import Span

log = logging.getLogger("anyloom.worker")

BACKOFF_S, BACKOFF_LIMIT_S = 0.1, 5.0
"""The first restart is at once; from the second crash in a row on there is a pause, which doubles."""
BEGIN_S = 60.0
WARM_AFTER_S = 0.5
"""So long after the beginning: whoever begins an engine to run something at once has it run first."""
CLOSE_S = 1.5
"""How long a job may take to end when the executor closes."""


class Recipe(NamedTuple):
    """What a process needs to know at its beginning. custom_nodes: folders of packs, loaded there anew; temp_dir: where
    scratch folders lie; budgets: bytes by device; warm_s: how long libraries that were imported ahead are kept unused."""

    custom_nodes: tuple[Path, ...] = ()
    temp_dir: Path | None = None
    budgets: Mapping[str, int] = {}
    warm_s: float = 0.0


def budgets_of(device: str, devices: Sequence[str], named: Mapping[str, int]) -> dict[str, int]:
    """Bytes by device for one process. What the host locks for copies to accelerators is shared out among their processes."""
    sharers = [other for other in devices if not is_host(other)]
    if device not in sharers or len(sharers) < 2:
        return dict(named)
    return {**named, "cpu": weight_budget("cpu", named, *device_memory("cpu")) // len(sharers)}


class Worker:
    """One device: its process, whichever that is at the moment. `run` is called in the thread of its lane."""

    def __init__(self, device: str, recipe: Recipe, models: Fleet, executor: WorkerExecutor) -> None:
        self.device = device
        self.child: Child | None = None
        self.crashes = 0
        """In a row."""
        self.job = 0
        """What it is at."""
        self._cooled: Child | None = None
        """It was told to end because nobody used what it had imported."""
        self._refusals = 0
        """How often the system would not start a process."""
        self._recipe, self._models, self._executor = recipe, models, executor
        self._abandoned: set[int] = set()
        self._changed = threading.Condition()
        """Told when the process or a wish has changed."""
        self._scratch: Path | None = None
        self._far = Far(self._give, lambda host: self._post("clear", host), self._forget)
        models.join(device, self._far)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a process, unless there is one."""
        with self._changed:
            if self.child is None and not self._executor.closing:
                try:
                    self._models.begin(self.device, self._start)
                except OSError as error:
                    log.warning("no process for %s can be started: %s", self.device, error)
                    self._refusals += 1
                    self._sweep()
            self._changed.notify_all()

    def _start(self, room_bytes: int) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="worker-", dir=self._recipe.temp_dir))
        setup = {
            "device": self.device,
            "budgets": budgets_of(self.device, self._executor.devices, self._recipe.budgets),
            "room_bytes": room_bytes,
            "custom_nodes": [str(folder.resolve()) for folder in self._recipe.custom_nodes],
            "scratch": str(self._scratch),
        }
        self.child = Child(setup, self)

    def posted(self, job: int, type: str, data: dict[str, Any]) -> None:
        self._executor.relay(job, type, data)

    def saw(self, job: int, bytes: int) -> None:
        self._executor.saw(job, bytes)

    def noted(self, spans: Sequence[Sequence[Any]], offset_s: float) -> None:
        self._models.telemetry.adopt((Span(*span) for span in spans), offset_s)

    def told(self, form: Mapping[str, Any]) -> None:
        self._models.told(self.device, form)
        self._notify()

    def ended(self, child: Child) -> None:
        """Its models are gone, its scratch folder is removed; the next job begins another one."""
        with self._changed:
            self.child = None
            self._models.begin(self.device, lambda room_bytes: None)
            self._changed.notify_all()
        self._sweep()
        if child is self._cooled:
            self._cooled = None
            self.begin()
        elif not self._executor.closing and self.job not in self._abandoned:
            log.warning("the process of %s %s", self.device, child.ending)

    def warm(self) -> None:
        """Import the libraries of nodes now, where no job has done so; what nobody uses for long is given back."""
        child, keep_s = self.child, self._recipe.warm_s
        if keep_s > 0 and child is not None and not child.asked_to_warm and child.ending is None:
            child.asked_to_warm = True
            child.post("warm")
            asyncio.get_running_loop().call_later(keep_s, self._cool, child)

    def _cool(self, child: Child) -> None:
        """A process lets go of libraries only by ending. One that has done a job is in use, as the server itself is."""
        if child is self.child and not child.begun and not self.job and not self._executor.closing:
            self._cooled = child
            child.post("close")

    def _sweep(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    # --- any thread -----------------------------------------------------------------------------------------------------

    def abandon(self, job: int) -> bool:
        """End the process if it is at this job; it takes nothing else along."""
        if job != self.job:
            return False
        self._abandoned.add(job)
        self.kill()
        self._notify()
        return True

    def _post(self, *parts: Any) -> None:
        if (child := self.child) is not None:
            child.post(*parts)

    def stop(self, job: int) -> None:
        if job == self.job:
            self._post("stop", job)
            self._notify()

    def close(self) -> None:
        """Let it end by itself."""
        self._post("stop", self.job)
        self._post("close")
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def kill(self) -> None:
        if (child := self.child) is not None:
            child.kill()

    def _forget(self, run: str) -> None:
        """What it expected to need for the run is not needed any more."""
        if self._far.holdings.models:
            self._post("forget", run)

    def _give(self, bytes: int) -> int:
        child = self.child
        return child.give(bytes) if child is not None else bytes

    # --- the lane's thread ----------------------------------------------------------------------------------------------

    def run(self, work: Work) -> Report:
        """One attempt of a job, to its end. A process that died before it began the job counts for nothing, once."""
        self.job = work.job.id
        try:
            for may_die in (True, False):
                report = self._attempt(work, may_die)
                if report is not None:
                    return report
            raise AssertionError("the second attempt has an outcome")
        finally:
            self._abandoned.clear()
            self.job = 0

    def _attempt(self, work: Work, may_die: bool) -> Report | None:
        job = work.job
        try:
            wanted = bytes_of(models_of(job.type, job.literals, work.inputs), self._models)
            if isinstance(work.context, JobContext):
                wanted += work.context.working_bytes
            parcel = Parcel.of(work_form(work), f"what {job.type.id} is given")
        except AnyloomError as error:
            return Raised(_not_sent(error))
        except MemoryError as error:
            return Raised(error)
        child = self._living(job.id)
        if child is None or child.ending is not None or self._unwanted(job.id):
            parcel.drop()
            if self._unwanted(job.id):
                return Interrupted()
            self.crashes += 1
            return None if may_die else Raised(self._lost(work, child.ending if child is not None else None))
        extra = self._models.make_room(self.device, wanted)
        answer = child.ask(job.id, parcel, extra)
        if isinstance(answer, Ending):
            if self._unwanted(job.id):
                return Interrupted()
            if may_die and child.begun != job.id:
                return None
            self.crashes += 1
            return Raised(self._lost(work, answer))
        self.crashes = 0
        try:
            return report_from(Parcel(answer.parts[2], answer.parts[3], answer.fd).opened())
        except AnyloomError as error:
            return Raised(error)
        except (OSError, ValueError) as error:
            return Raised(MemoryError(str(error)))

    def _unwanted(self, job: int) -> bool:
        return job in self._abandoned or self._executor.closing or self._executor.is_stopped(job)

    def _living(self, job: int) -> Child | None:
        """A process that can take the job: begun if need be, after a pause if the last ones died. One that has died of its
        beginning. None: the system starts none. Nobody waits on for a job that is not wanted any more."""
        pause = min(BACKOFF_LIMIT_S, BACKOFF_S * 2 ** (self.crashes - 2)) if self.crashes > 1 else 0.0
        until = time.monotonic() + pause
        with self._changed:
            while self._here() is None and (left := until - time.monotonic()) > 0 and not self._unwanted(job):
                self._changed.wait(left)
            if self._here() is None and not self._unwanted(job):
                before = self._refusals
                self._executor.on_loop(self.begin)
                self._changed.wait_for(
                    lambda: self._here() is not None or self._refusals != before or self._unwanted(job), BEGIN_S
                )
            child = self._here()
            while child is not None and not child.ready and child.ending is None and not self._unwanted(job):
                self._changed.wait()
            return child

    def _here(self) -> Child | None:
        child = self.child
        return child if child is not None and child.ending is None else None

    def _lost(self, work: Work, ending: Ending | None) -> WorkerLost:
        job = work.job
        what = str(ending) if ending is not None else "could not be started"
        return WorkerLost(
            f"the process of {self.device} {what}. It was at attempt {job.attempt} of {job.type.id}.",
            remedy="If every attempt ends like this, the node breaks its process, or there is too little memory for it.",
        )


class WorkerExecutor(LocalExecutor):
    """As the local executor, but the lane of each device leads to a process."""

    def __init__(
        self, devices: tuple[str, ...], pool_threads: int, report: ReportTo, recipe: Recipe, models: Fleet
    ) -> None:
        """Raises RequestError on systems whose processes cannot share memory without a name."""
        if not hasattr(os, "memfd_create"):
            raise RequestError(
                "processes for devices need memfd_create, which this system has not.",
                remedy="Start with --workers none.",
                code="no_workers",
            )
        super().__init__(devices, pool_threads, report)
        self.workers = {device: Worker(device, recipe, models, self) for device in devices}
        self._device_lanes = {device: ThreadLane(device, 1, self._serve_there, self._finish) for device in devices}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Begin all processes and wait until they have said what their devices have, have died of it, or take too long."""
        self._loop = asyncio.get_running_loop()
        for worker in self.workers.values():
            worker.begin()
        until = time.monotonic() + BEGIN_S
        while any(worker.child is not None and not worker.child.ready for worker in self.workers.values()):
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.005)
        for worker in self.workers.values():
            self._loop.call_later(WARM_AFTER_S, worker.warm)

    def prepare(self) -> None:
        for worker in self.workers.values():
            worker.warm()

    @property
    def closing(self) -> bool:
        return self._closing

    def start(self, work: Work) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        super().start(work)

    def stop(self, job: int) -> None:
        super().stop(job)
        for worker in self.workers.values():
            worker.stop(job)

    def abandon(self, job: int) -> None:
        if not any(worker.abandon(job) for worker in self.workers.values()):
            self._pool.abandon(job)

    async def close(self) -> None:
        self._closing = True
        for worker in self.workers.values():
            worker.close()
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(CLOSE_S, worker.kill) for worker in self.workers.values()]
        await super().close()
        while any(worker.child is not None for worker in self.workers.values()):
            await asyncio.sleep(0.002)
        for timer in timers:
            timer.cancel()

    def relay(self, job: int, type: str, data: dict[str, Any]) -> None:
        context = self._contexts.get(job)
        if context is not None:
            context.relay(type, data)

    def saw(self, job: int, bytes: int) -> None:
        context = self._contexts.get(job)
        if context is not None:
            context.saw(bytes)

    def is_stopped(self, job: int) -> bool:
        return job in self._stopped

    def on_loop(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    def _serve_there(self, work: Work) -> Iterator[tuple[Work, Report]]:
        wanted = not self._closing and work.job.id not in self._stopped
        yield work, self.workers[work.job.device].run(work) if wanted else Interrupted()


def _not_sent(error: AnyloomError) -> AnyloomError:
    return AnyloomError(
        f"{error.message.rstrip('.')}: so it cannot be handed to the process of a device.",
        remedy="Link plain values, tensors or arrays, or start the server with --workers none.",
        code=error.problem.code,
    )

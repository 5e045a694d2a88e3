"""The executor in this process: one thread per device, a pool for nodes that need none, tasks for `async def` nodes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping

from graph_engine.execute.call import call, call_async, explain, follow
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, NotBegun, Raised, Report, ReportTo, Work
from graph_engine.execute.threads import ThreadLane

log = logging.getLogger("anyloom.local")

FOLLOW_S = 0.002
"""How long a thread goes on with following jobs before it lets the scheduler decide again."""


class LocalExecutor:
    """Threads start when there is work for them; an idle engine has none.

    Nodes that declare `inline` run where `start` is called, on the event loop: handing a microsecond of work to a thread
    and back costs a hundred.
    """

    def __init__(self, devices: tuple[str, ...], pool_threads: int, report: ReportTo) -> None:
        self.devices = devices
        self.lanes: Mapping[str, int] = {"pool": pool_threads, "async": 1_000, "inline": 64}
        self._report = report
        self._pool = ThreadLane("pool", pool_threads, self._serve, self._finish)
        self._device_lanes = {device: ThreadLane(device, 1, self._serve, self._finish) for device in devices}
        self._tasks: dict[int, asyncio.Task[Report]] = {}
        self._stopped: set[int] = set()
        self._contexts: dict[int, JobContext] = {}
        self._closing = False

    async def open(self) -> None:
        """There is nothing to prepare."""

    def prepare(self) -> None:
        """Nodes run in this process, which has imported what it has."""

    def start(self, work: Work) -> None:
        job, context = work.job, work.context
        if context is not None and isinstance(context, JobContext):
            self._contexts[job.id] = context
        lane = job.type.lane
        if job.id in self._stopped:
            self._finish(work, Interrupted())
            for then in work.then:
                self._finish(then, NotBegun())
        elif lane == "inline":
            self._finish(work, call(work))
        elif lane == "pool":
            self._pool.put(work)
        elif lane == "device":
            self._device_lanes[job.device].put(work)
        else:
            task = self._tasks[job.id] = asyncio.get_running_loop().create_task(call_async(work))
            task.add_done_callback(lambda task: self._finish_async(work, task))

    def stop(self, job: int) -> None:
        context = self._contexts.get(job)
        if context is not None:
            context.stop()
        self._stopped.add(job)
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def abandon(self, job: int) -> None:
        for lane in (self._pool, *self._device_lanes.values()):
            if lane.abandon(job):
                return

    async def close(self) -> None:
        self._closing = True
        for context in list(self._contexts.values()):
            context.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        threads = [thread for lane in (self._pool, *self._device_lanes.values()) for thread in lane.dismiss()]
        until = time.monotonic() + 2.0
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, until - time.monotonic()))

    def _serve(self, work: Work) -> Iterator[tuple[Work, Report]]:
        """One job, in a thread, and what follows it."""
        until = time.perf_counter() + FOLLOW_S
        report = Interrupted() if self._closing or work.job.id in self._stopped else call(work)
        yield work, report
        if work.then:
            yield from follow(work.then, report, until, self._stopped)

    def _finish_async(self, work: Work, task: asyncio.Task[Report]) -> None:
        """A callback, because a task that is cancelled before its first step runs none of its own code."""
        del self._tasks[work.job.id]
        if not task.cancelled():
            report = task.result()
        elif self._closing or work.job.id in self._stopped:
            report = Interrupted()
        else:  # it waited for something else that was cancelled
            report = Raised(explain(asyncio.CancelledError("what it waited for was cancelled"), work.job.type))
        self._finish(work, report)

    def _finish(self, work: Work, report: Report) -> None:
        job = work.job.id
        if work.context is not None and (context := self._contexts.pop(job, None)) is not None:
            try:
                context.release()
            except Exception:  # a thread that ended here would never report, and the run would wait for ever
                log.exception("what %s held could not all be given back", work.job.type.id)
        if self._stopped:
            self._stopped.discard(job)
        self._report(job, report)

"""The executor in this process: one thread per device, a pool for nodes that need none, tasks for `async def` nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from graph_engine.execute.call import call, call_async, follow
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, Report, ReportTo, Work
from graph_engine.execute.threads import ThreadLane

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
        self._pool = ThreadLane("pool", pool_threads, self._serve)
        self._device_lanes = {device: ThreadLane(device, 1, self._serve) for device in devices}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopped: set[int] = set()
        self._contexts: dict[int, JobContext] = {}

    def start(self, work: Work) -> None:
        job = work.job
        if isinstance(work.context, JobContext):
            self._contexts[job.id] = work.context
        lane = job.type.lane
        if lane == "inline":
            self._finish(work, call(work))
        elif lane == "pool":
            self._pool.put(work)
        elif lane == "device":
            self._device_lanes[job.device].put(work)
        else:
            self._tasks[job.id] = asyncio.get_running_loop().create_task(self._run_async(work))

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
        for context in list(self._contexts.values()):
            context.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        threads = [thread for lane in (self._pool, *self._device_lanes.values()) for thread in lane.dismiss()]
        for thread in threads:
            await asyncio.to_thread(thread.join, 2.0)

    def _serve(self, work: Work) -> None:
        """One job, in a thread, and what follows it."""
        until = time.perf_counter() + FOLLOW_S
        report = Interrupted() if work.job.id in self._stopped else call(work)
        self._finish(work, report)
        for then, report in follow(work.then, report, until, self._stopped):
            self._finish(then, report)

    async def _run_async(self, work: Work) -> None:
        try:
            report = await call_async(work)
        except asyncio.CancelledError:
            report = Interrupted()
        self._tasks.pop(work.job.id, None)
        self._finish(work, report)

    def _finish(self, work: Work, report: Report) -> None:
        job = work.job.id
        context = self._contexts.pop(job, None)
        if context is not None:
            context.release()
        self._stopped.discard(job)
        self._report(job, report)

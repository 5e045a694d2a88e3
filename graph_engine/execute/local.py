"""The executor in this process: one thread per device, a pool for nodes that need none, tasks for `async def` nodes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue

from graph_engine.execute.call import call, call_async, follow
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, ReportTo, Work

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
        self._queues: dict[str, SimpleQueue[Work | None]] = {}
        self._idle: dict[str, int] = {}
        self._alive: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopped: set[int] = set()
        self._contexts: dict[int, JobContext] = {}
        self._where: dict[int, str] = {}
        self._abandoned: set[int] = set()
        self._lock = threading.Lock()

    def start(self, work: Work) -> None:
        job = work.job
        if isinstance(work.context, JobContext):
            self._contexts[job.id] = work.context
        lane = job.type.lane
        if lane == "inline":
            self._finish(work, Interrupted() if job.id in self._stopped else call(work))
        elif lane == "async":
            self._tasks[job.id] = asyncio.get_running_loop().create_task(self._run_async(work))
        else:
            self._put(f"device {job.device}" if lane == "device" else "pool", work)

    def stop(self, job: int) -> None:
        context = self._contexts.get(job)
        if context is not None:
            context.stop()
        self._stopped.add(job)
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def abandon(self, job: int) -> None:
        name = self._where.get(job)
        if name is None:
            return
        with self._lock:
            self._abandoned.add(job)
        self._spawn(name)

    async def close(self) -> None:
        for context in list(self._contexts.values()):
            context.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for name, queue in self._queues.items():
            for thread in self._threads:
                if thread.name == f"anyloom {name}":
                    queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 2.0)

    def _put(self, name: str, work: Work) -> None:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = SimpleQueue()
            self._idle[name] = self._alive[name] = 0
        with self._lock:
            idle = self._idle[name]
            self._idle[name] = idle - 1  # negative: jobs that wait for the thread which reports right now
        if idle <= 0 and self._alive[name] < (self.lanes["pool"] if name == "pool" else 1):
            self._alive[name] += 1
            self._spawn(name)
        queue.put(work)

    def _spawn(self, name: str) -> None:
        thread = threading.Thread(target=self._serve, args=(name,), name=f"anyloom {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, name: str) -> None:
        """A worker thread: one job after another until it is told to go."""
        queue = self._queues[name]
        while True:
            work = queue.get()
            if work is None:
                return
            job = work.job.id
            self._where[job] = name
            until = time.perf_counter() + FOLLOW_S
            report = Interrupted() if job in self._stopped else call(work)
            del self._where[job]
            self._finish(work, report)
            for then, report in follow(work.then, report, until, self._stopped):
                self._finish(then, report)
            del work, report
            with self._lock:
                if job in self._abandoned:  # another thread has its place
                    self._abandoned.discard(job)
                    return
                self._idle[name] += 1

    async def _run_async(self, work: Work) -> None:
        try:
            report = await call_async(work)
        except asyncio.CancelledError:
            report = Interrupted()
        self._tasks.pop(work.job.id, None)
        self._finish(work, report)

    def _finish(self, work: Work, report: object) -> None:
        context = self._contexts.pop(work.job.id, None)
        if context is not None:
            context.release()
        self._stopped.discard(work.job.id)
        self._report(work.job.id, report)  # type: ignore[arg-type]

"""Threads that work off one queue: woken one at a time, so that small jobs do not pay for eight threads.

A job that finds nobody at work wakes a thread. Whatever is still waiting a millisecond later wakes another, up to the
limit: then the jobs are long enough to be worth it. Eight jobs of a second each start within milliseconds of each other;
a thousand jobs of ten microseconds are done by one thread that never slept.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from graph_engine.execute.executor import Work

PATIENCE_S = 0.001


class ThreadLane:
    """`serve` is called with each job, in one of at most `limit` threads. `put` and `abandon` belong to the loop's thread."""

    def __init__(self, name: str, limit: int, serve: Callable[[Work], None]) -> None:
        self.name, self.limit = name, limit
        self._serve = serve
        self._jobs: deque[Work] = deque()
        self._wakes: SimpleQueue[bool] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._active = 0
        """Threads that are awake and belong to us; abandoned ones do not."""
        self._asleep = 0
        self._at_work: dict[int, int] = {}
        """job -> the thread it is in"""
        self._abandoned: set[int] = set()
        self._checking = False

    def put(self, work: Work) -> None:
        self._jobs.append(work)
        with self._lock:
            if self._active == 0:
                self._wake()
                return
        self._check_later()

    def _check_later(self) -> None:
        if not self._checking:
            self._checking = True
            asyncio.get_running_loop().call_later(PATIENCE_S, self._check)

    def _check(self) -> None:
        self._checking = False
        with self._lock:
            for _ in range(min(len(self._jobs), self.limit - self._active)):
                self._wake()
            waiting = bool(self._jobs) and self._active < self.limit
        if waiting:
            self._check_later()

    def _wake(self) -> None:
        """With the lock held."""
        self._active += 1
        if self._asleep > 0:
            self._asleep -= 1
        else:
            thread = threading.Thread(target=self._live, name=f"anyloom {self.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._wakes.put(True)

    def _live(self) -> None:
        me = threading.get_ident()
        while self._wakes.get():
            while True:
                try:
                    work = self._jobs.popleft()
                except IndexError:
                    with self._lock:
                        if self._jobs:
                            continue
                        self._active -= 1
                        self._asleep += 1
                        break
                self._at_work[work.job.id] = me
                try:
                    self._serve(work)
                finally:
                    del self._at_work[work.job.id]
                del work
                if me in self._abandoned:  # the lane went on without this thread
                    self._abandoned.discard(me)  # another thread may get its number
                    return

    def abandon(self, job: int) -> bool:
        """Do without the thread that a job sits in. False when the job is in none."""
        thread = self._at_work.get(job)
        if thread is None:
            return False
        with self._lock:
            self._abandoned.add(thread)
            self._active -= 1
            if self._jobs and self._active == 0:
                self._wake()
        if self._jobs:
            self._check_later()
        return True

    def dismiss(self) -> list[threading.Thread]:
        """Send the threads home, each after the job it is in; they are returned to be waited for."""
        for _ in self._threads:
            self._wakes.put(False)
        return self._threads

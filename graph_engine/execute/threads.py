"""Threads that work off one queue: woken one at a time, so that small jobs do not pay for eight threads.

A job that finds nobody at work wakes a thread. When none was begun for a millisecond and some are waiting, another thread
is woken, then two more, then four: the jobs are long enough to be worth it. Eight of a second each start within 5 ms;
a thousand jobs of ten microseconds are done by one thread that never slept. For their sake it also keeps its reports until
it has nothing quick left to do, a millisecond at most: every report interrupts the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from graph_engine.execute.executor import Report, Work

PATIENCE_S = 0.001
QUICK_S = 0.0002


class ThreadLane:
    """At most `limit` threads. `put`, `abandon` and `dismiss` belong to the loop's thread.

    serve    a job -> what is to be reported: of itself and of the jobs that followed it; called in a thread
    report   called in any thread, once for each of these
    """

    def __init__(
        self,
        name: str,
        limit: int,
        serve: Callable[[Work], Iterator[tuple[Work, Report]]],
        report: Callable[[Work, Report], None],
    ) -> None:
        self.name, self.limit = name, limit
        self._serve, self._report = serve, report
        self._seconds: dict[str, float] = {}
        """Node type -> how long its last job took; what was quick will be quick."""
        self._held: dict[int, list[tuple[Work, Report]]] = {}
        """thread -> reports it has not made yet"""
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
        self._begun = self._begun_before = 0
        """Jobs that were begun, now and at the last check."""
        self._more = 1

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
        for held in list(self._held.values()):
            self._make_reports(held)
        with self._lock:
            stuck = bool(self._at_work) and self._begun == self._begun_before
            self._begun_before = self._begun
            self._more = 2 * self._more if stuck else 1
            if stuck:  # whoever is awake is in a job that takes its time
                for _ in range(min(len(self._jobs), self.limit - self._active, self._more)):
                    self._wake()
            waiting = (bool(self._jobs) and self._active < self.limit) or any(self._held.values())
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
        held = self._held[me] = []
        while self._wakes.get():
            while True:
                try:
                    work = self._jobs.popleft()
                except IndexError:
                    self._make_reports(held)
                    with self._lock:
                        if self._jobs:
                            continue
                        left = self._leaves(me)
                        if not left:
                            self._active -= 1
                            self._asleep += 1
                    if left:
                        return
                    break
                if held and self._seconds.get(work.job.type.id, 1.0) > QUICK_S:
                    self._make_reports(held)
                self._at_work[work.job.id] = me
                self._begun += 1
                began = time.perf_counter()
                for done in self._serve(work):
                    held.append(done)
                    now = time.perf_counter()
                    self._seconds[done[0].job.type.id] = now - began
                    if now - began > QUICK_S:
                        self._make_reports(held)
                    began = now
                del self._at_work[work.job.id], work, done
                if me in self._abandoned:
                    self._make_reports(held)
                    self._leaves(me)
                    return

    def _leaves(self, me: int) -> bool:
        """Whether the lane went on without this thread, which ends then."""
        if me not in self._abandoned:
            return False
        del self._held[me]
        self._abandoned.discard(me)  # another thread may get its number
        return True

    def _make_reports(self, held: list[tuple[Work, Report]]) -> None:
        """Of a thread: by itself, or by the loop when it takes long over something that used to be quick."""
        if held:
            with self._lock:
                ready = held[:]
                held.clear()
            for work, report in ready:
                self._report(work, report)

    def abandon(self, job: int) -> bool:
        """Do without the thread that a job sits in. False when the job is in none."""
        with self._lock:
            thread = self._at_work.get(job)
            if thread is None:
                return False
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

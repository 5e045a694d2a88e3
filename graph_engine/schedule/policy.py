"""Who goes first: the highest priority, among equals the run that had the least so far, within a run the plan's order."""

from __future__ import annotations

from heapq import heappop, heappush

from graph_engine.schedule.affinity import Affinity
from graph_engine.schedule.states import Run, Task


class Lane:
    """A place where jobs run, `slots` at a time, and the tasks that are ready for it.

    Fairness is start-time fair queueing (Goyal et al., 1996) with a weight of one per run: a run that comes late starts at
    the share of the run served last, so it neither waits for the others to end nor starves them.
    """

    __slots__ = ("_clock", "_count", "_queued", "affinity", "devices", "name", "queue", "slots")

    def __init__(self, name: str, slots: int, devices: tuple[str, ...] = ()) -> None:
        self.name, self.slots = name, float(slots)
        self.devices = list(devices)
        """Free devices, for a lane of devices."""
        self.queue: list[tuple[int, float, int, Run]] = []
        """Runs that have something ready for this lane; empty when none has."""
        self.affinity: Affinity | None = None
        """Which of the tasks of the run whose turn it is; else the first in plan order."""
        self._queued: set[str] = set()
        self._clock = 0.0
        self._count = 0

    def push(self, task: Task, run: Run, order: int) -> None:
        self._count += 1
        heappush(run.ready.setdefault(self.name, []), (order, self._count, task))
        if run.id not in self._queued:
            self._queued.add(run.id)
            share = run.share[self.name] = max(run.share.get(self.name, 0.0), self._clock)
            heappush(self.queue, (-run.priority, share, run.number, run))

    def admit(self, run: Run) -> bool:
        """May a task of this run start at once, because nobody else waits? Counts as pushed and popped."""
        if self.queue or self.slots <= 0:
            return False
        share = self._clock = max(run.share.get(self.name, 0.0), self._clock)
        run.share[self.name] = share + 1.0
        return True

    def pop(self) -> Task | None:
        """The task to start next, or None."""
        while self.queue:
            _, share, _, run = self.queue[0]
            ready = run.ready[self.name]
            task = self.affinity.take(ready) if self.affinity is not None else None
            while ready and task is None:
                candidate = heappop(ready)[2]
                if not candidate.dead and candidate.job == 0:
                    task = candidate
            heappop(self.queue)
            if task is not None:
                self._clock = share
                share = run.share[self.name] = share + 1.0
            if ready:
                heappush(self.queue, (-run.priority, share, run.number, run))
            else:
                self._queued.discard(run.id)
            if task is not None:
                return task
        return None

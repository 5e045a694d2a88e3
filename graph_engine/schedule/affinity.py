"""Affinity: of the tasks of one run that could begin, one whose models are in memory goes before one that would have to wait
for a copy. Pure; who is in memory is told from outside.

It changes the order within a run only: which run is served is decided before (`policy.py`), so priorities and shares are
what they were. And within bounds: a task is passed over `PATIENCE` times at most, by tasks at most `LOOK_AHEAD` places behind.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from graph_engine.schedule.states import Task

LOOK_AHEAD = 8
PATIENCE = 4

IsHere = Callable[[Task], bool]
"""Whether all models that a task uses are in memory."""


class Affinity:
    """passed: how often each task that still waits was passed over."""

    def __init__(self, is_here: IsHere) -> None:
        self.is_here = is_here
        self.passed: dict[str, int] = {}

    def take(self, ready: list[tuple[int, int, Task]]) -> Task | None:
        """Take a task out of a heap in plan order; None when none of it is wanted any more."""
        near: list[tuple[int, int, Task]] = []
        chosen = -1
        while ready and chosen < 0 and len(near) < LOOK_AHEAD:
            entry = heappop(ready)
            task = entry[2]
            if task.dead or task.job:
                self.passed.pop(task.key, None)
                continue
            near.append(entry)
            alone = not ready and len(near) == 1
            if alone or self.passed.get(task.key, 0) >= PATIENCE or self.is_here(task):
                chosen = len(near) - 1
        if not near:
            return None
        chosen = max(chosen, 0)
        found = near.pop(chosen)[2]
        for place, entry in enumerate(near):
            if place < chosen:
                self.passed[entry[2].key] = self.passed.get(entry[2].key, 0) + 1
            heappush(ready, entry)
        self.passed.pop(found.key, None)
        return found

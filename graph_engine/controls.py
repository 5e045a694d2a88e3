"""Controls: what a person does to runs that were accepted. The middle of the engine, between questions and submitting."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Iterable
from typing import Any

from graph_engine.questions import Questions
from graph_engine.schedule.messages import Continue, Hold, Prioritise
from graph_engine.store.history import FINISHED
from graph_engine.wishes import check_priority

CLEARED_AT_ONCE = 1_000


class Controls(Questions):
    _background: set[asyncio.Future[Any]]
    """Writes that nobody waits for."""

    @abc.abstractmethod
    async def cancel(self, run_id: str) -> bool:
        """Ask a run to end."""

    async def go_on(self, run_id: str, node: str = "") -> list[str]:
        """Let a paused run go on, at one node or at all; which ones those are. Raises NotFoundError."""
        record = await self.run(run_id)
        nodes = [name for name in record.paused if node in ("", name)]
        if nodes:
            self._runner.tell(Continue(run_id, node))
        return nodes

    async def prioritise(self, run_id: str, priority: int) -> bool:
        """Change a run's place among others; False when it has ended. Raises NotFoundError, RequestError."""
        check_priority(priority)
        record = await self.run(run_id)
        if record.ended:
            return False
        record.priority = priority
        await self._queue.prioritise(run_id, priority)
        self._runner.tell(Prioritise(run_id, priority))
        return True

    async def cancel_all(self) -> int:
        """Cancel every run that has not ended; how many there were."""
        active = [live.record.id for live in self._roster.live.values() if not live.record.ended and not live.cancelled]
        for run in active:
            await self.cancel(run)
        return len(active)

    def hold(self, on: bool) -> None:
        """Begin no step of any run, or begin them again. Steps that run go on. Forgotten when the engine closes."""
        self._runner.tell(Hold(on))

    async def delete(self, run_ids: Iterable[str]) -> int:
        """Forget runs that have ended, with their events; others are left alone. Returns how many were forgotten.

        Files that they wrote to `output` stay, and so does what caches have of their results; previews go in time.
        """
        ids = list(dict.fromkeys(run_ids))
        for id in ids:
            live = self._roster.live.get(id)
            if live is None or live.record.ended:
                self._roster.forget(id)
        if self._background:  # the end of a run may not be written yet
            await asyncio.wait(set(self._background))
        return await self._queue.delete(ids)

    async def clear_history(self, status: str | None = None) -> int:
        """Forget every run that has ended, or those of one status; how many there were."""
        count = 0
        while True:
            rows = await self._queue.history(status=status or FINISHED, limit=CLEARED_AT_ONCE)
            deleted = await self.delete([row.id for row in rows])
            count += deleted
            if not deleted:
                return count

"""Endings: how runs ended is written down, again where the disk has failed, and the history is cut as it grows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from graph_engine.errors import StoreError
from graph_engine.roster import LiveRun, Roster
from graph_engine.store.queue import RunQueue

CUT_AT_LEAST = 100
"""The history is cut when it has grown by so many runs, or by a tenth of what is kept."""


class Endings:
    """Of one engine, on its loop. keep: looks after a write that nobody waits for."""

    def __init__(
        self, queue: RunQueue, roster: Roster, keep_history: int, keep: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        self._queue, self._roster, self._keep_history, self._keep = queue, roster, keep_history, keep
        self._closing = False
        self._unwritten: list[LiveRun] = []
        """Runs that ended while the disk failed."""
        self._surplus = 0
        """Runs that ended since the history was cut the last time."""

    def write(self, live: LiveRun) -> None:
        """The run has ended as its record says."""
        writing = self._finish(live)
        self._keep(writing)
        writing.add_done_callback(partial(self._written, live))

    def closing(self) -> None:
        """From now on what fails is left for `close`."""
        self._closing = True

    async def close(self) -> None:
        """The last try, when no other write is under way."""
        for live in self._unwritten:
            with suppress(StoreError):  # the next engine runs it anew
                await self._finish(live)

    def _finish(self, live: LiveRun) -> asyncio.Future[bool]:
        record = live.record
        result, error = json.dumps(record.result, default=str), json.dumps(record.errors, default=str)
        return self._queue.finish(record.id, record.status, result=result, error=error, at=record.finished)

    def _written(self, live: LiveRun, writing: asyncio.Future[bool]) -> None:
        """Where the disk has failed, only this process knows how the run ended: it is not forgotten, and written again once
        the disk works, or the next engine would run it anew."""
        if writing.cancelled() or isinstance(writing.exception(), StoreError):
            self._unwritten.append(live)
        elif writing.exception() is None:
            self._roster.recorded(live)
            if not self._closing:
                self._go_on()

    def _go_on(self) -> None:
        """The disk has taken something."""
        again, self._unwritten = self._unwritten, []
        for live in again:
            self.write(live)
        self._surplus += 1
        if self._surplus >= max(CUT_AT_LEAST, self._keep_history // 10):
            self._surplus = 0
            self._keep(self._queue.prune(keep=self._keep_history))

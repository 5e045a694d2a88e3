"""Tidying: while an engine is open, previews that no result names any more leave the folder `temp`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from pathlib import Path

from graph_engine.errors import StoreError
from graph_engine.roster import Roster
from graph_engine.store.history import History
from graph_engine.store.leftovers import Named, remove_previews

log = logging.getLogger("anyloom.tidying")

EVERY_S = 3600.0
KEPT_S = 3600.0
"""A preview stays so long in any case: somebody may look at it whose run is forgotten already."""


class Tidying:
    def __init__(self, temp: Path, history: History, roster: Roster) -> None:
        self._temp, self._history, self._roster = temp, history, roster
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while not self._stopped:
            try:
                await self.once()
            except (StoreError, OSError) as error:  # what cannot be read may name any of them
                log.warning("the folder %s is not tidied: %s", self._temp, error)
            await asyncio.sleep(EVERY_S)

    async def once(self) -> int:
        """Remove previews that neither the history names nor a run in memory; returns how many. Raises StoreError.

        What was written since the oldest run that has not ended was accepted stays: it may be on its way to a result.
        """
        before, named = time.time() - KEPT_S, Named()
        for record in self._roster.records():
            named.add(dict(record.result), record.created, record.finished)
            if not record.ended:
                before = min(before, record.created)
        async for text, created, finished in self._history.naming_files():
            named.add(json.loads(text), created, finished)
        return await asyncio.to_thread(remove_previews, self._temp, named, before, lambda: self._stopped)

"""The live state of memory and queue for those who watch it: one snapshot for all of them, a few times a second.

A watcher holds nothing but the last frame that it got: a slow one is told less often, and then the latest (law P11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

SYSTEM = "system"
"""What a watch of the server itself has in the place of a run's id."""
PACE_S = 0.25
CALM_S = 5.0
"""While nothing but the free memory of the machine changes, news come this often."""
RESTLESS = frozenset({"time", "free_bytes", "process_bytes", "since_s"})
"""Numbers that differ at every look and are no news by themselves."""


class SystemFeed:
    """look: the state now, plain data."""

    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self._look = look
        self._seen: tuple[float, dict[str, Any], Any] | None = None
        """(when, the state, what of it is news)"""

    def now(self) -> tuple[dict[str, Any], Any]:
        """The state, not older than PACE_S, and what of it is news when it differs."""
        moment = time.monotonic()
        if self._seen is None or moment - self._seen[0] >= PACE_S:
            state = self._look()
            self._seen = (moment, state, _calm(state))
        return self._seen[1], self._seen[2]

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """The state at once, then whenever it changed. Ends only with its reader."""
        told: Any = None
        told_at = 0.0
        while True:
            state, news = self.now()
            if news != told or time.monotonic() - told_at >= CALM_S:
                told, told_at = news, time.monotonic()
                yield state
            await asyncio.sleep(PACE_S)


def _calm(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _calm(entry) for name, entry in value.items() if name not in RESTLESS}
    return [_calm(entry) for entry in value] if isinstance(value, list) else value

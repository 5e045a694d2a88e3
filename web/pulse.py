"""How late the event loop is (law P10): a timer that looks at how long after its time it was called."""

from __future__ import annotations

import asyncio

BEAT_S = 0.25


class Pulse:
    """Used on one loop."""

    def __init__(self) -> None:
        self.latest_s = 0.0
        self._worst_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._beat, loop, loop.time() + BEAT_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def worst_s(self) -> float:
        """The longest delay since this was asked last."""
        worst, self._worst_s = self._worst_s, 0.0
        return worst

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.latest_s = max(0.0, loop.time() - due)
        self._worst_s = max(self._worst_s, self.latest_s)
        self.start()

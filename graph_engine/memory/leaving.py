"""Leaving: models let go of their memory after that was decided, without the pool's lock.

It takes as long as a block is read, or a layer computes, and the event loop asks the pool for numbers meanwhile. Who wants
the memory waits: before anybody uses room that was decided to be free, he carries out what is due, or waits for whoever is
at it. So at every moment there is no more than the budget (law P5).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph_engine.memory.hollow import Hollow
    from graph_engine.memory.movers import Movers
    from graph_engine.memory.offload import Streamed

Place = tuple[str, str]
"""Device, key of a model."""


class Leaving:
    """Of one pool. All its methods but `carry_out` are called with the pool's lock held."""

    def __init__(
        self, lock: threading.Lock, bytes_of: Callable[[Place], int | None], movers: Movers, hollow: Hollow
    ) -> None:
        """bytes_of: what is counted for a model now, None when nothing is."""
        self._lock, self._bytes_of, self._movers, self._hollow = lock, bytes_of, movers, hollow
        self._hands = threading.Lock()
        """Of whoever carries out. The pool's lock may be taken inside this one, never around it."""
        self._gone: deque[tuple[Place, Streamed]] = deque()
        self._changed: dict[Place, Streamed] = {}
        self._host = False

    def gone(self, place: Place, streamed: Streamed) -> None:
        """The model has left; its module is kept without weights."""
        self._changed.pop(place, None)
        self._gone.append((place, streamed))

    def changed(self, place: Place, streamed: Streamed) -> None:
        """The model has to make do with what is counted for it, or gets more."""
        self._changed[place] = streamed

    def host(self) -> None:
        """What the host keeps for models that are on no device goes last."""
        self._host = True

    def carry_out(self) -> None:
        """Returns when nothing is due any more, whoever did it."""
        with self._hands:
            while (step := self._next()) is not None:
                step()

    def _next(self) -> Callable[[], object] | None:
        """Who leaves first, then who gets less, then who gets more: that room is free by then."""
        with self._lock:
            if self._gone:
                return partial(self._close, *self._gone.popleft())
            growth: dict[Place, int] = {}
            for place, streamed in list(self._changed.items()):
                room = self._bytes_of(place)
                if room is None or room == streamed.room:
                    del self._changed[place]
                else:
                    growth[place] = room - streamed.room
            if growth:
                place = min(growth, key=growth.__getitem__)
                streamed = self._changed.pop(place)
                return partial(streamed.resize, streamed.room + growth[place])
            host, self._host = self._host, False
            return self._clear_host if host else None

    def _close(self, place: Place, streamed: Streamed) -> None:
        streamed.close()
        with self._lock:
            self._hollow.put_away(*place, streamed.outline)

    def _clear_host(self) -> None:
        with self._lock:
            cleared = self._hollow.clear()
        del cleared
        self._movers.clear()

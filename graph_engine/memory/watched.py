"""A mover that says what it moves: one more floor between a streamed model and the mover of its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from graph_engine.telemetry import Telemetry

if TYPE_CHECKING:
    from graph_engine.memory.mover import Mover
    from graph_engine.models.sources import Source


class WatchedMover:
    """A copy lasts from being asked for to being ready, so the wait in the queue of copies is part of it; with a mover that
    hears from its device when a copy began and when it was over (`watch`), between these."""

    def __init__(self, mover: Mover, telemetry: Telemetry, device: str, model: str) -> None:
        self._mover, self._telemetry, self._device, self._model = mover, telemetry, device, model
        self._watch: Callable[..., None] | None = getattr(mover, "watch", None)
        self._flights: dict[int, int] = {}
        """id of a ticket (which somebody holds until `done`) -> ticket of the telemetry"""

    def ring(self, bytes: int) -> None:
        self._mover.ring(bytes)

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Any:
        ticket = self._mover.fetch(sources, passing)
        size = sum(source.bytes for source in sources)
        flight = self._flights[id(ticket)] = self._telemetry.began("copy", self._device, self._model, size)
        if hasattr(ticket, "add_done_callback"):  # over when its thread is done with it, not when somebody asks
            ticket.add_done_callback(lambda over: self._issued(flight, over))
        return ticket

    def _issued(self, flight: int, over: Future[Any]) -> None:
        came = not over.cancelled() and over.exception() is None
        if came and self._watch is not None:
            self._watch(over.result(), lambda *times: self._telemetry.ended(self._device, flight, times=times))
        else:
            self._over(flight, came)

    def ready(self, ticket: Any) -> Any:
        tensors = self._mover.ready(ticket)
        if self._watch is None:
            self._over(self._flights.get(id(ticket), 0), True)
        return tensors

    def done(self, ticket: Any) -> None:
        self._mover.done(ticket)
        flight = self._flights.pop(id(ticket), 0)
        if self._watch is None:  # else the copy may be under way still, and what became of it is told
            self._over(flight, False)

    def close(self) -> None:
        self._mover.close()
        for flight in self._flights.values():
            self._over(flight, False)
        self._flights.clear()

    def _over(self, flight: int, came: bool) -> None:
        if flight:
            self._telemetry.ended(self._device, flight, came=came)

"""A mover that says what it moves: one more floor between a streamed model and the mover of its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graph_engine.telemetry import Telemetry

if TYPE_CHECKING:
    from graph_engine.memory.mover import Mover
    from graph_engine.models.sources import Source


class WatchedMover:
    """A copy lasts from being asked for to being ready, so the wait in the queue of copies is part of it."""

    def __init__(self, mover: Mover, telemetry: Telemetry, device: str, model: str) -> None:
        self._mover, self._telemetry, self._device, self._model = mover, telemetry, device, model
        self._flights: dict[int, int] = {}
        """id of a ticket (which somebody holds until `done`) -> ticket of the telemetry"""

    def ring(self, bytes: int) -> None:
        self._mover.ring(bytes)

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Any:
        ticket = self._mover.fetch(sources, passing)
        size = sum(source.bytes for source in sources)
        flight = self._flights[id(ticket)] = self._telemetry.began("copy", self._device, self._model, size)
        if hasattr(ticket, "add_done_callback"):  # over when its thread is done with it, not when somebody asks
            ticket.add_done_callback(lambda over: self._over(flight, not over.cancelled() and over.exception() is None))
        return ticket

    def ready(self, ticket: Any) -> Any:
        tensors = self._mover.ready(ticket)
        self._over(self._flights.get(id(ticket), 0), True)
        return tensors

    def done(self, ticket: Any) -> None:
        self._mover.done(ticket)
        self._over(self._flights.pop(id(ticket), 0), False)

    def close(self) -> None:
        self._mover.close()
        for flight in self._flights.values():
            self._over(flight, False)
        self._flights.clear()

    def _over(self, flight: int, came: bool) -> None:
        if flight:
            self._telemetry.ended(self._device, flight, came=came)

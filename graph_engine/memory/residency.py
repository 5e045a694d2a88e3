"""Which models stay on a device. Pure: it decides, the pool carries out.

What leaves is what is needed last (Belady, 1966): plans know the next use of every model, so there is nothing to guess.
Models that no running plan needs again leave first, the least recently used before the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graph_engine.errors import OutOfMemory


@dataclass(slots=True)
class Resident:
    bytes: int
    leases: int = 0
    next_use: float = math.inf
    """Position on the residency's clock, which ticks once per lease."""
    last_use: int = 0


class Residency:
    """The models of one device under a budget of bytes. Leased models never leave."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device, self.budget_bytes = device, budget_bytes
        self.residents: dict[str, Resident] = {}
        self._clock = 0

    @property
    def used_bytes(self) -> int:
        return sum(resident.bytes for resident in self.residents.values())

    def admit(self, key: str, bytes: int) -> list[str]:
        """Make room for a model and count it in; returns the keys that must leave first.

        Raises OutOfMemory, with the numbers, when even without every unleased model there is no room; then nothing changed.
        """
        leaving = self._make_room(bytes)
        self.residents[key] = Resident(bytes)
        return leaving

    def _make_room(self, bytes: int, held: int = 0) -> list[str]:
        free = self.budget_bytes - self.used_bytes + held
        leaving: list[str] = []
        idle = [
            (resident.next_use, -resident.last_use, other)
            for other, resident in self.residents.items()
            if not resident.leases
        ]
        for _, _, other in sorted(idle, reverse=True):
            if bytes <= free:
                break
            free += self.residents[other].bytes
            leaving.append(other)
        if bytes > free:
            leased = sum(resident.bytes for resident in self.residents.values() if resident.leases)
            raise OutOfMemory(
                f"a model of {bytes:,} bytes does not fit on {self.device}: its budget is {self.budget_bytes:,} bytes, "
                f"of which {leased:,} are in use by running jobs.",
                remedy="Raise the budget, use a smaller model or dtype, or run fewer jobs at once.",
            )
        for other in leaving:
            del self.residents[other]
        return leaving

    def lease(self, key: str, next_use: int | None) -> None:
        """A job uses the model now; `next_use` is how many steps later its plan uses it again, None for never."""
        resident = self.residents[key]
        self._clock += 1
        resident.leases += 1
        resident.last_use = self._clock
        upcoming = math.inf if next_use is None else float(self._clock + next_use)
        # Of several plans that want it, the soonest counts; a use that lies behind the clock counts no more.
        resident.next_use = min(upcoming, resident.next_use) if resident.next_use > self._clock else upcoming

    def release(self, key: str) -> None:
        resident = self.residents.get(key)
        if resident is not None:
            resident.leases -= 1

    def resize(self, key: str, bytes: int) -> list[str]:
        """Correct the estimate of a leased model by what it really takes; else as `admit`."""
        resident = self.residents[key]
        leaving = self._make_room(bytes, resident.bytes)
        resident.bytes = bytes
        return leaving

    def discard(self, key: str) -> None:
        self.residents.pop(key, None)

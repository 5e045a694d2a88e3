"""Which models stay on a device. Pure: it decides, the pool carries out.

What leaves is what is needed last (Belady, 1966): plans know the next use of every model, so there is nothing to guess.
Models that no running plan needs again leave first, the least recently used before the others.

What comes next is brought while the present step computes, into room that is free or held by what is needed later. That
never copies more than bringing each model when it is used would: see `bring`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from graph_engine.errors import OutOfMemory


@dataclass(slots=True)
class Resident:
    bytes: int
    leases: int = 0
    next_use: float = math.inf
    """Position on the residency's clock, which ticks once per lease."""
    last_use: int = 0
    least_bytes: int = 0
    """A streamed model can be made to do with this; of others it is 0."""
    beside_bytes: int = 0
    """Kept on the device for it beside its weights; goes with it, or before it."""

    @property
    def spare_bytes(self) -> int:
        return self.bytes - self.least_bytes if self.least_bytes else 0


class Coming(NamedTuple):
    """A use of a model that a running plan will make.

    use, again     when, and when after that once more, on the residency's clock
    working_bytes  the most that the steps until then need beside their models
    least_bytes    it can come in pieces, so many bytes of it at least; 0: only as a whole
    """

    key: str
    bytes: int
    use: float
    again: float = math.inf
    working_bytes: int = 0
    least_bytes: int = 0


class Residency:
    """The models of one device under a budget of bytes, and what running jobs need beside them.

    Leased models never leave. Streamed ones may be made to do with less at any time. Law P5: at every moment
    `used_bytes + reserved_bytes <= budget_bytes`.
    """

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device, self.budget_bytes = device, budget_bytes
        self.residents: dict[str, Resident] = {}
        self.reserved_bytes = 0
        self.clock = 0

    @property
    def used_bytes(self) -> int:
        return sum(resident.bytes + resident.beside_bytes for resident in self.residents.values())

    @property
    def leased_bytes(self) -> int:
        return sum(resident.bytes + resident.beside_bytes for resident in self.residents.values() if resident.leases)

    def admit(self, key: str, bytes: int) -> list[str]:
        """Make room for a model and count it in; returns the keys that must leave first.

        A key that is counted still when this returns does not leave: it makes do with what is counted now, of its weights
        (then it is streamed) and beside them.
        Raises OutOfMemory, with the numbers, when even so there is no room; then nothing changed.
        """
        leaving = self._make_room(bytes, f"a model of {bytes:,} bytes")
        self.residents[key] = Resident(bytes)
        return leaving

    def admit_streamed(self, key: str, bytes: int, least_bytes: int) -> tuple[int, list[str]]:
        """Give a model that may be streamed all the room there is; returns (room, keys as in `admit`).

        With room for the whole of it, or for more than others can spare, it gets no more than `bytes`. Raises OutOfMemory.
        """
        free = self.budget_bytes - self.reserved_bytes - self.leased_bytes
        room = min(bytes, max(free, least_bytes))
        what = f"a model of {bytes:,} bytes, of which {least_bytes:,} have to be there at once,"
        leaving = self._make_room(room, what)
        self.residents[key] = Resident(room, least_bytes=least_bytes if room < bytes else 0)
        return room, leaving

    def grow(self, key: str, bytes: int) -> tuple[int, list[str]]:
        """A streamed model that nobody uses may get up to `bytes`; returns (room, keys as in `admit`)."""
        mine = self.residents.pop(key)
        self.reserved_bytes += mine.beside_bytes
        try:
            room, leaving = self.admit_streamed(key, bytes, mine.least_bytes)
        except OutOfMemory:
            room, leaving = mine.bytes, []
        finally:
            self.reserved_bytes -= mine.beside_bytes
        mine.bytes, self.residents[key] = max(room, mine.least_bytes), mine
        if mine.bytes == bytes:
            mine.least_bytes = 0  # whole
        return mine.bytes, leaving

    def expect(self, coming: Iterable[Coming]) -> None:
        """Plans will use these: what is here already is kept accordingly."""
        for one in coming:
            resident = self.residents.get(one.key)
            if resident is not None and (resident.next_use <= self.clock or one.use < resident.next_use):
                resident.next_use = one.use

    def bring(self, coming: Iterable[Coming]) -> tuple[str, int, list[str]] | None:
        """Count in the first model of these that is not here, ahead of its use; returns (key, its room, keys as in `admit`).

        coming: the uses that are known, the soonest first. None when nothing is to be brought now: everything is here, or
        the next one has to wait for room. Nothing that is needed sooner leaves for it, and nothing that would not have left
        for it anyway: of what is in use now, and of what is used before it, something may be needed later still than all
        that could leave at present; then it is better to wait (Belady at the time of use, so no more is ever copied).
        Nobody holds what was brought ahead: it leaves as soon as a job needs its room. Law P5.
        """
        before = max((resident.next_use for resident in self.residents.values() if resident.leases), default=-math.inf)
        for one in coming:
            if one.key in self.residents:
                before = max(before, one.again)
                continue
            if one.bytes + one.working_bytes > self.budget_bytes:
                return None  # it will be streamed, in all the room there is then
            kept = max(self.reserved_bytes, one.working_bytes)
            free = self.budget_bytes - kept - self.used_bytes
            may_leave = sum(
                resident.bytes + resident.beside_bytes
                for resident in self.residents.values()
                if not resident.leases and resident.next_use > one.use and resident.next_use >= before
            )
            room = min(one.bytes, free + may_leave)
            if room < one.bytes and not (one.least_bytes and room >= one.least_bytes):
                return None
            leaving = self._make_room(room + kept - self.reserved_bytes, f"a model of {one.bytes:,} bytes")
            least = one.least_bytes if room < one.bytes else 0
            self.residents[one.key] = Resident(room, next_use=one.use, least_bytes=least)
            return one.key, room, leaving
        return None

    def reserve(self, bytes: int) -> list[str]:
        """Keep bytes for a job's activations; returns keys as in `admit`. Raises OutOfMemory; then nothing changed."""
        leaving = self._make_room(bytes, f"a job that needs {bytes:,} bytes beside its models")
        self.reserved_bytes += bytes
        return leaving

    def keep_beside(self, key: str, bytes: int) -> list[str]:
        """So many bytes are kept for an idle model now, beside its weights; returns keys as in `admit`.

        Raises OutOfMemory when there is no room for them even without the other idle models; then nothing is counted for
        them any more, and they must go.
        """
        resident = self.residents[key]
        resident.beside_bytes, resident.leases = 0, resident.leases + 1  # it does not make room for what is its own
        try:
            leaving = self._make_room(bytes, f"what is kept beside a model ({bytes:,} bytes)")
        finally:
            resident.leases -= 1
        resident.beside_bytes = bytes
        return leaving

    def unreserve(self, bytes: int) -> None:
        self.reserved_bytes -= bytes

    def _make_room(self, bytes: int, what: str, held: int = 0) -> list[str]:
        free = self.budget_bytes - self.reserved_bytes - self.used_bytes + held
        leaving: list[str] = []
        bare: list[str] = []
        smaller: dict[str, int] = {}
        idle = [
            (resident.next_use, -resident.last_use, other)
            for other, resident in self.residents.items()
            if not resident.leases
        ]
        for _, _, other in sorted(idle, reverse=True):
            if bytes <= free:
                break
            resident = self.residents[other]
            if resident.beside_bytes:
                bare.append(other)
                free += resident.beside_bytes
                if bytes <= free:
                    break
            if bytes <= free + resident.spare_bytes:
                smaller[other] = resident.bytes - (bytes - free)
                free = bytes
            else:
                free += resident.bytes
                leaving.append(other)
        for other, resident in self.residents.items():
            if bytes > free and resident.leases and resident.spare_bytes:
                taken = min(bytes - free, resident.spare_bytes)
                smaller[other] = resident.bytes - taken
                free += taken
        if bytes > free:
            reserved = f" and {self.reserved_bytes:,} are kept for their activations" if self.reserved_bytes else ""
            raise OutOfMemory(
                f"{what} does not fit on {self.device}: its budget is {self.budget_bytes:,} bytes, "
                f"of which {self.leased_bytes - held:,} are in use by running jobs{reserved}.",
                remedy="Raise the budget, use a smaller model or dtype, or run fewer jobs at once.",
            )
        for other in leaving:
            del self.residents[other]
        for other in bare:
            if other in self.residents:
                self.residents[other].beside_bytes = 0
        for other, size in smaller.items():
            self.residents[other].bytes = size
        return list(dict.fromkeys((*leaving, *bare, *smaller)))

    def lease(self, key: str, next_use: int | None) -> None:
        """A job uses the model now; `next_use`: how many uses of models later its plan uses it again, None for never."""
        resident = self.residents[key]
        self.clock += 1
        resident.leases += 1
        resident.last_use = self.clock
        upcoming = math.inf if next_use is None else float(self.clock + next_use)
        # Of several plans that want it, the soonest counts; a use that lies behind the clock counts no more.
        resident.next_use = min(upcoming, resident.next_use) if resident.next_use > self.clock else upcoming

    def next_use(self, key: str) -> int | None:
        """How many uses of models from now it is used again; None when no plan says so."""
        due = self.residents[key].next_use
        return int(due) - self.clock if self.clock < due < math.inf else None

    def release(self, key: str) -> None:
        resident = self.residents.get(key)
        if resident is not None:
            resident.leases -= 1

    def resize(self, key: str, bytes: int) -> list[str]:
        """Correct the estimate of a leased model by what it really takes; else as `admit`."""
        resident = self.residents[key]
        leaving = self._make_room(bytes, f"a model of {bytes:,} bytes", resident.bytes)
        resident.bytes = bytes
        return leaving

    def discard(self, key: str) -> None:
        self.residents.pop(key, None)

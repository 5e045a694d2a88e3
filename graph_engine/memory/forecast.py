"""How long a sequence of models takes on a device of so many bytes, and what is copied when. Pure arithmetic.

Two clocks: one of the computing, one of the copying. Weights are read-only and the host keeps them, so leaving costs
nothing and only the way in is counted. The rules are those of the pool: what leaves is what is needed last, what comes next
is copied while the present model computes, and a model larger than the room is streamed (`streaming.py`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graph_engine.errors import OutOfMemory
from graph_engine.memory.streaming import DEPTH, split


class Phase(NamedTuple):
    """A model at work: `passes` times through its blocks.

    blocks         bytes of each block, in the order of use
    seconds        computing per block and pass
    working_bytes  activations and caches beside the weights
    pinned         how many blocks at the beginning cannot be streamed
    """

    model: str
    blocks: tuple[int, ...]
    seconds: tuple[float, ...]
    passes: int = 1
    working_bytes: int = 0
    pinned: int = 0

    @property
    def weight_bytes(self) -> int:
        return sum(self.blocks)

    @property
    def compute_s(self) -> float:
        return sum(self.seconds) * self.passes


class Stretch(NamedTuple):
    """How one phase went: from when to when, the bytes copied in it (also for later ones), how long it waited for copies."""

    model: str
    begin_s: float
    end_s: float
    moved_bytes: int
    stall_s: float
    streamed: bool


class Forecast(NamedTuple):
    seconds: float
    moved_bytes: int
    stretches: tuple[Stretch, ...]


class _Copies:
    """The copy engine: one copy after the other."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth, self.free_at, self.moved = bandwidth, 0.0, 0

    def copy(self, size: int, not_before: float) -> float:
        """The moment it has arrived."""
        self.free_at = max(self.free_at, not_before) + size / self.bandwidth
        self.moved += size
        return self.free_at


def forecast(phases: Sequence[Phase], device_bytes: int, bandwidth: float, depth: int = DEPTH) -> Forecast:
    """What happens. Raises OutOfMemory that names the phase which fits not even block by block.

    bandwidth: bytes a second from the host to the device.
    """
    copies, now = _Copies(bandwidth), 0.0
    arrived: dict[str, dict[int, float]] = {}
    """model -> block -> when it arrived: what is on the device"""
    stretches: list[Stretch] = []
    for number, phase in enumerate(phases):
        begin, moved = now, copies.moved
        room = device_bytes - phase.working_bytes
        found = split(phase.blocks, room, depth, phase.pinned)
        if found is None:
            raise OutOfMemory(
                f"{phase.model} cannot even be streamed: the blocks that must be there together take more than "
                f"the {max(room, 0):,} bytes that are left for weights.",
                remedy="Raise the budget, use a smaller dtype, or quantise the weights.",
            )
        streamed = frozenset(found.streamed)
        if streamed:
            arrived = {phase.model: arrived.get(phase.model, {})}
        else:
            _make_room(phases, number, room, arrived)
        here = arrived.setdefault(phase.model, {})
        for index in streamed & here.keys():
            del here[index]
        now = _compute(phase, streamed, here, copies, begin, depth)
        if not streamed:
            _prefetch(phases, number, device_bytes, arrived, copies, begin, now)
        stretches.append(
            Stretch(phase.model, begin, now, copies.moved - moved, now - begin - phase.compute_s, bool(streamed))
        )
    return Forecast(now, copies.moved, tuple(stretches))


def _compute(
    phase: Phase, streamed: frozenset[int], here: dict[int, float], copies: _Copies, begin: float, depth: int
) -> float:
    """All passes; when the last one ends. `here` gets the arrivals of the kept blocks that were not there yet."""
    now = begin
    ring: list[float] = []
    """When the device was done with each streamed block; its slot is taken by the one `depth` later."""
    for _ in range(phase.passes):
        for index, size in enumerate(phase.blocks):
            if index in streamed:
                free = ring[-depth] if len(ring) >= depth else begin
                now = max(now, copies.copy(size, free)) + phase.seconds[index]
                ring.append(now)
            else:
                if index not in here:
                    here[index] = copies.copy(size, begin)
                now = max(now, here[index]) + phase.seconds[index]
    return now


def _make_room(phases: Sequence[Phase], number: int, room: int, arrived: dict[str, dict[int, float]]) -> None:
    """Whole models leave, the one that is needed last first, until this phase's model fits."""
    mine = phases[number]
    held = _held(phases, arrived)
    held.pop(mine.model, None)
    need = mine.weight_bytes + sum(held.values())
    for name in _last_needed_first(phases, number, held):
        if need <= room:
            return
        need -= held[name]
        del arrived[name]


def _prefetch(
    phases: Sequence[Phase],
    number: int,
    device_bytes: int,
    arrived: dict[str, dict[int, float]],
    copies: _Copies,
    begin: float,
    end: float,
) -> None:
    """While phase `number` computes, blocks of the following ones arrive, as many as fit beside what is needed sooner."""
    for later in range(number + 1, len(phases)):
        phase = phases[later]
        if phase.weight_bytes > device_bytes - phase.working_bytes:
            return  # it will be streamed, and takes the whole room then
        room = device_bytes - max(entry.working_bytes for entry in phases[number : later + 1])
        here = arrived.setdefault(phase.model, {})
        for index, size in enumerate(phase.blocks):
            if index in here:
                continue
            held = _held(phases, arrived)
            full = sum(held.values()) + size
            for name in _last_needed_first(phases, number, held):
                if full <= room or _next_use(phases, number, name) <= later:
                    break
                full -= held[name]
                del arrived[name]
            if full > room or max(copies.free_at, begin) >= end:
                return
            here[index] = copies.copy(size, begin)


def _held(phases: Sequence[Phase], arrived: dict[str, dict[int, float]]) -> dict[str, int]:
    blocks = {phase.model: phase.blocks for phase in phases}
    return {name: sum(blocks[name][index] for index in here) for name, here in arrived.items()}


def _next_use(phases: Sequence[Phase], number: int, model: str) -> float:
    return next((later for later in range(number, len(phases)) if phases[later].model == model), math.inf)


def _last_needed_first(phases: Sequence[Phase], number: int, models: dict[str, int]) -> list[str]:
    return sorted(models, key=lambda name: _next_use(phases, number, name), reverse=True)


# --- what it is measured against ----------------------------------------------------------------------------------


def least_seconds(phases: Sequence[Phase], device_bytes: int, bandwidth: float) -> float:
    """No schedule whatever is faster than this.

    The larger of: all computing after the first block came; every phase at least as long as the bytes which it cannot have
    had before it began; and, for each phase, all that must have come by then and the computing that is left after it.
    """
    computing = [phase.compute_s for phase in phases]
    lacking = [max(0, phase.weight_bytes - (device_bytes - phase.working_bytes)) for phase in phases]
    first = phases[0].blocks[0] / bandwidth
    each = first + sum(
        max(seconds, phase.passes * lack / bandwidth)
        for phase, seconds, lack in zip(phases, computing, lacking, strict=True)
    )
    bounds = [first + sum(computing), each]
    come, seen = 0, set()
    for number, phase in enumerate(phases):
        come += (phase.passes - 1) * lacking[number] + (0 if phase.model in seen else phase.weight_bytes)
        seen.add(phase.model)
        passes_left = 0 if lacking[number] else phase.passes - 1
        left = phase.seconds[-1] + passes_left * sum(phase.seconds) + sum(computing[number + 1 :])
        bounds.append(come / bandwidth + left)
    return max(bounds)


def lru_on_demand(phases: Sequence[Phase], device_bytes: int, bandwidth: float) -> Forecast:
    """For comparison: blocks are copied when they are needed, and the least recently used ones leave."""
    now, moved, used = 0.0, 0, 0
    resident: OrderedDict[tuple[str, int], int] = OrderedDict()
    stretches: list[Stretch] = []
    for phase in phases:
        begin, before = now, moved
        for key, size, seconds in _uses(phase):
            if key in resident:
                resident.move_to_end(key)
            else:
                while resident and used + size > device_bytes - phase.working_bytes:
                    used -= resident.popitem(last=False)[1]
                resident[key] = size
                used, moved, now = used + size, moved + size, now + size / bandwidth
            now += seconds
        stretches.append(Stretch(phase.model, begin, now, moved - before, now - begin - phase.compute_s, False))
    return Forecast(now, moved, tuple(stretches))


def _uses(phase: Phase) -> Iterator[tuple[tuple[str, int], int, float]]:
    for _ in range(phase.passes):
        for index, (size, seconds) in enumerate(zip(phase.blocks, phase.seconds, strict=True)):
            yield (phase.model, index), size, seconds

"""The mover of CUDA devices: pinned slabs on the host, one copy stream, events instead of waiting on the host."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import torch

from graph_engine.memory.mover import WeightFiles, carve
from graph_engine.memory.ring import Ring
from graph_engine.memory.slabs import Slabs
from graph_engine.models.sources import Source

T = TypeVar("T")
Told = Callable[[float, float], None]
"""From when to when a copy went, by `time.perf_counter`."""
LOOK_S = 0.002


class _Arrival(NamedTuple):
    """tensors: views of one piece of the device's memory; begun, there: the events before which nothing of them was copied and
    after which they may be read; slot: where in the ring they lie, if they do."""

    tensors: list[torch.Tensor]
    begun: torch.cuda.Event
    there: torch.cuda.Event
    slot: tuple[Ring, int] | None


class CudaMover:
    """Brings the blocks of one model, each in one copy out of its slab on the host.

    A thread issues the copies. Room on the device belongs to the copy stream: it is let go after that stream was told to
    wait for what is computed with it, so the next copy into the same memory comes after that, and nobody waits on the host.
    """

    def __init__(self, device: torch.device, slabs: Slabs, model: str) -> None:
        """model: the key of its spec, under which its slab is kept."""
        self._device, self._slabs, self._slab = device, slabs, slabs.of(model)
        self._files = WeightFiles()
        self._stream = _copy_stream(device)
        self._last: torch.cuda.Event | None = None
        self._ring = Ring(0)
        self._ring_room: torch.Tensor | None = None
        self._closed = False
        self._flying: deque[tuple[torch.cuda.Event, torch.cuda.Event, Told]] = deque()
        """Copies that were issued, in their order, of which nobody was told yet that they are over."""
        self._asked, self._looking = threading.Event(), False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="anyloom copies")

    def ring(self, bytes: int) -> None:
        self._ask(self._lay, bytes)

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Future[_Arrival]:
        return self._ask(self._bring, tuple(sources), passing)

    def _ask(self, work: Callable[..., T], *given: Any) -> Future[T]:
        self._asked.set()
        return self._worker.submit(work, *given)

    def watch(self, arrival: _Arrival, told: Told) -> None:
        """A copy was issued; `told` is called once it is over, in the thread of this mover."""
        self._flying.append((arrival.begun, arrival.there, told))
        self._look_again()

    def ready(self, ticket: Future[_Arrival]) -> list[torch.Tensor]:
        arrival = ticket.result()  # that the copy was asked for, not that it is over
        torch.cuda.current_stream(self._device).wait_event(arrival.there)
        return arrival.tensors

    def done(self, ticket: Future[_Arrival]) -> None:
        if not ticket.cancel():
            used = torch.cuda.current_stream(self._device).record_event()
            self._ask(self._let_go, ticket, used)

    def close(self) -> None:
        # Nothing more is brought, but what was given back is let go in order: its room must not be written to before what
        # is computed with it is over.
        self._closed = True
        self._asked.set()
        self._worker.shutdown(wait=True)
        self._ring_room = None
        if self._last is not None:
            self._last.synchronize()  # nothing is read from the slab any more; what is computed may go on
        self._tell()
        self._slabs.done(self._slab)
        self._files.close()

    # --- in the thread ----------------------------------------------------------------------------------------------------

    def _lay(self, bytes: int) -> None:
        self._asked.clear()
        self._ring, self._ring_room = Ring(bytes), None

    def _bring(self, sources: tuple[Source, ...], passing: bool) -> _Arrival:
        if self._closed:
            raise RuntimeError("the mover is closed")
        self._asked.clear()
        self._tell()
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            # In here, too: locking memory makes a context on the device that is current.
            pieces, begins, size = self._slab.pieces(sources, self._files)
            room, slot = self._room(size, passing)
            try:
                begun = self._stream.record_event(_timed())
                for piece in pieces:
                    room[piece.begin : piece.begin + piece.bytes.numel()].copy_(piece.bytes, non_blocking=True)
                self._last = there = self._stream.record_event(_timed())
                return _Arrival(carve(room, sources, begins), begun, there, slot)
            except BaseException:  # nobody gets the ticket's slot, so nobody would give it back
                if slot is not None:
                    slot[0].give(slot[1])
                raise

    def _room(self, size: int, passing: bool) -> tuple[torch.Tensor, tuple[Ring, int] | None]:
        """Memory of the device for a block: in the ring if it only passes, else of its own."""
        if passing and self._ring.bytes and self._ring_room is None:
            # Before a slot is taken: the device may have no room.
            self._ring_room = torch.empty(self._ring.bytes, dtype=torch.uint8, device=self._device)
        begin = self._ring.take(size) if passing else None
        if begin is None or self._ring_room is None:
            return torch.empty(max(size, 1), dtype=torch.uint8, device=self._device), None
        return self._ring_room[begin : begin + max(size, 1)], (self._ring, begin)

    def _let_go(self, ticket: Future[_Arrival], used: torch.cuda.Event) -> None:
        """`ticket` holds the last reference to memory of its own, until this returns."""
        self._asked.clear()
        self._stream.wait_event(used)
        if ticket.exception() is None and (slot := ticket.result().slot) is not None:
            slot[0].give(slot[1])

    def _look_again(self) -> None:
        """While copies are under way and there is nothing else to do, look now and then whether they are over."""
        if self._flying and not self._looking:
            self._looking = True
            with suppress(RuntimeError):  # closed meanwhile, which tells the rest
                self._worker.submit(self._look)

    def _look(self) -> None:
        self._asked.wait(LOOK_S)
        self._looking = False
        self._tell()
        self._look_again()

    def _tell(self) -> None:
        """Say of every copy that is over when it was; the device has its own clock, of which the differences count."""
        over = []
        while self._flying and self._flying[0][1].query():  # type: ignore[no-untyped-call]
            over.append(self._flying.popleft())
        now = time.perf_counter()
        for begun, there, told in over:
            end = now - there.elapsed_time(over[-1][1]) / 1000
            told(end - begun.elapsed_time(there) / 1000, end)


def _timed() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


_STREAMS: dict[str, torch.cuda.Stream] = {}
_STREAMS_LOCK = threading.Lock()


def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all models of a device: room that one model lets go of is then at hand for the next one's blocks."""
    with _STREAMS_LOCK:
        name = str(device)
        if name not in _STREAMS:
            _STREAMS[name] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return _STREAMS[name]


def pinned_slabs(limit_bytes: int) -> Slabs:
    """Slabs in memory that CUDA devices read by themselves.

    A chunk that the system does not lock is not kept: a copy from it works all the same.
    """
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]

    def pin(chunk: torch.Tensor) -> bool:
        return not int(runtime.cudaHostRegister(chunk.data_ptr(), chunk.numel(), 0))

    def unpin(chunk: torch.Tensor) -> None:
        runtime.cudaHostUnregister(chunk.data_ptr())

    return Slabs(limit_bytes, pin, unpin)

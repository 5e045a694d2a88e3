"""The mover of CUDA devices: packed slabs in pinned host memory, one copy stream, events instead of waiting on the host."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from graph_engine.memory.mover import WeightFiles, anonymous, carve, offsets
from graph_engine.models.sources import Source


class _Arrival(NamedTuple):
    """tensors: views of one slab on the device; there: the event after which they may be read."""

    tensors: list[torch.Tensor]
    there: torch.cuda.Event


class CudaMover:
    """A block is read from its files and packed once, into memory that the device can read by itself; from then on bringing it
    is one copy. Beyond `host_bytes` of such memory, blocks are read from their files each time.

    A thread issues the copies. Slabs on the device belong to the copy stream: one is let go after that stream was told to
    wait for what is computed with it, so the next copy into the same memory comes after that, and nobody waits on the host.
    """

    def __init__(self, device: torch.device, host_bytes: int) -> None:
        self._device, self._left = device, host_bytes
        self._files = WeightFiles()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        self._packed: dict[tuple[Source, ...], torch.Tensor] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="anyloom copies")

    def fetch(self, sources: Sequence[Source]) -> Future[_Arrival]:
        return self._worker.submit(self._bring, tuple(sources))

    def ready(self, ticket: Future[_Arrival]) -> list[torch.Tensor]:
        arrival = ticket.result()  # that the copy was asked for, not that it is over
        torch.cuda.current_stream(self._device).wait_event(arrival.there)
        return arrival.tensors

    def done(self, ticket: Future[_Arrival]) -> None:
        if not ticket.cancel():
            used = torch.cuda.current_stream(self._device).record_event()
            self._worker.submit(self._let_go, ticket, used)

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
        torch.cuda.synchronize(self._device)  # another mover may get this stream, and with it these slabs
        for slab in self._packed.values():
            self._runtime.cudaHostUnregister(slab.data_ptr())
        self._packed.clear()
        self._files.close()

    # --- in the thread ----------------------------------------------------------------------------------------------------

    def _bring(self, sources: tuple[Source, ...]) -> _Arrival:
        begins, size = offsets(sources)
        packed = self._pack(sources, begins, max(size, 1))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            slab = torch.empty_like(packed, device=self._device)
            slab.copy_(packed, non_blocking=True)
            there = self._stream.record_event()
        return _Arrival(carve(slab, sources, begins), there)

    def _pack(self, sources: tuple[Source, ...], begins: list[int], size: int) -> torch.Tensor:
        found = self._packed.get(sources)
        if found is not None:
            return found
        slab = torch.frombuffer(anonymous(size), dtype=torch.uint8)
        for source, tensor in zip(sources, carve(slab, sources, begins), strict=True):
            self._files.fill(source, tensor)
        if size <= self._left:
            with torch.cuda.device(self._device):
                refused = int(self._runtime.cudaHostRegister(slab.data_ptr(), size, 0))
            if not refused:  # else the system locks no more memory; a copy from this slab works all the same
                self._left -= size
                self._packed[sources] = slab
        return slab

    def _let_go(self, ticket: Any, used: torch.cuda.Event) -> None:
        """`ticket` holds the last reference to the slab, until this returns."""
        self._stream.wait_event(used)

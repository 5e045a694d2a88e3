"""Slabs: the weights of models on the host, as devices want to copy them, kept when the models leave the device.

One slab per model. A block of it is read from its files, converted and packed once, into memory that a device can read by
itself (pinned, where there is a device). Bringing the block back then is one copy, and leaving is nothing at all. All slabs
together stay within a budget; beyond it, blocks are read from their files each time. Slabs of models that are on no device
make room first, those that were used least recently before the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from graph_engine.memory.mover import WeightFiles, anonymous, carve, offsets
from graph_engine.models.sources import Source

Pin = Callable[[torch.Tensor], bool]
"""Lock a tensor's memory for a device; False when the system locks no more."""


class Piece(NamedTuple):
    """Bytes on the host that belong at `begin` of a block."""

    begin: int
    bytes: torch.Tensor


class Slab:
    """Of one model; made by `Slabs.of`. Tensors are told apart by their names in the module."""

    def __init__(self, model: str, slabs: Slabs) -> None:
        self.model, self._slabs = model, slabs
        self.users = 1
        self.used = 0
        self.chunks: list[torch.Tensor] = []
        self.pinning = 0
        """Bytes of a chunk that is about to join the others: they are counted before they are locked."""
        self._places: dict[str, tuple[int, int]] = {}
        """name of a tensor -> its chunk, and where it begins in it"""
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return sum(chunk.numel() for chunk in self.chunks) + self.pinning

    def pieces(self, sources: Sequence[Source], files: WeightFiles) -> tuple[list[Piece], list[int], int]:
        """What a block is copied from, where its tensors begin in it, and its size. Raises ModelError.

        In the packing in which it was first asked for it is one piece.
        """
        begins, size = offsets(sources)
        with self._lock:
            lacking = [source for source in sources if source.key not in self._places]
            if lacking:
                inner, length = offsets(lacking)
                chunk = torch.frombuffer(anonymous(length), dtype=torch.uint8)[:length]
                for source, tensor in zip(lacking, carve(chunk, lacking, inner), strict=True):
                    files.fill(source, tensor)
                if self._slabs.keep(self, chunk):
                    number = len(self.chunks) - 1
                    self._places |= {source.key: (number, at) for source, at in zip(lacking, inner, strict=True)}
                else:  # used once, and read again the next time
                    passing = {source.key: (chunk, at) for source, at in zip(lacking, inner, strict=True)}
                    found = [passing.get(source.key) or self._at(source) for source in sources]
                    return _joined(sources, begins, found), begins, size
            return _joined(sources, begins, [self._at(source) for source in sources]), begins, size

    def _at(self, source: Source) -> tuple[torch.Tensor, int]:
        number, begin = self._places[source.key]
        return self.chunks[number], begin


def _joined(sources: Sequence[Source], begins: list[int], found: list[tuple[torch.Tensor, int]]) -> list[Piece]:
    """Tensors that lie in one chunk as they are to lie in the block travel together, with the gaps between them."""
    pieces: list[Piece] = []
    for source, begin, (chunk, at) in zip(sources, begins, found, strict=True):
        end = at + source.bytes
        if pieces and source.bytes:
            last = pieces[-1]
            start = last.bytes.storage_offset()
            same = last.bytes.untyped_storage().data_ptr() == chunk.untyped_storage().data_ptr()
            if same and at - begin == start - last.begin and at >= start:
                pieces[-1] = Piece(last.begin, chunk[start:end])
                continue
        if source.bytes:
            pieces.append(Piece(begin, chunk[at:end]))
    return pieces


class Slabs:
    """All slabs of a process's pool, within `limit_bytes`. Any thread."""

    def __init__(
        self, limit_bytes: int, pin: Pin = lambda chunk: True, unpin: Callable[[torch.Tensor], object] = id
    ) -> None:
        self.limit_bytes, self._pin, self._unpin = limit_bytes, pin, unpin
        self._slabs: dict[str, Slab] = {}
        self._lock = threading.Lock()
        self._clock = 0

    @property
    def bytes(self) -> int:
        with self._lock:
            return self._bytes()

    def of(self, model: str) -> Slab:
        """The slab of a model, by the key of its spec; to be given back by `done`."""
        with self._lock:
            slab = self._slabs.get(model)
            if slab is None:
                slab = self._slabs[model] = Slab(model, self)
            else:
                slab.users += 1
            return slab

    def done(self, slab: Slab) -> None:
        """Nobody copies from it any more, for the user that says so."""
        with self._lock:
            slab.users -= 1
            self._clock += 1
            slab.used = self._clock

    def keep(self, slab: Slab, chunk: torch.Tensor) -> bool:
        """Make a chunk one of the slab's, if it may stay. Of one slab by one thread at a time.

        Law P5: what is being locked counts already, because locking gigabytes takes seconds in which others ask.
        """
        size = chunk.numel()
        with self._lock:
            idle = sorted((other for other in self._slabs.values() if not other.users), key=lambda other: other.used)
            spare = sum(other.bytes for other in idle)
            if self._bytes() - spare + size > self.limit_bytes:
                return False
            while self._bytes() + size > self.limit_bytes:
                self._drop(idle.pop(0))
            slab.pinning = size
        kept = False
        try:
            kept = size == 0 or self._pin(chunk)
        finally:
            with self._lock:
                slab.pinning = 0
                if kept:
                    slab.chunks.append(chunk)
        return kept

    def clear(self) -> None:
        """Let go of all that nobody copies from."""
        with self._lock:
            for slab in [slab for slab in self._slabs.values() if not slab.users]:
                self._drop(slab)

    def __del__(self) -> None:
        """Memory that is unmapped while it is locked stays locked, and nobody can lock what comes to lie there."""
        for slab in self._slabs.values():
            self._let_go(slab)

    def _bytes(self) -> int:
        return sum(slab.bytes for slab in self._slabs.values())

    def _drop(self, slab: Slab) -> None:
        self._let_go(slab)
        del self._slabs[slab.model]

    def _let_go(self, slab: Slab) -> None:
        for chunk in slab.chunks:
            if chunk.numel():
                self._unpin(chunk)
        slab.chunks.clear()

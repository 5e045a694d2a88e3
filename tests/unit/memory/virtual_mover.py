"""A mover with a clock of its own: it copies nothing and knows to the bit when a copy would have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from graph_engine.models.sources import Source


class Copy(NamedTuple):
    sources: tuple[Source, ...]
    arrives: float


class VirtualMover:
    """bandwidth: bytes a second. `compute` is what a layer calls to take its time."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth, self.now, self._free_at = bandwidth, 0.0, 0.0
        self.fetched: list[Copy] = []
        self.used: dict[int, Copy] = {}
        self.held: list[Copy] = []
        self.most_held = 0

    def compute(self, seconds: float) -> None:
        self.now = self.now + seconds

    def ring(self, bytes: int) -> None:
        pass

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Copy:
        size = sum(source.bytes for source in sources)
        self._free_at = max(self._free_at, self.now) + size / self.bandwidth
        copy = Copy(tuple(sources), self._free_at)
        self.fetched.append(copy)
        self.held.append(copy)
        self.most_held = max(self.most_held, sum(source.bytes for copy in self.held for source in copy.sources))
        return copy

    def ready(self, ticket: Copy) -> list[torch.Tensor]:
        self.used[id(ticket)] = ticket
        self.now = max(self.now, ticket.arrives)
        return [torch.zeros(source.shape, dtype=source.dtype) for source in ticket.sources]

    def done(self, ticket: Copy) -> None:
        self.held = [copy for copy in self.held if copy is not ticket]

    def close(self) -> None:
        pass

    @property
    def moved_bytes(self) -> int:
        """Of the copies that were used; what was brought ahead when the last pass ended is left out."""
        return sum(source.bytes for copy in self.used.values() for source in copy.sources)

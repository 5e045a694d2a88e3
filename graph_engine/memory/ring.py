"""The ring: one piece of device memory through which the blocks that are streamed come and go. Pure.

Two of them are there at a time, one that is computed with and one that arrives. They lie at the two ends by turns, so
blocks of any sizes fit without gaps as long as two that follow one another do; an allocator, asked for one block after the
other, would leave gaps that no block fits into.
"""

from __future__ import annotations

from graph_engine.memory.mover import ALIGNMENT


class Ring:
    def __init__(self, bytes: int) -> None:
        self.bytes = bytes // ALIGNMENT * ALIGNMENT
        self._taken: dict[int, int] = {}
        """where a block begins -> where it ends"""

    def take(self, size: int) -> int | None:
        """Where a block may lie; None when it does not fit beside what is there."""
        size = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        if size > self.bytes:
            return None
        for begin in (0, self.bytes - size):
            if all(begin + size <= other or end <= begin for other, end in self._taken.items()):
                self._taken[begin] = begin + size
                return begin
        return None

    def give(self, begin: int) -> None:
        """The block that begins there is not used any more."""
        del self._taken[begin]

"""Artifacts kept in memory, within the limit of a policy."""

from __future__ import annotations

import re
from heapq import heapify, heappop, heappush
from typing import Any, Literal, NamedTuple

from graph_engine.errors import StoreError
from graph_engine.store.artifacts import Artifact, Shape

ENTRY_BYTES = 512
"""What an entry costs besides its values (key, artifact, table and heap slots); so that millions of tiny ones count."""

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_NO_LIMIT = 2**63


class CachePolicy(NamedTuple):
    """What a memory store keeps.

    classic     what the latest run used, dropped when the run after it starts (ComfyUI's default)
    lru:N       the N entries used last
    bytes:N     at most N bytes (N KB, MB, GB of 1024); what is cheap to compute again for its size leaves first
    none        nothing
    """

    kind: Literal["classic", "lru", "bytes", "none"]
    limit: int = 0

    @classmethod
    def parse(cls, text: str) -> CachePolicy:
        """Raises StoreError for anything but the four forms."""
        word, _, number = text.strip().lower().partition(":")
        if word == "classic" and not number:
            return cls("classic")
        if word == "none" and not number:
            return cls("none")
        if word == "lru" and re.fullmatch(r"[0-9]{1,9}", number.strip()) and int(number) > 0:
            return cls("lru", int(number))
        amount = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([KMGT]?B?)", number.strip().upper())
        if word == "bytes" and amount:
            unit = amount[2] if amount[2] in _UNITS else amount[2] + "B"
            limit = int(float(amount[1]) * _UNITS[unit])
            if limit > 0:
                return cls("bytes", limit)
        raise StoreError(
            f"the cache policy {text!r} is not understood.",
            remedy="Use classic, none, lru:N (entries, at least 1) or bytes:N with KB, MB or GB, such as bytes:4GB.",
            code="cache_policy",
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.limit}" if self.limit else self.kind


class MemoryStore:
    """Artifacts by key. For one thread.

    Eviction under `bytes:` is GreedyDual-Size (Cao and Irani, 1997): an entry's rank is `floor + seconds / bytes`,
    renewed at each use; the lowest leaves and its rank becomes the floor, which ages what is not used. `lru:` is the
    same with a constant rank. Ranks are kept, in a heap, only from when something first has to leave, which in most
    stores is never; until then the floor is 0 and the order of the entries is that of their last use. A use renews the
    rank alone; the heap is put right when the entry comes to its top, which is sound because ranks never fall.
    """

    def __init__(self, policy: CachePolicy | str) -> None:
        self.policy = CachePolicy.parse(policy) if isinstance(policy, str) else policy
        self._entries: dict[str, Artifact] = {}
        self._ranks: dict[str, tuple[float, int]] = {}
        """key -> (rank, tick of the last use), once there is a heap."""
        self._heap: list[tuple[float, int, str]] | None = None
        self._used: set[str] = set()
        """Under `classic`: what was used since the latest run began."""
        self._bytes = 0
        self._floor = 0.0
        self._tick = 0
        self._hits = self._misses = self._evictions = 0
        kind = self.policy.kind
        self._keeps, self._by_run, self._by_bytes = kind != "none", kind == "classic", kind == "bytes"
        self._limit_bytes = self.policy.limit if self._by_bytes else _NO_LIMIT
        self._limit_entries = self.policy.limit if kind == "lru" else _NO_LIMIT

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Artifact | None:
        """Counts as a use."""
        artifact = self._entries.get(key)
        if artifact is None:
            self._misses += 1
            return None
        self._hits += 1
        self._use(artifact)
        return artifact

    def contains(self, key: str) -> bool:
        """Does not count as a use."""
        return key in self._entries

    def touch(self, key: str) -> bool:
        """As `contains`, and counts as a use: a run that needs the entry only indirectly says so with this."""
        artifact = self._entries.get(key)
        if artifact is None:
            return False
        self._use(artifact)
        return True

    def shape(self, key: str) -> Shape | None:
        """Does not count as a use."""
        artifact = self._entries.get(key)
        return None if artifact is None else artifact.shape

    def put(self, artifact: Artifact) -> bool:
        """Returns whether it is kept; an artifact bigger than the limit is not."""
        key, size = artifact.key, artifact.bytes + ENTRY_BYTES
        if key in self._entries:
            self.discard(key)
        if size > self._limit_bytes or not self._keeps:
            return False
        self._entries[key] = artifact
        self._bytes += size
        if self._by_run:
            self._used.add(key)
        if self._heap is not None:
            heappush(self._heap, (*self._ranked(artifact), key))
        if self._bytes > self._limit_bytes or len(self._entries) > self._limit_entries:
            self._shrink()
            return key in self._entries
        return True

    def discard(self, key: str) -> bool:
        """Returns whether it was there."""
        artifact = self._entries.pop(key, None)
        if artifact is None:
            return False
        self._bytes -= artifact.bytes + ENTRY_BYTES
        if self._heap is not None:
            del self._ranks[key]
            if len(self._heap) > 2 * len(self._entries) + 1024:  # discarded entries left their items behind
                self._heap = self._new_heap()
        return True

    def clear(self) -> None:
        self._entries.clear()
        self._ranks.clear()
        self._used.clear()
        self._heap = None
        self._bytes, self._floor = 0, 0.0

    def new_generation(self) -> None:
        """A run starts: under `classic`, what the run before it did not use is dropped."""
        if self._by_run:
            for key in [key for key in self._entries if key not in self._used]:
                self.discard(key)
                self._evictions += 1
            self._used.clear()

    def stats(self) -> dict[str, Any]:
        """bytes: estimated, with `ENTRY_BYTES` per entry."""
        return {
            "policy": str(self.policy),
            "hits": self._hits,
            "misses": self._misses,
            "entries": len(self._entries),
            "bytes": self._bytes,
            "evictions": self._evictions,
        }

    def _use(self, artifact: Artifact) -> None:
        key = artifact.key
        if self._by_run:
            self._used.add(key)
        if self._heap is not None:
            self._ranked(artifact)
        else:
            self._entries[key] = self._entries.pop(key)

    def _ranked(self, artifact: Artifact) -> tuple[float, int]:
        """The rank of an entry that is used now."""
        self._tick += 1
        worth = artifact.seconds / (artifact.bytes + ENTRY_BYTES) if self._by_bytes else 0.0
        rank = self._ranks[artifact.key] = self._floor + worth, self._tick
        return rank

    def _new_heap(self) -> list[tuple[float, int, str]]:
        heap = [(*(self._ranks.get(key) or self._ranked(artifact)), key) for key, artifact in self._entries.items()]
        heapify(heap)
        return heap

    def _shrink(self) -> None:
        if self._heap is None:
            self._heap = self._new_heap()
        while self._bytes > self._limit_bytes or len(self._entries) > self._limit_entries:
            rank, tick, key = heappop(self._heap)
            now = self._ranks.get(key)
            if now is None:
                continue
            if now[1] != tick:  # used since it was queued
                heappush(self._heap, (*now, key))
                continue
            self._floor = rank
            self.discard(key)
            self._evictions += 1

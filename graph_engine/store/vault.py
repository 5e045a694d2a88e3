"""Vault: every value the engine has, wherever it lies: held by runs, kept in memory, kept on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from graph_engine.errors import StoreError
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.disk_store import DiskStore
from graph_engine.store.memory_store import MemoryStore

log = logging.getLogger("anyloom.cache")


class Vault:
    """Used on the engine's loop; only disk access happens in threads of its own.

    A value that a run needs is held until the scheduler says `Drop`; what the caches keep beside that is their policy.
    """

    def __init__(self, memory: MemoryStore, disk: DiskStore | None, disk_min_s: float) -> None:
        self.memory, self.disk, self.disk_min_s = memory, disk, disk_min_s
        self._held: dict[str, Artifact] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anyloom-disk")
        self.unstorable = 0

    def present(self, keys: Iterable[str], foreign: Container[str] = ()) -> dict[str, Shape]:
        """Shapes of those that are there, without reading any. foreign: keys that another process may have written."""
        found: dict[str, Shape] = {}
        held, memory, disk = self._held, self.memory, self.disk
        for key in keys:
            artifact = held.get(key)
            shape = artifact.shape if artifact is not None else memory.shape(key)
            if shape is None and disk is not None:
                stored = disk.shape(key) if key in foreign else disk.shapes.get(key)
                shape = stored.shape if stored is not None else None
            if shape is not None:
                found[key] = shape
        return found

    def hold(self, artifact: Artifact) -> None:
        self._held[artifact.key] = artifact

    def add(self, artifact: Artifact, keep: bool) -> None:
        """A new value, held by a run. keep: other runs may want it, so the caches get it too."""
        self._held[artifact.key] = artifact
        if keep:
            self.memory.put(artifact)
            if self.disk is not None and artifact.seconds >= self.disk_min_s:
                self.save(artifact)

    def save(self, artifact: Artifact) -> None:
        """Onto the disk, in the background."""
        if self.disk is not None:
            self._thread.submit(self._write, self.disk, artifact)

    def _write(self, disk: DiskStore, artifact: Artifact) -> None:
        try:
            disk.put(artifact)
        except StoreError:  # a value without a form on disk, or a full disk: the result stays in memory only
            self.unstorable += 1

    def _get(self, disk: DiskStore, key: str) -> Artifact | None:
        try:
            return disk.get(key)
        except StoreError as error:  # a bad sector, say; what a cache cannot give is computed again
            log.warning("%s", error)
            disk.discard(key)
            return None

    def find(self, key: str) -> Artifact | None:
        """In memory, and held from now on."""
        artifact = self._held.get(key)
        if artifact is None:
            artifact = self.memory.get(key)
            if artifact is not None:
                self._held[key] = artifact
        return artifact

    async def fetch(self, key: str) -> bool:
        """From wherever it is into memory, held. False when it is gone."""
        if self.find(key) is None and self.disk is not None:
            artifact = await asyncio.get_running_loop().run_in_executor(self._thread, self._get, self.disk, key)
            if artifact is not None:
                self._held[key] = artifact
        return key in self._held

    def read(self, key: str) -> Artifact | None:
        """As `find`, reading the disk at once where it must. For the rare value that is needed in the middle of a step."""
        artifact = self.find(key)
        if artifact is None and self.disk is not None:
            artifact = self._get(self.disk, key)
            if artifact is not None:
                self._held[key] = artifact
        return artifact

    async def peek(self, key: str) -> Artifact | None:
        """For whoever only looks: nothing is held."""
        artifact = self._held.get(key) or self.memory.get(key)
        if artifact is None and self.disk is not None:
            artifact = await asyncio.get_running_loop().run_in_executor(self._thread, self._get, self.disk, key)
        return artifact

    def drop(self, key: str) -> None:
        self._held.pop(key, None)

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = {"memory": self.memory.stats(), "held": len(self._held)}
        if self.disk is not None:
            stats["disk"] = self.disk.stats()
        return stats

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown(wait=True)

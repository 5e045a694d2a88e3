"""Arriving: models come to a device, for a job or ahead of one; as a whole, or block by block where that is all there is room
for. On an accelerator every model comes in blocks, so that it computes while it arrives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graph_engine.errors import OutOfMemory
from graph_engine.memory.ahead import Dropped, Loading, Task
from graph_engine.memory.devices import torch_name
from graph_engine.memory.watched import WatchedMover
from graph_engine.models.load import materialise, module_bytes
from graph_engine.models.spec import ModelSpec

if TYPE_CHECKING:
    from graph_engine.memory.offload import Streamed
    from graph_engine.memory.outline import Outline
    from graph_engine.memory.pool import ModelPool
    from graph_engine.memory.residency import Residency


class Arriving:
    """Of one pool, whose lock nobody holds who calls it."""

    def __init__(self, pool: ModelPool, lock: threading.Lock) -> None:
        self._pool, self._lock = pool, lock

    def outline(self, spec: ModelSpec, device: str) -> Outline:
        """What the model takes, before anything of it is read. Raises ModelError, OutOfMemory."""
        outline = self._pool.hollow.outline(spec, device)
        self._pool.known.found[spec.key] = outline.bytes
        return outline

    def for_job(self, spec: ModelSpec, device: str, residency: Residency, next_use: int | None) -> Any:
        """The module, leased; nobody else loads it meanwhile. Raises ModelError, OutOfMemory."""
        module = None
        if not self._pool.movers.in_pieces(device, spec):
            module = self._whole(spec, device, residency, next_use)
        return module if module is not None else self._in_pieces(spec, device, residency, next_use)

    def ahead(self, task: Task, loading: Loading, go_on: Callable[[Loading], None]) -> None:
        """In the thread that brings ahead. The model is counted in already; jobs may have dropped it since. go_on: called
        between two pieces; raises Dropped."""
        pool, device, spec, outline = self._pool, task.device, task.spec, task.outline
        with self._lock:
            pool.job_peak.moved(device)
        size = 0 if outline is not None else pool.size_of(spec)  # blocks are copies of their own
        flight = pool.telemetry.began("load", device, spec.family, size)
        streamed: Streamed | None = None
        try:
            pool.let_go()
            go_on(loading)
            if outline is not None:
                streamed = self._streamed(spec, device, outline, task.room)
                module = streamed.module
            else:
                module = self._made(spec, device, lambda: go_on(loading))
            with self._lock:
                if loading.dropped:
                    if streamed is not None:
                        pool.left(device, spec.key, streamed)
                    raise Dropped
                if streamed is not None:
                    self._keep_streamed(spec, device, streamed, task.room)
                else:
                    self._fit(spec, device, module, pool.residency(device))
                    self._keep(spec, device, module)
                pool.families[spec.key] = spec.family
                pool.came_ahead(device, spec.key)
            pool.telemetry.ended(device, flight)
        except BaseException:
            with self._lock:
                if not loading.dropped:
                    pool.residency(device).discard(spec.key)
            raise
        finally:
            pool.telemetry.ended(device, flight, came=False)
            try:
                pool.let_go()  # also of itself, if it was dropped: who waits for it wants its memory
            finally:
                with self._lock:
                    pool.loading.pop((device, spec.key)).done.set()

    # --- whole ------------------------------------------------------------------------------------------------------------

    def _whole(self, spec: ModelSpec, device: str, residency: Residency, next_use: int | None) -> Any:
        """The whole module; None when there is no room for it."""
        try:
            with self._lock:
                self._pool.make_way(device, residency.admit(spec.key, self._pool.size_of(spec)))
                residency.lease(spec.key, next_use)
        except OutOfMemory:
            return None
        return self._filled(spec, device, residency)

    def _filled(self, spec: ModelSpec, device: str, residency: Residency) -> Any:
        """Of an admitted and leased model; None when it turns out too large."""
        pool = self._pool
        flight = pool.telemetry.began("load", device, spec.family, pool.size_of(spec))
        try:
            pool.vacate()
            module = self._made(spec, device)
            pool.hollow.prepared.add(spec.key)
            pool.telemetry.ended(device, flight, bytes=module_bytes(module))
            with self._lock:
                self._fit(spec, device, module, residency)
            pool.let_go()
            with self._lock:
                self._keep(spec, device, module)
            return module
        except OutOfMemory:
            with self._lock:
                residency.discard(spec.key)
            return None
        except BaseException:
            with self._lock:
                residency.discard(spec.key)
            raise
        finally:
            pool.telemetry.ended(device, flight, came=False)

    def _made(self, spec: ModelSpec, device: str, go_on: Callable[[], None] = lambda: None) -> Any:
        ready = self._pool.hollow.take_whole(spec)
        return materialise(spec, self._pool.catalog[spec.family], torch_name(device), go_on, ready)

    def _fit(self, spec: ModelSpec, device: str, module: Any, residency: Residency) -> None:
        """With the lock held: now it is known what it takes. Raises OutOfMemory."""
        size = self._pool.known.found[spec.key] = module_bytes(module)
        self._pool.make_way(device, residency.resize(spec.key, size))

    # --- block by block ---------------------------------------------------------------------------------------------------

    def _in_pieces(self, spec: ModelSpec, device: str, residency: Residency, next_use: int | None) -> Any:
        pool = self._pool
        pool.let_go()  # its own module may be among what leaves
        outline = self.outline(spec, device)
        with self._lock:
            room, leaving = residency.admit_streamed(spec.key, outline.bytes, outline.least_room)
            pool.make_way(device, leaving)
            residency.lease(spec.key, next_use)
        flight = 0
        try:
            if room == outline.bytes and not pool.movers.in_pieces(device, spec):  # its files hold more than it takes
                module = self._filled(spec, device, residency)
                if module is None:
                    raise OutOfMemory(f"{spec.family} takes more than its {outline.bytes:,} bytes on {device}.")
                return module
            pool.vacate()
            flight = pool.telemetry.began("load", device, spec.family, 0)  # its blocks are copies of their own
            streamed = self._streamed(spec, device, outline, room)
            with self._lock:
                self._keep_streamed(spec, device, streamed, room)
            pool.telemetry.ended(device, flight)
            return streamed.module
        except BaseException:
            with self._lock:
                residency.discard(spec.key)
            raise
        finally:
            pool.telemetry.ended(device, flight, came=False)

    def _streamed(self, spec: ModelSpec, device: str, outline: Outline, room: int) -> Streamed:
        from graph_engine.memory.offload import Streamed

        def learn(order: list[str]) -> None:
            self._pool.hollow.orders[spec.key] = order

        mover = WatchedMover(self._pool.movers.of(outline), self._pool.telemetry, device, spec.family)
        try:
            return Streamed(outline, mover, room, learn)
        except BaseException:
            mover.close()
            raise

    # --- with the lock held -----------------------------------------------------------------------------------------------

    def _keep_streamed(self, spec: ModelSpec, device: str, streamed: Streamed, room: int) -> None:
        counted = self._pool.residency(device).residents[spec.key].bytes
        if counted != room:  # another job asked for some of it meanwhile
            streamed.resize(counted)
        self._pool.streamed[device, spec.key] = streamed
        self._keep(spec, device, streamed.module)

    def _keep(self, spec: ModelSpec, device: str, module: Any) -> None:
        self._pool.loads += 1
        self._pool.modules[device, spec.key] = module

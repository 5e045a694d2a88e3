"""The models that are in memory: materialised on first use, leased to jobs, dropped when the residency says so.

A model that does not fit beside what is in use is streamed block by block (`offload.py`). On an accelerator every model
comes in blocks, so that it computes while it arrives. What plans need next is brought ahead (`ahead.py`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from graph_engine.errors import AnyloomError, ModelError
from graph_engine.memory.ahead import Ahead, Expected, Loading, Task
from graph_engine.memory.arriving import Arriving
from graph_engine.memory.beside_count import BesideCount
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.census import census
from graph_engine.memory.devices import device_memory
from graph_engine.memory.hollow import Hollow
from graph_engine.memory.job_peak import JobPeak
from graph_engine.memory.known_sizes import KnownSizes
from graph_engine.memory.leaving import Leaving
from graph_engine.memory.movers import Movers
from graph_engine.memory.residency import Residency
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from graph_engine.telemetry import Telemetry

if TYPE_CHECKING:
    from graph_engine.memory.mover import Mover
    from graph_engine.memory.offload import Streamed
    from graph_engine.memory.outline import Outline


class ModelPool:
    """Thread-safe. One residency per device, made when the device is first used."""

    def __init__(
        self, catalog: Catalog, budgets: Mapping[str, int], movers: Callable[[Outline], Mover] | None = None
    ) -> None:
        """movers: what brings the blocks of a model, on every device; default: CUDA's own, and mapped files on the host."""
        self.catalog, self._budgets = catalog, budgets
        self.movers, self.hollow = Movers(catalog, budgets, movers), Hollow(catalog)
        self.telemetry, self.known, self.job_peak = Telemetry(), KnownSizes(catalog), JobPeak()
        self._lock = threading.Lock()
        """Held for moments only: the event loop takes it, too."""
        self.ahead = Ahead(self, self._lock)
        self._arriving = Arriving(self, self._lock)
        self._beside = BesideCount(self)
        self._leaving = Leaving(self._lock, self._counted, self.movers, self.hollow)
        self._residencies: dict[str, Residency] = {}
        self.modules: dict[tuple[str, str], Any] = {}
        """(device, key) -> those that are there."""
        self.streamed: dict[tuple[str, str], Streamed] = {}
        """Those of them that came block by block."""
        self.families: dict[str, str] = {}
        self.loading: dict[tuple[str, str], Loading] = {}
        self.urgent = 0
        """Jobs that load a model now."""
        self._untouched: set[tuple[str, str]] = set()
        """What was brought ahead and no job used yet."""
        self.loads = 0

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        """The module of `spec` on `device`, not to be evicted before `release`. Raises ModelError, OutOfMemory.

        In the thread that will compute with it.
        """
        module = self._leased(spec, device, next_use)
        streamed = self.streamed.get((device, spec.key))
        if streamed is not None:
            try:
                streamed.begin()
            except BaseException:
                self.release(spec, device)
                raise
        return module

    def _leased(self, spec: ModelSpec, device: str, next_use: int | None) -> Any:
        if not isinstance(spec, ModelSpec):
            raise ModelError(
                f"context.model() takes a ModelSpec, got {type(spec).__name__}.", remedy="Link a load node."
            )
        place = (device, spec.key)
        while True:
            with self._lock:
                residency = self.residency(device)
                self.families[spec.key] = spec.family
                loading = self.loading.get(place)
                if place in self.modules:
                    self._give_back_room(place, residency)
                    residency.lease(spec.key, next_use)
                    if place in self._untouched:
                        self._untouched.discard(place)
                        self.ahead.used += 1
                    module = self.modules[place]
                    break
                if loading is None:
                    self.loading[place] = Loading()
                    self.urgent += 1
                    module = None
                    break
                loading.wanted = True
                self.ahead.wake()
            loading.done.wait()
        if module is not None:
            try:
                self.vacate()
            except BaseException:
                self.release(spec, device)
                raise
            return module
        try:
            return self._arriving.for_job(spec, device, residency, next_use)
        finally:
            with self._lock:
                self.urgent -= 1
                self.ahead.wake()
                self.loading.pop(place).done.set()

    def release(self, spec: ModelSpec, device: str) -> None:
        leaving: list[str] = []
        with self._lock:
            residency = self.residency(device)
            residency.release(spec.key)
            resident = residency.residents.get(spec.key)
            if resident is not None and not resident.leases:
                leaving = self._beside.count(device, spec, residency)
            self.ahead.wake()
        if leaving:
            self.let_go()

    def expect(self, run: str, device: str, expected: Sequence[Expected], before: int = 1) -> None:
        """A run will use these models; they are brought ahead as far as there is room. before: how many uses of models the
        step has made that says so, whose first one they are counted from. Called in the thread of a job."""
        self._prepare_next(device, expected)
        with self._lock:
            self.ahead.expect(run, device, expected, before)

    def forget(self, run: str) -> None:
        """The run uses no more models than its jobs have."""
        with self._lock:
            self.ahead.forget(run)

    def reserve(self, device: str, bytes: int) -> None:
        """Keep bytes for the activations of a job until `unreserve`. Raises OutOfMemory, with the numbers."""
        with self._lock:
            self.make_way(device, self.residency(device).reserve(bytes))
        try:
            self.vacate()
        except BaseException:
            self.unreserve(device, bytes)
            raise

    def unreserve(self, device: str, bytes: int) -> None:
        with self._lock:
            self.residency(device).unreserve(bytes)
            self.ahead.wake()

    def watch(self, device: str) -> bool:
        """Begin to watch what a job takes; False where nobody can tell."""
        with self._lock:
            self.job_peak.about_to_begin(device, any(place[0] == device for place in self.loading))
        return self.job_peak.begin(device)

    def taken(self, device: str, own_bytes: int) -> int | None:
        """What a job that reserved `own_bytes` took since `watch` beside its models; None when nothing can be said of it."""
        with self._lock:
            return self.job_peak.taken(self.residency(device), own_bytes)

    def close(self) -> None:
        """Nothing is brought any more, and what no job uses is let go: threads that read, weights, pinned memory."""
        with self._lock:
            thread = self.ahead.close()
        if thread is not None:
            thread.join(10)
        ModelPool.clear(self, host=True)

    def clear(self, host: bool = False, wait: bool = True) -> int:
        """Drop every model that no job uses, and bring none ahead for a while; returns how many.

        host: of the host's memory also what it keeps for models that are on no device. wait: else it is begun only; whoever
        leases or reserves, or calls `let_go`, waits for its end.
        """
        with self._lock:
            self.ahead.clear()
            count = 0
            for device, residency in self._residencies.items():
                idle = [key for key, resident in residency.residents.items() if not resident.leases]
                for key in idle:
                    residency.discard(key)
                self.make_way(device, idle)
                count += len(idle)
            if host:
                self._leaving.host()
        if wait:
            self.let_go()
        else:
            threading.Thread(target=self.let_go, name="anyloom lets go", daemon=True).start()
        return count

    def let_go(self) -> None:
        """Wait until all that was decided to leave has left, up to a piece of reading or a layer. Without the lock."""
        self._leaving.carry_out()

    def size_of(self, spec: ModelSpec) -> int:
        """Bytes of weights, as well as that is known."""
        return self.known.of(spec)

    def beside_of(self, spec: ModelSpec, device: str) -> int:
        """Bytes that are kept on a device beside the weights of a model."""
        with self._lock:
            resident = self.residency(device).residents.get(spec.key)
            return resident.beside_bytes if resident is not None else 0

    def is_here(self, spec: ModelSpec) -> bool:
        """On some device, or on its way there."""
        return any(spec.key in residency.residents for residency in list(self._residencies.values()))

    def budget_of(self, device: str) -> int:
        """Bytes that models and activations may take together on a device."""
        with self._lock:
            return self.residency(device).budget_bytes

    def memory_of(self, device: str) -> tuple[int, int]:
        """(free, total) bytes of a device now, whoever has the rest."""
        return device_memory(device)

    def stats(self) -> list[dict[str, Any]]:
        """Per device what `census.py` tells."""
        with self._lock:
            return [census(self, residency) for residency in list(self._residencies.values())]

    def outline(self, spec: ModelSpec, device: str) -> Outline:
        """What the model takes, before anything of it is read. Without the lock. Raises ModelError, OutOfMemory."""
        return self._arriving.outline(spec, device)

    def _give_back_room(self, place: tuple[str, str], residency: Residency) -> None:
        """A streamed model that made do with little gets what is free now."""
        streamed = self.streamed.get(place)
        if streamed is None or residency.residents[place[1]].leases:
            return
        _, leaving = residency.grow(place[1], self.known.found[place[1]])
        self.make_way(place[0], leaving)
        self._leaving.changed(place, streamed)

    def make_way(self, device: str, keys: list[str]) -> None:
        """With the lock held, what the residency decided: these leave, or make do with what is counted for them. Their memory
        is free after `let_go`."""
        residents = self._residencies[device].residents
        if keys:
            self.job_peak.moved(device)
        for key in keys:
            self._beside.forget(device, key, self._residencies[device])
            streamed = self.streamed.get((device, key))
            if key in residents:
                if streamed is not None:  # else it is being set up, and will look
                    self._leaving.changed((device, key), streamed)
                continue
            if self.modules.pop((device, key), None) is not None:
                self.telemetry.evicted(device, self.families.get(key, ""), self.known.found.get(key, 0))
            self._untouched.discard((device, key))
            if streamed is not None:
                del self.streamed[device, key]
                self.left(device, key, streamed)
            loading = self.loading.get((device, key))
            if loading is not None:
                loading.dropped = True
                self.ahead.wake()

    # --- ahead ------------------------------------------------------------------------------------------------------------

    def may_come_ahead(self, spec: ModelSpec) -> bool:
        """Not what its own library loads: those set switches of the whole process while they do."""
        return self.catalog[spec.family].load is None

    def _prepare_next(self, device: str, expected: Sequence[Expected]) -> None:
        """The next model that is not here gets its module, without weights, in this thread.

        Building one imports libraries, and those that import lazily break when two threads make them do it at once. Jobs
        import theirs in their own time, so the thread that brings ahead builds only what was built before.
        """
        for one in sorted(expected, key=lambda one: one.after):
            key = one.spec.key
            if key in self.hollow.prepared or (device, key) in self.loading or not self.may_come_ahead(one.spec):
                continue
            if any(key in residency.residents for residency in list(self._residencies.values())):
                continue
            with suppress(AnyloomError, OSError):  # the job that uses it will say what is wrong
                if self.movers.in_pieces(device, one.spec):
                    self.hollow.outlines[device, key] = self.outline(one.spec, device)
                else:
                    self.hollow.build_whole(one.spec)
            return

    def load_ahead(self, task: Task, loading: Loading, go_on: Callable[[Loading], None]) -> None:
        """In the thread that brings ahead. go_on: called between two pieces; raises Dropped."""
        self._arriving.ahead(task, loading, go_on)

    def came_ahead(self, device: str, key: str) -> None:
        """With the lock held: a model is there that no job has used yet."""
        self._untouched.add((device, key))
        self.ahead.brought += 1

    def left(self, device: str, key: str, streamed: Streamed) -> None:
        """With the lock held: nobody counts this model any more. Its memory is free after `let_go`."""
        self._leaving.gone((device, key), streamed)

    def nobody_waits_for(self, device: str, key: str) -> None:
        """With the lock held: no run expects the model any more; unless a job has it, it makes room first."""
        residency, loading = self.residency(device), self.loading.get((device, key))
        resident = residency.residents.get(key)
        if resident is None or resident.leases:
            return
        if loading is not None and loading.ahead and not loading.wanted:
            residency.discard(key)
            self.make_way(device, [key])
        else:
            resident.next_use = math.inf

    def vacate(self) -> None:
        """Wait until what was dropped, here or on its way, has let go of its memory: a piece of reading, at most."""
        self.let_go()
        with self._lock:
            dropped = [loading for loading in self.loading.values() if loading.dropped]
        for loading in dropped:
            loading.done.wait()

    def _counted(self, place: tuple[str, str]) -> int | None:
        resident = self._residencies[place[0]].residents.get(place[1])
        return resident.bytes if resident is not None else None

    def residency(self, device: str) -> Residency:
        found = self._residencies.get(device)
        if found is None:
            found = self._residencies[device] = Residency(
                device, weight_budget(device, self._budgets, *device_memory(device))
            )
        return found

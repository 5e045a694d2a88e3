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

from graph_engine.errors import AnyloomError, ModelError, OutOfMemory
from graph_engine.memory import devices
from graph_engine.memory.ahead import Ahead, Dropped, Expected, Loading, Task
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory, torch_name
from graph_engine.memory.hollow import Hollow
from graph_engine.memory.leaving import Leaving
from graph_engine.memory.movers import Movers
from graph_engine.memory.residency import Residency
from graph_engine.memory.watched import WatchedMover
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import materialise, module_bytes
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
        self._catalog, self._budgets = catalog, budgets
        self.movers, self.hollow = Movers(catalog, budgets, movers), Hollow(catalog)
        self.telemetry = Telemetry()
        self._lock = threading.Lock()
        """Held for moments only: the event loop takes it, too."""
        self._ahead = Ahead(self, self._lock)
        self._leaving = Leaving(self._lock, self._counted, self.movers, self.hollow)
        self._residencies: dict[str, Residency] = {}
        self._modules: dict[tuple[str, str], Any] = {}
        self._streamed: dict[tuple[str, str], Streamed] = {}
        self.loading: dict[tuple[str, str], Loading] = {}
        self.urgent = 0
        """Jobs that load a model now."""
        self._sizes: dict[str, int] = {}
        """Bytes of models that were loaded before."""
        self._estimates: dict[str, int] = {}
        """Bytes of others, as their families say."""
        self._families: dict[str, str] = {}
        self._untouched: set[tuple[str, str]] = set()
        """What was brought ahead and no job used yet."""
        self._beside: set[tuple[str, str]] = set()
        """Models for which something is counted beside their weights."""
        self._churn: dict[str, int] = {}
        """Device -> how often a model has left it or was brought ahead."""
        self._watched: dict[str, int | None] = {}
        """The same when a job began to be watched; None: something was on its way then."""
        self.loads = 0

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        """The module of `spec` on `device`, not to be evicted before `release`. Raises ModelError, OutOfMemory.

        In the thread that will compute with it.
        """
        module = self._leased(spec, device, next_use)
        streamed = self._streamed.get((device, spec.key))
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
                self._families[spec.key] = spec.family
                loading = self.loading.get(place)
                if place in self._modules:
                    self._give_back_room(place, residency)
                    residency.lease(spec.key, next_use)
                    if place in self._untouched:
                        self._untouched.discard(place)
                        self._ahead.used += 1
                    module = self._modules[place]
                    break
                if loading is None:
                    self.loading[place] = Loading()
                    self.urgent += 1
                    module = None
                    break
                loading.wanted = True
                self._ahead.wake()
            loading.done.wait()
        if module is not None:
            try:
                self._vacate()
            except BaseException:
                self.release(spec, device)
                raise
            return module
        try:
            pieces = self.movers.in_pieces(device, spec)
            module = None if pieces else self._load(spec, device, residency, next_use)
            if module is None:
                module = self._stream(spec, device, residency, next_use)
            return module
        finally:
            with self._lock:
                self.urgent -= 1
                self._ahead.wake()
                self.loading.pop(place).done.set()

    def release(self, spec: ModelSpec, device: str) -> None:
        leaving: list[str] = []
        with self._lock:
            residency = self.residency(device)
            residency.release(spec.key)
            resident = residency.residents.get(spec.key)
            if resident is not None and not resident.leases:
                leaving = self._count_beside(device, spec, residency)
            self._ahead.wake()
        if leaving:
            self.let_go()

    def _count_beside(self, device: str, spec: ModelSpec, residency: Residency) -> list[str]:
        """With the lock held, of a model that was given back: what nodes keep for it is part of what it holds. Returns whose
        room that took."""
        beside, module = self._catalog[spec.family].beside, self._modules.get((device, spec.key))
        if beside is None or module is None:
            return []
        held = beside.held(module)
        leaving: list[str] = []
        try:
            leaving = residency.keep_beside(spec.key, held)
            self.make_way(device, leaving)
        except OutOfMemory:
            beside.forget(module)
            held = 0
        (self._beside.add if held else self._beside.discard)((device, spec.key))
        return leaving

    def expect(self, run: str, device: str, expected: Sequence[Expected], before: int = 1) -> None:
        """A run will use these models; they are brought ahead as far as there is room. before: how many uses of models the
        step has made that says so, whose first one they are counted from. Called in the thread of a job."""
        self._prepare_next(device, expected)
        with self._lock:
            self._ahead.expect(run, device, expected, before)

    def forget(self, run: str) -> None:
        """The run uses no more models than its jobs have."""
        with self._lock:
            self._ahead.forget(run)

    def reserve(self, device: str, bytes: int) -> None:
        """Keep bytes for the activations of a job until `unreserve`. Raises OutOfMemory, with the numbers."""
        with self._lock:
            self.make_way(device, self.residency(device).reserve(bytes))
        try:
            self._vacate()
        except BaseException:
            self.unreserve(device, bytes)
            raise

    def unreserve(self, device: str, bytes: int) -> None:
        with self._lock:
            self.residency(device).unreserve(bytes)
            self._ahead.wake()

    def watch(self, device: str) -> bool:
        """Begin to watch what a job takes; False where nobody can tell."""
        with self._lock:
            coming = any(place[0] == device for place in self.loading)
            self._watched[device] = None if coming else self._churn.get(device, 0)
        return devices.watch_peak(device)

    def taken(self, device: str, own_bytes: int) -> int | None:
        """The most that the device held since `watch`, beside the models that are there now; None when that would say
        nothing of the job: another one reserved some of it, too, or models left or were brought ahead meanwhile."""
        with self._lock:
            residency = self.residency(device)
            used, reserved = residency.used_bytes, residency.reserved_bytes
            moved = self._watched.get(device) != self._churn.get(device, 0)
        if reserved > own_bytes or moved:
            return None
        return max(0, devices.peak_bytes(device) - used)

    def close(self) -> None:
        """Nothing is brought any more, and what no job uses is let go: threads that read, weights, pinned memory."""
        with self._lock:
            thread = self._ahead.close()
        if thread is not None:
            thread.join(10)
        ModelPool.clear(self, host=True)

    def clear(self, host: bool = False, wait: bool = True) -> int:
        """Drop every model that no job uses, and bring none ahead for a while; returns how many.

        host: of the host's memory also what it keeps for models that are on no device. wait: else it is begun only; whoever
        leases or reserves, or calls `let_go`, waits for its end.
        """
        with self._lock:
            self._ahead.clear()
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
        """Bytes of weights: as found when it was last loaded, else as its family estimates them, else those of its files."""
        for known in (self._sizes, self._estimates):
            if spec.key in known:
                return known[spec.key]
        # No such family, a file that is gone: whoever loads it will say so.
        with suppress(AnyloomError, OSError, ValueError):
            size = self._estimates[spec.key] = self._catalog[spec.family].size_of(spec)
            return size
        return spec.weight_bytes

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
        """Per device: budget, used, reserved, and each model: bytes that are counted for it, leases, how many uses of
        models later it is used again as far as plans say (None: never), and whether it is resident, streaming (then what is
        kept, and what every pass copies) or loading."""
        with self._lock:
            return [
                {
                    "device": device,
                    "budget_bytes": residency.budget_bytes,
                    "used_bytes": residency.used_bytes,
                    "reserved_bytes": residency.reserved_bytes,
                    "brought_ahead": self._ahead.brought,
                    "used_ahead": self._ahead.used,
                    "models": [
                        {
                            "key": key,
                            "family": self._families.get(key, ""),
                            "bytes": resident.bytes,
                            "weight_bytes": self._sizes.get(key, resident.bytes),
                            "beside_bytes": resident.beside_bytes,
                            "leases": resident.leases,
                            "next_use": residency.next_use(key),
                            **self._facts(device, key),
                        }
                        for key, resident in residency.residents.items()
                    ],
                }
                for device, residency in self._residencies.items()
            ]

    # --- whole ------------------------------------------------------------------------------------------------------------

    def _load(self, spec: ModelSpec, device: str, residency: Residency, next_use: int | None) -> Any:
        """The whole module; None when there is no room for it."""
        try:
            with self._lock:
                self.make_way(device, residency.admit(spec.key, self.size_of(spec)))
                residency.lease(spec.key, next_use)
        except OutOfMemory:
            return None
        return self._materialise(spec, device, residency)

    def _materialise(self, spec: ModelSpec, device: str, residency: Residency) -> Any:
        """Of an admitted and leased model; None when it turns out too large."""
        flight = self.telemetry.began("load", device, spec.family, self.size_of(spec))
        try:
            self._vacate()
            ready = self.hollow.take_whole(spec)
            module = materialise(spec, self._catalog[spec.family], torch_name(device), module=ready)
            self.hollow.prepared.add(spec.key)
            self.telemetry.ended(device, flight, bytes=module_bytes(module))
            with self._lock:
                self._sizes[spec.key] = module_bytes(module)
                self.make_way(device, residency.resize(spec.key, module_bytes(module)))
            self.let_go()
            with self._lock:
                self.loads += 1
                self._modules[device, spec.key] = module
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
            self.telemetry.ended(device, flight, came=False)

    # --- block by block ---------------------------------------------------------------------------------------------------

    def _stream(self, spec: ModelSpec, device: str, residency: Residency, next_use: int | None) -> Any:
        self.let_go()  # its own module may be among what leaves
        outline = self.outline(spec, device)
        with self._lock:
            room, leaving = residency.admit_streamed(spec.key, outline.bytes, outline.least_room)
            self.make_way(device, leaving)
            residency.lease(spec.key, next_use)
        flight = 0
        try:
            if room == outline.bytes and not self.movers.in_pieces(device, spec):  # its files hold more than it takes
                module = self._materialise(spec, device, residency)
                if module is None:
                    raise OutOfMemory(f"{spec.family} takes more than its {outline.bytes:,} bytes on {device}.")
                return module
            self._vacate()
            flight = self.telemetry.began("load", device, spec.family, 0)  # its blocks are copies of their own
            streamed = self._streamed_of(spec, device, outline, room)
            with self._lock:
                self._keep_streamed(spec, device, streamed, room)
            self.telemetry.ended(device, flight)
            return streamed.module
        except BaseException:
            with self._lock:
                residency.discard(spec.key)
            raise
        finally:
            self.telemetry.ended(device, flight, came=False)

    def _streamed_of(self, spec: ModelSpec, device: str, outline: Outline, room: int) -> Streamed:
        from graph_engine.memory.offload import Streamed

        mover = WatchedMover(self.movers.of(outline), self.telemetry, device, spec.family)
        try:
            return Streamed(outline, mover, room, lambda order: self._learn(spec, order))
        except BaseException:
            mover.close()
            raise

    def _keep_streamed(self, spec: ModelSpec, device: str, streamed: Streamed, room: int) -> None:
        counted = self.residency(device).residents[spec.key].bytes
        if counted != room:  # another job asked for some of it meanwhile
            streamed.resize(counted)
        self.loads += 1
        self._streamed[device, spec.key] = streamed
        self._modules[device, spec.key] = streamed.module

    def outline(self, spec: ModelSpec, device: str) -> Outline:
        """What the model takes, before anything of it is read. Without the lock. Raises ModelError, OutOfMemory."""
        outline = self.hollow.outline(spec, device)
        self._sizes[spec.key] = outline.bytes
        return outline

    def _learn(self, spec: ModelSpec, order: list[str]) -> None:
        self.hollow.orders[spec.key] = order

    def _give_back_room(self, place: tuple[str, str], residency: Residency) -> None:
        """A streamed model that made do with little gets what is free now."""
        streamed = self._streamed.get(place)
        if streamed is None or residency.residents[place[1]].leases:
            return
        _, leaving = residency.grow(place[1], self._sizes[place[1]])
        self.make_way(place[0], leaving)
        self._leaving.changed(place, streamed)

    def make_way(self, device: str, keys: list[str]) -> None:
        """With the lock held, what the residency decided: these leave, or make do with what is counted for them. Their memory
        is free after `let_go`."""
        residents = self._residencies[device].residents
        if keys:
            self._churn[device] = self._churn.get(device, 0) + 1
        for key in keys:
            self._forget_beside(device, key)
            streamed = self._streamed.get((device, key))
            if key in residents:
                if streamed is not None:  # else it is being set up, and will look
                    self._leaving.changed((device, key), streamed)
                continue
            if self._modules.pop((device, key), None) is not None:
                self.telemetry.evicted(device, self._families.get(key, ""), self._sizes.get(key, 0))
            self._untouched.discard((device, key))
            if streamed is not None:
                del self._streamed[device, key]
                self._leaving.gone((device, key), streamed)
            loading = self.loading.get((device, key))
            if loading is not None:
                loading.dropped = True
                self._ahead.wake()

    def _forget_beside(self, device: str, key: str) -> None:
        """A module without weights may be kept and its graphs would stay with it; so they are told to go."""
        resident, place = self._residencies[device].residents.get(key), (device, key)
        if resident is not None and (resident.beside_bytes or place not in self._beside):
            return
        self._beside.discard(place)
        module = self._modules.get(place)
        beside = self._catalog[self._families[key]].beside if module is not None else None
        if beside is not None:
            beside.forget(module)

    # --- ahead ------------------------------------------------------------------------------------------------------------

    def may_come_ahead(self, spec: ModelSpec) -> bool:
        """Not what its own library loads: those set switches of the whole process while they do."""
        return self._catalog[spec.family].load is None

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
        """In the thread that brings ahead. The model is counted in already; jobs may have dropped it since."""
        device, spec, room, outline, _ = task
        place = (device, spec.key)
        with self._lock:
            self._churn[device] = self._churn.get(device, 0) + 1
        size = 0 if outline is not None else self.size_of(spec)  # blocks are copies of their own
        flight = self.telemetry.began("load", device, spec.family, size)
        try:
            self.let_go()
            go_on(loading)
            if outline is not None:
                streamed = self._streamed_of(spec, device, outline, room)
            else:
                ready = self.hollow.take_whole(spec)
                go = torch_name(device)
                module = materialise(spec, self._catalog[spec.family], go, lambda: go_on(loading), ready)
            with self._lock:
                if loading.dropped:
                    if outline is not None:
                        self._leaving.gone(place, streamed)
                    raise Dropped
                if outline is not None:
                    self._keep_streamed(spec, device, streamed, room)
                else:
                    self._sizes[spec.key] = module_bytes(module)
                    self.make_way(device, self.residency(device).resize(spec.key, module_bytes(module)))
                    self.loads += 1
                    self._modules[place] = module
                self._families[spec.key] = spec.family
                self._untouched.add(place)
                self._ahead.brought += 1
            self.telemetry.ended(device, flight)
        except BaseException:
            with self._lock:
                if not loading.dropped:
                    self.residency(device).discard(spec.key)
            raise
        finally:
            self.telemetry.ended(device, flight, came=False)
            try:
                self.let_go()  # also of itself, if it was dropped: who waits for it wants its memory
            finally:
                with self._lock:
                    self.loading.pop(place).done.set()

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

    def _vacate(self) -> None:
        """Wait until what was dropped, here or on its way, has let go of its memory: a piece of reading, at most."""
        self.let_go()
        with self._lock:
            dropped = [loading for loading in self.loading.values() if loading.dropped]
        for loading in dropped:
            loading.done.wait()

    def _counted(self, place: tuple[str, str]) -> int | None:
        resident = self._residencies[place[0]].residents.get(place[1])
        return resident.bytes if resident is not None else None

    def _facts(self, device: str, key: str) -> dict[str, Any]:
        streamed = self._streamed.get((device, key))
        if streamed is None:
            return {"state": "resident" if (device, key) in self._modules else "loading"}
        return {
            "state": "streaming" if streamed.streamed_bytes else "resident",
            "kept_bytes": streamed.kept_bytes,
            "streamed_bytes": streamed.streamed_bytes,
            "misses": streamed.misses,
        }

    def residency(self, device: str) -> Residency:
        found = self._residencies.get(device)
        if found is None:
            found = self._residencies[device] = Residency(
                device, weight_budget(device, self._budgets, *device_memory(device))
            )
        return found

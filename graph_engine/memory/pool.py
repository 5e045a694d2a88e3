"""The models that are in memory: materialised on first use, leased to jobs, dropped when the residency says so.

A model that does not fit beside what is in use is streamed block by block (`offload.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graph_engine.errors import ModelError, OutOfMemory
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory
from graph_engine.memory.residency import Residency
from graph_engine.memory.watched import WatchedMover
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import materialise, module_bytes
from graph_engine.models.spec import ModelSpec
from graph_engine.telemetry import Telemetry

if TYPE_CHECKING:
    from graph_engine.memory.offload import Streamed
    from graph_engine.memory.outline import Outline


class _Loading:
    """Two jobs that want one model wait for one load."""

    def __init__(self) -> None:
        self.done = threading.Event()


class ModelPool:
    """Thread-safe. One residency per device, made when the device is first used."""

    def __init__(self, catalog: Catalog, budgets: Mapping[str, int]) -> None:
        self._catalog, self._budgets = catalog, budgets
        self.telemetry = Telemetry()
        self._lock = threading.Lock()
        self._residencies: dict[str, Residency] = {}
        self._modules: dict[tuple[str, str], Any] = {}
        self._streamed: dict[tuple[str, str], Streamed] = {}
        self._loading: dict[tuple[str, str], _Loading] = {}
        self._sizes: dict[str, int] = {}
        """Bytes of models that were loaded before; what files have is only an estimate."""
        self._families: dict[str, str] = {}
        self._orders: dict[str, list[str]] = {}
        """The order in which the layers of streamed models are called, from their earlier lives."""
        self.loads = 0

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        """The module of `spec` on `device`, not to be evicted before `release`. Raises ModelError, OutOfMemory."""
        if not isinstance(spec, ModelSpec):
            raise ModelError(
                f"context.model() takes a ModelSpec, got {type(spec).__name__}.", remedy="Link a load node."
            )
        place = (device, spec.key)
        while True:
            with self._lock:
                residency = self._residency(device)
                self._families[spec.key] = spec.family
                if place in self._modules:
                    self._give_back_room(place, residency)
                    residency.lease(spec.key, next_use)
                    return self._modules[place]
                loading = self._loading.get(place)
                if loading is None:
                    loading = self._loading[place] = _Loading()
                    break
            loading.done.wait()
        try:
            module = self._load(spec, device, residency, next_use)
            if module is None:
                module = self._stream(spec, device, residency, next_use)
            return module
        finally:
            with self._lock:
                del self._loading[place]
            loading.done.set()

    def release(self, spec: ModelSpec, device: str) -> None:
        with self._lock:
            self._residency(device).release(spec.key)

    def reserve(self, device: str, bytes: int) -> None:
        """Keep bytes for the activations of a job until `unreserve`. Raises OutOfMemory, with the numbers."""
        with self._lock:
            self._make_way(device, self._residency(device).reserve(bytes))

    def unreserve(self, device: str, bytes: int) -> None:
        with self._lock:
            self._residency(device).unreserve(bytes)

    def clear(self) -> int:
        """Drop every model that no job uses; returns how many."""
        with self._lock:
            count = 0
            for device, residency in self._residencies.items():
                idle = [key for key, resident in residency.residents.items() if not resident.leases]
                for key in idle:
                    residency.discard(key)
                self._make_way(device, idle)
                count += len(idle)
            return count

    def size_of(self, spec: ModelSpec) -> int:
        """Bytes of weights: as found when it was last loaded, else those of its files."""
        return self._sizes.get(spec.key, spec.weight_bytes)

    def budget_of(self, device: str) -> int:
        """Bytes that models and activations may take together on a device."""
        with self._lock:
            return self._residency(device).budget_bytes

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
                    "models": [
                        {
                            "key": key,
                            "family": self._families.get(key, ""),
                            "bytes": resident.bytes,
                            "weight_bytes": self._sizes.get(key, resident.bytes),
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
                self._make_way(device, residency.admit(spec.key, self.size_of(spec)))
                residency.lease(spec.key, next_use)
        except OutOfMemory:
            return None
        return self._materialise(spec, device, residency)

    def _materialise(self, spec: ModelSpec, device: str, residency: Residency) -> Any:
        """Of an admitted and leased model; None when it turns out too large."""
        flight = self.telemetry.began("load", device, spec.family, self.size_of(spec))
        try:
            module = materialise(spec, self._catalog[spec.family], device)
            self.telemetry.ended(device, flight, bytes=module_bytes(module))
            with self._lock:
                self._sizes[spec.key] = module_bytes(module)
                self._make_way(device, residency.resize(spec.key, module_bytes(module)))
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
        from graph_engine.memory.offload import Streamed
        from graph_engine.memory.outline import Outline

        outline = Outline(spec, self._catalog[spec.family], device, self._orders.get(spec.key, ()))
        with self._lock:
            self._sizes[spec.key] = outline.bytes
            room, leaving = residency.admit_streamed(spec.key, outline.bytes, outline.least_room)
            self._make_way(device, leaving)
            residency.lease(spec.key, next_use)
        try:
            if room == outline.bytes:  # its files hold more than it takes
                module = self._materialise(spec, device, residency)
                if module is None:
                    raise OutOfMemory(f"{spec.family} takes more than its {outline.bytes:,} bytes on {device}.")
                return module
            mover = WatchedMover(self._mover(outline), self.telemetry, device, spec.family)
            try:
                streamed = Streamed(outline, mover, room, lambda order: self._learn(spec, order))
            except BaseException:
                mover.close()
                raise
            with self._lock:
                self.loads += 1
                if residency.residents[spec.key].bytes != room:  # another job asked for some of it meanwhile
                    streamed.resize(residency.residents[spec.key].bytes)
                self._streamed[device, spec.key] = streamed
                self._modules[device, spec.key] = streamed.module
            return streamed.module
        except BaseException:
            with self._lock:
                residency.discard(spec.key)
            raise

    def _mover(self, outline: Outline) -> Any:
        if outline.device.type == "cuda":
            from graph_engine.memory.cuda_mover import CudaMover

            return CudaMover(outline.device, weight_budget("cpu", self._budgets, *device_memory("cpu")))
        from graph_engine.memory.mover import HostMover

        return HostMover()

    def _learn(self, spec: ModelSpec, order: list[str]) -> None:
        self._orders[spec.key] = order

    def _give_back_room(self, place: tuple[str, str], residency: Residency) -> None:
        """A streamed model that made do with little gets what is free now."""
        streamed = self._streamed.get(place)
        if streamed is None or residency.residents[place[1]].leases:
            return
        before = residency.residents[place[1]].bytes
        room, leaving = residency.grow(place[1], self._sizes[place[1]])
        self._make_way(place[0], leaving)
        if room != before:
            streamed.resize(room)

    def _make_way(self, device: str, keys: list[str]) -> None:
        """Carry out what the residency decided: these leave, or make do with what is counted for them."""
        residents = self._residencies[device].residents
        for key in keys:
            streamed = self._streamed.get((device, key))
            if key in residents:
                if streamed is not None:  # else it is being set up, and will look
                    streamed.resize(residents[key].bytes)
                continue
            if self._modules.pop((device, key), None) is not None:
                self.telemetry.evicted(device, self._families.get(key, ""), self._sizes.get(key, 0))
            if streamed is not None:
                del self._streamed[device, key]
                streamed.close()

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

    def _residency(self, device: str) -> Residency:
        found = self._residencies.get(device)
        if found is None:
            found = self._residencies[device] = Residency(
                device, weight_budget(device, self._budgets, *device_memory(device))
            )
        return found

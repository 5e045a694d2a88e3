"""The models that are in memory: materialised on first use, leased to jobs, dropped when the residency says so."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory
from graph_engine.memory.residency import Residency
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import materialise, module_bytes
from graph_engine.models.spec import ModelSpec


class _Loading:
    """Two jobs that want one model wait for one load."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None


class ModelPool:
    """Thread-safe. One residency per device, made when the device is first used."""

    def __init__(self, catalog: Catalog, budgets: Mapping[str, int]) -> None:
        self._catalog, self._budgets = catalog, budgets
        self._lock = threading.Lock()
        self._residencies: dict[str, Residency] = {}
        self._modules: dict[tuple[str, str], Any] = {}
        self._loading: dict[tuple[str, str], _Loading] = {}
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
                if place in self._modules:
                    residency.lease(spec.key, next_use)
                    return self._modules[place]
                loading = self._loading.get(place)
                if loading is None:
                    loading = self._loading[place] = _Loading()
                    try:
                        for key in residency.admit(spec.key, spec.weight_bytes):
                            self._modules.pop((device, key), None)
                    except BaseException:
                        del self._loading[place]
                        raise
                    residency.lease(spec.key, next_use)
                    break
            loading.done.wait()
        try:
            module = materialise(spec, self._catalog[spec.family], device)
            with self._lock:
                for key in residency.resize(spec.key, module_bytes(module)):
                    self._modules.pop((device, key), None)
                self.loads += 1
                self._modules[place] = module
            return module
        except BaseException:
            with self._lock:
                residency.discard(spec.key)
            raise
        finally:
            with self._lock:
                del self._loading[place]
            loading.done.set()

    def release(self, spec: ModelSpec, device: str) -> None:
        with self._lock:
            self._residency(device).release(spec.key)

    def clear(self) -> int:
        """Drop every model that no job uses; returns how many."""
        with self._lock:
            count = 0
            for device, residency in self._residencies.items():
                for key in [key for key, resident in residency.residents.items() if not resident.leases]:
                    residency.discard(key)
                    self._modules.pop((device, key), None)
                    count += 1
            return count

    def stats(self) -> list[dict[str, Any]]:
        """Per device: budget, used, and each model with bytes and leases."""
        with self._lock:
            return [
                {
                    "device": device,
                    "budget_bytes": residency.budget_bytes,
                    "used_bytes": residency.used_bytes,
                    "models": [
                        {"key": key, "bytes": resident.bytes, "leases": resident.leases}
                        for key, resident in residency.residents.items()
                    ],
                }
                for device, residency in self._residencies.items()
            ]

    def _residency(self, device: str) -> Residency:
        found = self._residencies.get(device)
        if found is None:
            found = self._residencies[device] = Residency(
                device, weight_budget(device, self._budgets, *device_memory(device))
            )
        return found

"""DividedPool: the models of one process, where other processes may have models on the same device.

The budget of a device is divided between the pools that use it: what one takes, another gave before. So together they
never hold more than the budget (law P5), at every moment and without a common lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec


class Holding(NamedTuple):
    """One model: its bytes, how many jobs use it, and the files that it came from."""

    bytes: int
    leases: int
    files: frozenset[str]


class Holdings(NamedTuple):
    """What lies on a device. free_bytes: nobody has them; idle models are not counted as free."""

    budget_bytes: int
    free_bytes: int
    models: Mapping[str, Holding]

    def bytes_of(self, spec: ModelSpec, size: int) -> int:
        """How much of a model is there. A node may use a part of one (a trunk of an encoder): then the files tell."""
        exact = self.models.get(spec.key)
        if exact is not None:
            return min(size, exact.bytes)
        files = {file.path for file in spec.files}
        parts = (model.bytes for model in self.models.values() if model.files and model.files <= files)
        return min(size, sum(parts))


class DividedPool(ModelPool):
    def __init__(self, catalog: Catalog, budgets: Mapping[str, int]) -> None:
        super().__init__(catalog, budgets)
        self._files: dict[str, frozenset[str]] = {}

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        if isinstance(spec, ModelSpec) and spec.key not in self._files:
            self._files[spec.key] = frozenset(file.path for file in spec.files)
        return super().lease(spec, device, next_use)

    def holdings(self, device: str) -> Holdings:
        with self._lock:
            residency = self.residency(device)
            models = {
                key: Holding(resident.bytes, resident.leases, self._files.get(key, frozenset()))
                for key, resident in residency.residents.items()
            }
            free = residency.budget_bytes - residency.used_bytes - residency.reserved_bytes
            return Holdings(residency.budget_bytes, free, models)

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Bytes of models as they were found when they were loaded, as far as they were."""
        return {key: self.known.found[key] for key in keys if key in self.known.found}

    def lacking(self, device: str, wanted: Mapping[str, int], beside: int = 0) -> int:
        """How much more budget it takes to have these models (bytes by key), those in use and `beside`, each once, when
        everything idle has left. Negative: so much could be given away."""
        with self._lock:
            residency = self.residency(device)
            leased = {
                key: resident.bytes + resident.beside_bytes
                for key, resident in residency.residents.items()
                if resident.leases
            }
            return sum({**wanted, **leased}.values()) + residency.reserved_bytes + beside - residency.budget_bytes

    def give(self, device: str, bytes: int) -> int:
        """Leave up to `bytes` of the budget to another pool; idle models make way. Returns how much."""
        with self._lock:
            residency = self.residency(device)
            given = max(0, min(bytes, residency.budget_bytes - residency.reserved_bytes - residency.leased_bytes))
            self.make_way(device, residency.reserve(given))
            residency.unreserve(given)
            residency.budget_bytes -= given
        self.vacate()  # what was on its way has let go as well
        return given

    def take(self, device: str, bytes: int) -> None:
        """Use what another pool gave."""
        with self._lock:
            self.residency(device).budget_bytes += bytes
            self.ahead.wake()

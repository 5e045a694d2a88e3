"""What nodes keep on a device beside the weights of a model (captured graphs, say), as part of what the model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graph_engine.errors import OutOfMemory
from graph_engine.models.spec import ModelSpec

if TYPE_CHECKING:
    from graph_engine.memory.pool import ModelPool
    from graph_engine.memory.residency import Residency


class BesideCount:
    """Of one pool, with whose lock held all of it is called."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self._counted: set[tuple[str, str]] = set()
        """Models for which something is counted."""

    def count(self, device: str, spec: ModelSpec, residency: Residency) -> list[str]:
        """Of a model that was given back. Returns whose room that took; what there is no room for is let go."""
        pool, place = self._pool, (device, spec.key)
        beside, module = pool.catalog[spec.family].beside, pool.modules.get(place)
        if beside is None or module is None:
            return []
        held = beside.held(module)
        leaving: list[str] = []
        try:
            leaving = residency.keep_beside(spec.key, held)
            pool.make_way(device, leaving)
        except OutOfMemory:
            beside.forget(module)
            held = 0
        (self._counted.add if held else self._counted.discard)(place)
        return leaving

    def forget(self, device: str, key: str, residency: Residency) -> None:
        """Of a model that leaves, or has to do with less. A module without weights may be kept and its graphs would stay with
        it; so they are told to go."""
        pool, resident, place = self._pool, residency.residents.get(key), (device, key)
        if resident is not None and (resident.beside_bytes or place not in self._counted):
            return
        self._counted.discard(place)
        module = pool.modules.get(place)
        beside = pool.catalog[pool.families[key]].beside if module is not None else None
        if beside is not None:
            beside.forget(module)

"""Which mover brings the blocks of a model to its device, and whether it comes in blocks at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from graph_engine.memory.budget import weight_budget
from graph_engine.memory.devices import device_memory
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec

if TYPE_CHECKING:
    from graph_engine.memory.mover import Mover
    from graph_engine.memory.outline import Outline
    from graph_engine.memory.slabs import Slabs


class Movers:
    """Of one pool. given: what brings the blocks on every device, instead of CUDA's own mover and the host's."""

    def __init__(
        self, catalog: Catalog, budgets: Mapping[str, int], given: Callable[[Outline], Mover] | None = None
    ) -> None:
        self._catalog, self._budgets, self._given = catalog, budgets, given
        self.slabs: Slabs | None = None
        """Pinned memory that copies to CUDA devices start from, made when a device first wants it."""
        self._slabs_lock = threading.Lock()

    def in_pieces(self, device: str, spec: ModelSpec) -> bool:
        """The model comes block by block even where it fits: then it computes while it arrives."""
        return (self._given is not None or device.startswith("cuda")) and not self._catalog[spec.family].is_whole(spec)

    def of(self, outline: Outline) -> Mover:
        """For one life of a model."""
        if self._given is not None:
            return self._given(outline)
        if outline.device.type == "cuda":
            from graph_engine.memory.cuda_mover import CudaMover

            return CudaMover(outline.device, self._host_slabs(), outline.key)
        from graph_engine.memory.mover import HostMover

        return HostMover()

    def clear(self) -> None:
        """Unpin what nobody copies from."""
        if (slabs := self.slabs) is not None:
            slabs.clear()

    def _host_slabs(self) -> Slabs:
        """What the host may hold is its own budget."""
        with self._slabs_lock:
            if self.slabs is None:
                from graph_engine.memory.cuda_mover import pinned_slabs

                self.slabs = pinned_slabs(weight_budget("cpu", self._budgets, *device_memory("cpu")))
            return self.slabs

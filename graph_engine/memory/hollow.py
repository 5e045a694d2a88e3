"""Modules without weights: of models that left a device, for when they come back, and of those that are expected.

A module costs next to nothing to keep, and up to seconds to build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graph_engine.memory.devices import torch_name
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import empty
from graph_engine.models.spec import ModelSpec

if TYPE_CHECKING:
    from graph_engine.memory.outline import Outline

OUTLINES_KEPT = 32
COMPUTED_KEPT = 64 << 20
"""Bytes of weights that no file holds, which an outline has in memory."""


class Hollow:
    """Of one pool. What is read and written here at once by several threads are single entries of dictionaries."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.outlines: dict[tuple[str, str], Outline] = {}
        """(device, key) -> of a model that comes in pieces."""
        self._whole: dict[str, Any] = {}
        """key -> of a model that is to come as a whole."""
        self.orders: dict[str, list[str]] = {}
        """The order in which the layers of streamed models are called, from their earlier lives."""
        self.prepared: set[str] = set()
        """Models that were built in this process once: doing so again imports nothing."""

    def outline(self, spec: ModelSpec, device: str) -> Outline:
        """Taken from what is kept, or built: what the model takes, before anything of it is read. Raises ModelError,
        OutOfMemory."""
        from graph_engine.memory.outline import Outline

        order: Sequence[str] = self.orders.get(spec.key, ())
        outline = self.outlines.pop((device, spec.key), None)
        if outline is None:
            outline = Outline(spec, self._catalog[spec.family], torch_name(device), order)
        else:
            outline.reorder(order)
        self.prepared.add(spec.key)
        return outline

    def put_away(self, device: str, key: str, outline: Outline) -> None:
        """Its weights have left; the oldest of too many goes."""
        if outline.computed_bytes <= COMPUTED_KEPT:
            self.outlines[device, key] = outline
            while len(self.outlines) > OUTLINES_KEPT:
                self.outlines.pop(next(iter(self.outlines)), None)

    def clear(self) -> object:
        """Let go of the modules, and of the weights that no file holds; what is known of models stays. They are returned,
        because it takes time to free them, and the caller may hold a lock."""
        cleared = self.outlines, self._whole
        self.outlines, self._whole = {}, {}
        return cleared

    def build_whole(self, spec: ModelSpec) -> None:
        """For `take_whole`. Raises ModelError."""
        self._whole[spec.key] = empty(spec, self._catalog[spec.family])
        self.prepared.add(spec.key)

    def take_whole(self, spec: ModelSpec) -> Any:
        """The module that was built ahead, or None."""
        return self._whole.pop(spec.key, None)

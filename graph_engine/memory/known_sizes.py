"""How large models are, as well as that is known by now."""

from __future__ import annotations

from contextlib import suppress

from graph_engine.errors import AnyloomError
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec


class KnownSizes:
    """Bytes of weights by the keys of specs. Any thread: what is read and written are single entries."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.found: dict[str, int] = {}
        """Of models that were loaded, or outlined, before."""
        self._estimates: dict[str, int] = {}
        """Of others, as their families say."""

    def of(self, spec: ModelSpec) -> int:
        """As found when it was last loaded, else as its family estimates it, else the bytes of its files."""
        for known in (self.found, self._estimates):
            if spec.key in known:
                return known[spec.key]
        # No such family, a file that is gone: whoever loads it will say so.
        with suppress(AnyloomError, OSError, ValueError):
            size = self._estimates[spec.key] = self._catalog[spec.family].size_of(spec)
            return size
        return spec.weight_bytes

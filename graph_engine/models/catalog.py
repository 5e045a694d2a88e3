"""The model families that exist here: how to build an empty module of each from its config."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graph_engine.errors import ModelError, RegistryError

ENTRY_POINT_GROUP = "graph_engine.models"


@dataclass(frozen=True)
class Family:
    """One row of the catalog.

    build    config -> torch module; called under `torch.device("meta")`, so it allocates nothing
    finish   called after the weights are in place, for buffers that no file holds (rotary tables, masks)
    rename   state dict keys of published files -> keys of the module, where they differ
    fit      (empty module, renamed tensors) -> the tensors that fill it, where names alone do not settle it: tied
             weights, a vocabulary that has grown
    load     spec, device -> module, for models that their own library knows best how to load; instead of the others
    """

    name: str
    build: Callable[[Mapping[str, Any]], Any]
    finish: Callable[[Any], None] | None = None
    rename: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    fit: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    load: Callable[[Any, str], Any] | None = None


class Catalog:
    """A table name -> Family, filled from the entry points of installed packages (a module with `FAMILIES`)."""

    def __init__(self, families: Iterable[Family] = ()) -> None:
        self._families: dict[str, Family] = {}
        for family in families:
            self.add(family)

    @classmethod
    def discover(cls) -> Catalog:
        catalog = cls()
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            for family in entry.load().FAMILIES:
                catalog.add(family)
        return catalog

    def add(self, family: Family) -> None:
        if family.name in self._families:
            raise RegistryError(f"the model family {family.name!r} is claimed twice.", remedy="Rename one of them.")
        self._families[family.name] = family

    def __getitem__(self, name: str) -> Family:
        try:
            return self._families[name]
        except KeyError:
            raise ModelError(
                f"there is no model family {name!r}.",
                remedy=f"Known here: {', '.join(sorted(self._families)) or 'none'}.",
                code="unknown_model",
            ) from None

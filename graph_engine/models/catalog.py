"""The model families that exist here: how to build an empty module of each from its config."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from graph_engine.errors import ModelError, RegistryError
from graph_engine.models.spec import ModelSpec

Explain = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Mapping[str, Any]]], tuple[str, str] | None]
"""(expected, found, files) -> (reason, remedy), or None where nothing can be said."""

ENTRY_POINT_GROUP = "graph_engine.models"


class Beside(NamedTuple):
    """held: module -> bytes that are kept for it now; forget: module -> None, let go of them. Of a module that no job uses;
    called from any thread."""

    held: Callable[[Any], int]
    forget: Callable[[Any], None]


@dataclass(frozen=True)
class Family:
    """One row of the catalog.

    build    config -> torch module; called under `torch.device("meta")`, so it allocates nothing
    finish   called after the weights are in place, for buffers that no file holds (rotary tables, masks)
    rename   state dict keys of published files -> keys of the module, where they differ
    fit      (empty module, renamed tensors) -> the tensors that fill it, where names alone do not settle it: tied
             weights, a vocabulary that has grown
    fold     between `rename` and `fit`, for a model that is more than the sum of its files: a base and what was trained on it
    explain  (keys expected, keys found, keys of each file as they lie there) -> why they differ, and what to do
    whole    spec -> its weights must all be there at once (they are quantised as they are loaded, say), so never streamed;
             it is filled and finished on the host, and then moved to its device
    part     its files hold more than this model; only what `rename` leaves of them is read
    layout   (empty module) -> strides of the weights that are computed with on a device in another order than that of their
             shapes: they are brought there so. On the host all lie as files have them, and results stay to the bit
    beside   what nodes keep on a device beside the weights of a model, between jobs (captured graphs, say)
    load     spec, device -> module, for models that their own library knows best how to load; instead of the others
    loaded_bytes  spec -> bytes of its weights once they are loaded, where those of its files say something else (weights
             that `finish` quantises); rather too many than too few. It may read headers of files; raises
             ModelError, ValueError

    `rename`, `fold` and `fit` raise ValueError "what is wrong; what to do" for files that cannot be this model. They are given
    tensors on the meta device when a model is only checked, so they must not ask for values.
    """

    name: str
    build: Callable[[Mapping[str, Any]], Any]
    finish: Callable[[Any], None] | None = None
    rename: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    fit: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    load: Callable[[Any, str], Any] | None = None
    fold: Callable[[Mapping[str, Any], ModelSpec], dict[str, Any]] | None = None
    explain: Explain | None = None
    whole: Callable[[ModelSpec], bool] | None = None
    part: bool = False
    layout: Callable[[Any], Mapping[str, tuple[int, ...]]] | None = None
    beside: Beside | None = None
    loaded_bytes: Callable[[ModelSpec], int] | None = None

    def size_of(self, spec: ModelSpec) -> int:
        """Bytes of weights on a device, as far as that is known before they are there. Raises as `loaded_bytes` does."""
        return self.loaded_bytes(spec) if self.loaded_bytes is not None else spec.weight_bytes

    def is_whole(self, spec: ModelSpec) -> bool:
        """Whether the model can only be brought in as a whole."""
        return self.load is not None or (self.whole is not None and self.whole(spec))


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

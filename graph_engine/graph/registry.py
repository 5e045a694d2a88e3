"""The node types that exist here: from installed packages (entry points) and from folders of custom nodes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from graph_engine.errors import NotFoundError, RegistryError
from graph_engine.graph.node import NodeType

ENTRY_POINT_GROUP = "graph_engine.nodes"


class Registry:
    """A table id -> NodeType. Two packs that claim one id are an error that names both."""

    def __init__(self, types: Iterable[NodeType] = ()) -> None:
        self._types: dict[str, NodeType] = {}
        self.failures: dict[str, str] = {}
        """Packs that could not be loaded, and why; one broken pack does not keep the others away."""
        self._libraries: dict[str, None] = {}
        for type in types:
            self.add(type)

    @classmethod
    def discover(cls, custom: Iterable[Path] = ()) -> Registry:
        """Everything installed packages publish, then every file and package of the `custom` folders."""
        registry = cls()
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            registry._guarded(entry.name, lambda entry=entry: registry.add_module(entry.load()))
        for folder in custom:
            registry.add_folder(folder)
        return registry

    def add(self, type: NodeType) -> None:
        known = self._types.get(type.id)
        if known is not None and known.function is not type.function:
            raise RegistryError(
                f"node id {type.id!r} is claimed twice: by {known.origin} and by {type.origin}.",
                remedy="Rename one of them or remove one of the packs.",
                code="claimed_twice",
            )
        self._types[type.id] = type

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules that nodes of devices will import, for processes that do it before the first job. Packs name them
        (`LIBRARIES`); those of custom folders come first, because somebody put them there to be used."""
        return tuple(self._libraries)

    def add_module(self, module: ModuleType, first: bool = False) -> None:
        """Every node function that is an attribute of the module. first: before what is known already."""
        named = dict.fromkeys(getattr(module, "LIBRARIES", ()))
        self._libraries = {**named, **self._libraries} if first else {**self._libraries, **named}
        for value in list(vars(module).values()):
            type = getattr(value, "node_type", None)
            if isinstance(type, NodeType):
                self.add(type)

    def add_folder(self, folder: Path) -> None:
        """Each `NAME.py` and each package directly in `folder` is one pack. This runs their code."""
        if not folder.is_dir():
            raise NotFoundError(
                f"the custom node folder {folder} does not exist.", remedy="Create it or drop the flag."
            )
        for path in sorted(folder.iterdir()):
            source = path / "__init__.py" if path.is_dir() else path
            if source.suffix == ".py" and source.is_file() and not path.name.startswith(("_", ".")):
                self._guarded(path.stem, lambda path=path, source=source: self._add_file(path, source))

    def _add_file(self, path: Path, source: Path) -> None:
        name = f"anyloom_custom_{path.stem}"
        places = [str(path)] if path.is_dir() else None
        spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=places)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        self.add_module(module, first=True)

    def _guarded(self, pack: str, load: object) -> None:
        try:
            load()  # type: ignore[operator]
        except (Exception, SystemExit) as error:  # a pack may raise anything while it is imported
            if isinstance(error, RegistryError) and error.problem.code == "claimed_twice":
                raise
            self.failures[pack] = f"{type(error).__name__}: {error}"

    def get(self, id: str) -> NodeType | None:
        return self._types.get(id)

    def __getitem__(self, id: str) -> NodeType:
        try:
            return self._types[id]
        except KeyError:
            raise NotFoundError(
                f"there is no node type {id!r}.", remedy=self.suggest(id), code="unknown_node"
            ) from None

    def suggest(self, id: str) -> str:
        """What the person may have meant."""
        import difflib

        close = difflib.get_close_matches(id, self._types, 3, 0.6)
        if close:
            return f"Did you mean {' or '.join(map(repr, close))}?"
        return "`anyloom nodes` lists all; install the pack that has it."

    def __iter__(self) -> Iterator[NodeType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    def __contains__(self, id: object) -> bool:
        return id in self._types

"""Library: the saved workflows, by name. Those that came with Anyloom can be read, one's own can be written too."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, DocumentError, NotFoundError, PathError, Problem, RequestError
from graph_engine.graph.document import Document, load_json, parse
from graph_engine.settings import Settings
from web.paths import leads_inside

SHIPPED = Path(__file__).resolve().parent.parent / "workflows"
NAME = re.compile(r"[\w\-](?:[\w\-. ]{0,98}[\w\-])?(?:/[\w\-](?:[\w\-. ]{0,98}[\w\-])?){0,3}")
"""Folders and a file name without its `.json`; no part starts or ends with a dot."""


class _Kept(NamedTuple):
    stamp: tuple[int, int]
    raw: dict[str, Any]
    entry: dict[str, Any]


class Library:
    """Reads `own`, then each of `shipped`; writes only `own`. Files are read again when they change."""

    def __init__(
        self, own: Path, shipped: tuple[Path, ...] = (), *, max_bytes: int = 1 << 24, max_nodes: int = 100_000
    ) -> None:
        self.own = own
        self.shipped = shipped
        self.max_bytes, self.max_nodes = max_bytes, max_nodes
        self._kept: dict[Path, _Kept] = {}

    @classmethod
    def of(cls, settings: Settings) -> Library:
        shipped = (*settings.workflows_dirs, SHIPPED)
        return cls(
            settings.workflows_path, shipped, max_bytes=settings.max_document_bytes, max_nodes=settings.max_nodes
        )

    def entries(self) -> list[dict[str, Any]]:
        """What there is: name, title, description, asks, node count; broken files with their `error`."""
        found: dict[str, dict[str, Any]] = {}
        for root in (self.own, *self.shipped):
            for name, path in _scan(root):
                if name not in found:
                    found[name] = {"name": name, "writable": root == self.own, **self._entry(path)}
        return [found[name] for name in sorted(found)]

    def load(self, name: str) -> dict[str, Any]:
        """The workflow as its JSON. Not to be changed by the caller. Raises NotFoundError, PathError, DocumentError."""
        path = self._find(name)
        if path is None:
            import difflib

            names = [entry for root in (self.own, *self.shipped) for entry, _ in _scan(root)]
            close = difflib.get_close_matches(name, names, 3, 0.5)
            remedy = f"Did you mean {' or '.join(map(repr, close))}?" if close else "`anyloom workflows` lists all."
            raise NotFoundError(f"there is no workflow {name!r}.", remedy=remedy, code="unknown_workflow")
        return self._read(path).raw

    def save(self, name: str, raw: Mapping[str, Any]) -> bool:
        """Write a workflow of one's own; True if the name is new. What is no workflow is not kept."""
        parse(raw, max_bytes=self.max_bytes, max_nodes=self.max_nodes)
        path = self._writable(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(raw, file, ensure_ascii=False, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return new

    def remove(self, name: str) -> None:
        path = self._writable(name)
        if not path.is_file():
            raise NotFoundError(f"there is no workflow {name!r} of your own.", remedy="`anyloom workflows` lists all.")
        path.unlink()
        self._kept.pop(path, None)

    def _find(self, name: str) -> Path | None:
        for root in (self.own, *self.shipped):
            path = _inside(root, name)
            if path.is_file():
                return path
        return None

    def _writable(self, name: str) -> Path:
        if any(_inside(root, name).is_file() for root in self.shipped):
            raise RequestError(
                f"the workflow {name!r} came with Anyloom and stays as it is.",
                remedy="Save under another name.",
                code="read_only",
            )
        return _inside(self.own, name)

    def _entry(self, path: Path) -> dict[str, Any]:
        try:
            return self._read(path).entry
        except (AnyloomError, OSError) as error:
            return {"title": "", "description": "", "asks": [], "nodes": 0, "error": str(error)}

    def _read(self, path: Path) -> _Kept:
        facts = path.stat()
        stamp = (facts.st_size, facts.st_mtime_ns)
        kept = self._kept.get(path)
        if kept is None or kept.stamp != stamp:
            if facts.st_size > self.max_bytes:
                raise DocumentError(
                    [Problem("document_too_large", f"{path.name} has {facts.st_size:,} bytes.", place="/")]
                )
            raw = load_json(path.read_bytes(), max_bytes=self.max_bytes)
            document = parse(raw, max_bytes=self.max_bytes, max_nodes=self.max_nodes)
            kept = self._kept[path] = _Kept(stamp, document.raw, summary(document))
        return kept


def summary(document: Document) -> dict[str, Any]:
    """What a list of workflows shows of one. An ask has the value that is there now, for a form to start from."""
    asks = []
    for ask in document.asks:
        value = document.nodes[ask.node].values.get(ask.input)
        asks.append({**ask._asdict(), "type": document.nodes[ask.node].type, "value": value})
    return {"title": document.title, "description": document.description, "nodes": len(document.nodes), "asks": asks}


def _inside(root: Path, name: str) -> Path:
    """The file of a name, which need not exist. Raises PathError for what could lead elsewhere."""
    if not NAME.fullmatch(name) or any(len(part.encode()) > 200 for part in name.split("/")):
        raise PathError(
            f"{name[:80]!r} is no workflow name.",
            remedy="Use letters, digits, '_', '-', spaces and dots, in at most three folders.",
            code="bad_name",
        )
    root = root.resolve()
    path = root / f"{name}.json"
    if not leads_inside(path, root):
        raise PathError(f"{name!r} leads outside the workflows folder.", remedy="Remove that link.")
    return path


def _scan(root: Path) -> Iterator[tuple[str, Path]]:
    """Names and files, nothing through links that lead outside."""
    home = root.resolve()
    for folder, folders, files in os.walk(home):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(home).as_posix().removesuffix(".json")
            if file.endswith(".json") and NAME.fullmatch(name) and leads_inside(path, home):
                yield name, path

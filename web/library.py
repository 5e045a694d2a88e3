"""Library: the saved workflows, by name. Those that came with Anyloom can be read, one's own can be written too."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, DocumentError, NotFoundError, PathError, Problem, RequestError
from graph_engine.graph.document import Ask, Document, load_json, parse
from graph_engine.graph.subgraph import ExposedInput, definition_of
from graph_engine.settings import Settings
from web import versions
from web.paths import leads_inside
from web.versions import Version

SHIPPED = Path(__file__).resolve().parent.parent / "workflows"
NAME = re.compile(r"[\w\-](?:[\w\-. ]{0,98}[\w\-])?(?:/[\w\-](?:[\w\-. ]{0,98}[\w\-])?){0,3}")
"""Folders and a file name without its `.json`; no part starts or ends with a dot."""


class Saved(NamedTuple):
    """new: the name was not there. etag: what identifies the content that was written."""

    new: bool
    etag: str


class _Kept(NamedTuple):
    stamp: tuple[int, int]
    raw: dict[str, Any]
    entry: dict[str, Any]
    etag: str


class Library:
    """Reads `own`, then each of `shipped`; writes only `own`. Files are read again when they change."""

    def __init__(
        self, own: Path, shipped: tuple[Path, ...] = (), *, max_bytes: int = 1 << 24, max_nodes: int = 100_000
    ) -> None:
        self.own = own
        self.shipped = shipped
        self.max_bytes, self.max_nodes = max_bytes, max_nodes
        self._kept: dict[Path, _Kept] = {}
        self._writing = threading.Lock()

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
        return self.read(name)[0]

    def read(self, name: str) -> tuple[dict[str, Any], str]:
        """The workflow, and what identifies its content. Raises as `load`."""
        path = self._find(name)
        if path is None:
            import difflib

            names = [entry for root in (self.own, *self.shipped) for entry, _ in _scan(root)]
            close = difflib.get_close_matches(name, names, 3, 0.5)
            remedy = f"Did you mean {' or '.join(map(repr, close))}?" if close else "`anyloom workflows` lists all."
            raise NotFoundError(f"there is no workflow {name!r}.", remedy=remedy, code="unknown_workflow")
        kept = self._read(path)
        return kept.raw, kept.etag

    def save(self, name: str, raw: Mapping[str, Any], expected: str | None = None) -> Saved:
        """Write a workflow of one's own. What is no workflow is not kept; what was there before is kept as a version.

        expected: the content that the writer knows, by the etag that it was read or written with, "" for none; raises
        RequestError (`changed`) when another is there by now.
        """
        parse(raw, max_bytes=self.max_bytes, max_nodes=self.max_nodes)
        path = self._writable(name)
        data = (json.dumps(raw, ensure_ascii=False, indent=2) + "\n").encode()
        with self._writing:
            before = self._replacing(name, path, expected, data)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)
        return Saved(before is None, _digest(data))

    def versions(self, name: str) -> list[Version]:
        """What one's own workflow of this name was before, newest first. Raises PathError."""
        _inside(self.own, name)
        return versions.versions(self.own, name)

    def version(self, name: str, id: str) -> dict[str, Any]:
        """One of them. Raises NotFoundError, PathError."""
        _inside(self.own, name)
        return load_json(versions.locate(self.own, name, id).read_bytes(), max_bytes=self.max_bytes)

    def restore(self, name: str, id: str, expected: str | None = None) -> Saved:
        """Make a version the present one; what is there now becomes a version itself. Raises as `save` and `version`."""
        return self.save(name, self.version(name, id), expected)

    def _replacing(self, name: str, path: Path, expected: str | None, new: bytes = b"") -> str | None:
        """Keep what is there and is about to go, unless the same takes its place; its etag, None when there is nothing.

        With the lock held.
        """
        found = _digest(path.read_bytes()) if path.is_file() else None
        if expected is not None and expected != (found or ""):
            raise RequestError(
                f"the workflow {name!r} was changed meanwhile, in another window or by somebody else."
                if found
                else f"the workflow {name!r} is not there any more.",
                remedy="Load it again and repeat the change, or save under another name.",
                code="changed",
            )
        if found is not None and found != _digest(new):
            versions.keep(self.own, name, path, found)
        return found

    def remove(self, name: str, expected: str | None = None) -> None:
        """It stays as a version. Raises NotFoundError, and RequestError as `save`."""
        path = self._writable(name)
        if not path.is_file():
            raise NotFoundError(f"there is no workflow {name!r} of your own.", remedy="`anyloom workflows` lists all.")
        with self._writing:
            self._replacing(name, path, expected)
            path.unlink(missing_ok=True)
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
            data = path.read_bytes()
            document = parse(
                load_json(data, max_bytes=self.max_bytes), max_bytes=self.max_bytes, max_nodes=self.max_nodes
            )
            entry = {**summary(document), "modified": facts.st_mtime}
            kept = self._kept[path] = _Kept(stamp, document.raw, entry, _digest(data))
        return kept


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def summary(document: Document) -> dict[str, Any]:
    """What a list of workflows shows of one. An ask has the value that is there now, for a form to start from."""
    asks = []
    for ask in document.asks:
        value = document.nodes[ask.node].values.get(ask.input, _default(document, ask))
        asks.append({**ask._asdict(), "type": document.nodes[ask.node].type, "value": value})
    entry = {"title": document.title, "description": document.description, "nodes": len(document.nodes), "asks": asks}
    published = document.subgraphs.get(document.publishes)
    if published is not None:
        entry["publishes"] = {
            **{field: getattr(published, field) for field in ("name", "title", "description", "category")},
            "inputs": [_told(port) for port in published.inputs.values()],
            "outputs": [{"name": port.name, "kind": port.kind} for port in published.outputs.values()],
        }
    ui = document.raw.get("ui")
    picture = ui.get("thumbnail") if isinstance(ui, dict) else None
    if isinstance(picture, dict) and all(isinstance(picture.get(field), str) for field in ("folder", "name")):
        entry["thumbnail"] = {"folder": picture["folder"], "name": picture["name"]}
    return entry


def _told(port: ExposedInput) -> dict[str, Any]:
    return {"name": port.name, "kind": port.kind, **({"default": port.default} if port.given else {})}


def _default(document: Document, ask: Ask) -> Any:
    """Of a promoted widget, when the ask is about one."""
    subgraph = document.subgraphs.get(definition_of(document.nodes[ask.node].type) or "")
    port = subgraph.inputs.get(ask.input) if subgraph is not None else None
    return port.default if port is not None else None


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

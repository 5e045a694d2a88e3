"""Subgraphs: parts of a workflow that have a name and a border, defined once in a document and used any number of times.

    "subgraphs": {"soften": {
        "title": "Soften", "description": "...", "category": "...",
        "inputs":  [{"name": "image", "kind": "IMAGE"}, {"name": "radius", "kind": "FLOAT", "default": 2.5}],
        "outputs": [{"name": "image", "kind": "IMAGE", "link": "blur.image"}],
        "nodes":   {"blur": {"type": "media.blur_image", "links": {"image": "@.image", "radius": "@.radius"}}}}},
    "nodes": {"first": {"type": "subgraph:soften", "values": {"radius": 4}, "links": {"image": "load.image"}}}

A node of type "subgraph:NAME" is an instance. Inside, "@.NAME" is what comes in at the border. An input with a `default` is a
promoted widget: what it writes to has that value unless an instance has another. A value of an instance whose name is
"node.input" is written over that node's own, in this instance alone; "inner/node.input" goes further down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from graph_engine.errors import Problem

if TYPE_CHECKING:
    from graph_engine.graph.document import DocumentNode

TYPE = "subgraph:"
BORDER = "@"
"""The source of a link to an exposed input. No node is called so."""
SINCE = 2
"""The version of documents that can have subgraphs."""
DEEPEST = 64
"""Subgraphs within subgraphs."""
PORT = re.compile(r"[\w\-]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9_\-]{1,128}")


class ExposedInput(NamedTuple):
    """given: it has a default, so it need not be connected."""

    name: str
    kind: str
    default: Any = None
    given: bool = False


class ExposedOutput(NamedTuple):
    """link: (node, output) within, or ("@", exposed input); None while nothing is connected."""

    name: str
    kind: str
    link: tuple[str, str] | None = None


class Subgraph(NamedTuple):
    name: str
    title: str
    description: str
    category: str
    inputs: dict[str, ExposedInput]
    outputs: dict[str, ExposedOutput]
    nodes: dict[str, DocumentNode]


def definition_of(type: str) -> str | None:
    """The name of the subgraph that a node of this type is an instance of."""
    return type[len(TYPE) :] if type.startswith(TYPE) else None


def entry_at(raw: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The entry of "node" or "instance/node" in the JSON of a document; empty where there is none."""
    nodes: Any = raw.get("nodes")
    entry: Any = {}
    for id in path.split("/"):
        entry = nodes.get(id) if isinstance(nodes, Mapping) else None
        name = definition_of(str(entry.get("type"))) if isinstance(entry, Mapping) else None
        definition = raw.get("subgraphs", {}).get(name) if name is not None else None
        nodes = definition.get("nodes") if isinstance(definition, Mapping) else None
    return entry if isinstance(entry, Mapping) else {}


ReadNode = Callable[[Any, Any, list[Problem], str], "DocumentNode | None"]
"""(id, entry, problems, place of what it lies in) -> the node"""


def read_subgraphs(raw: Mapping[str, Any], read_node: ReadNode, problems: list[Problem]) -> dict[str, Subgraph]:
    """The definitions of a document. What is wrong with one is told by its place in the text."""
    entries = raw.get("subgraphs", {})
    if not entries:
        return {}
    if not isinstance(entries, Mapping):
        problems.append(
            Problem("bad_shape", '"subgraphs" must be an object of definitions by name.', place="/subgraphs")
        )
        return {}
    if raw.get("version", 0) < SINCE:
        message = f"subgraphs came with version {SINCE} of documents, this one says {raw.get('version')}."
        problems.append(Problem("old_version", message, f'Write "version": {SINCE}.', place="/version"))
    found = {}
    for name, entry in entries.items():
        subgraph = _Reader(str(name), read_node, problems).read(entry)
        if subgraph is not None:
            found[subgraph.name] = subgraph
    return found


class _Reader:
    def __init__(self, name: str, read_node: ReadNode, problems: list[Problem]) -> None:
        self.name, self.read_node, self.problems = name, read_node, problems
        self.place = f"/subgraphs/{name}"

    def read(self, entry: Any) -> Subgraph | None:
        if not _NAME.fullmatch(self.name):
            self._wrong(
                "bad_subgraph", f"{self.name[:80]!r} is no name of a subgraph.", "Use letters, digits, '_', '-'."
            )
            return None
        if not isinstance(entry, Mapping) or not isinstance(entry.get("nodes"), Mapping):
            self._wrong(
                "bad_subgraph", "a subgraph is an object with nodes.", 'Write {"nodes": {...}, "inputs": [...], ...}.'
            )
            return None
        nodes = {}
        for id, node in entry["nodes"].items():
            mine: list[Problem] = []
            read = self.read_node(id, node, mine, self.place)
            self.problems += [problem._replace(node="") for problem in mine]
            if read is not None:
                nodes[id] = read
        inputs = {}
        for name, kind, port, _ in self._ports(entry, "inputs"):
            inputs[name] = ExposedInput(name, kind, port.get("default"), "default" in port)
        outputs = {}
        for name, kind, port, place in self._ports(entry, "outputs"):
            link = port.get("link")
            source, dot, output = link.partition(".") if isinstance(link, str) else ("", "", "")
            if link is not None and (not dot or not source or not output):
                self._wrong("bad_link", f"{link!r} is no link.", 'Write "node.output".', f"{place}/link")
            outputs[name] = ExposedOutput(name, kind, (source, output) if dot else None)
        title, description, category = (str(entry.get(field) or "") for field in ("title", "description", "category"))
        return Subgraph(self.name, title, description, category, inputs, outputs, nodes)

    def _ports(self, entry: Mapping[str, Any], which: str) -> Iterator[tuple[str, str, Mapping[str, Any], str]]:
        """(name, kind, entry, place) of each."""
        listed, seen = entry.get(which, []), set()
        if not isinstance(listed, list):
            self._wrong("bad_shape", f'"{which}" must be a list.', "", f"{self.place}/{which}")
            return
        for index, port in enumerate(listed):
            place = f"{self.place}/{which}/{index}"
            name = port.get("name") if isinstance(port, Mapping) else None
            if not isinstance(name, str) or not PORT.fullmatch(name):
                self._wrong("bad_port", "an exposed port has a name.", "Use letters, digits, '_' and '-'.", place)
            elif name in seen:
                self._wrong("bad_port", f"{name!r} is exposed twice.", "Rename one of them.", place)
            elif not isinstance(port.get("kind"), str):
                self._wrong("bad_port", f"{name!r} has no kind.", 'Write "kind": "IMAGE", or "*" for any.', place)
            else:
                seen.add(name)
                yield name, port["kind"], port, place

    def _wrong(self, code: str, message: str, remedy: str, place: str = "") -> None:
        self.problems.append(Problem(code, message, remedy, place=place or self.place))


def check_nesting(
    subgraphs: Mapping[str, Subgraph], nodes: Mapping[str, DocumentNode], max_nodes: int, problems: list[Problem]
) -> None:
    """No definition contains itself, none lies too deep, and what they stand for is not too much."""
    sizes: dict[str, tuple[int, int]] = {}
    """definition -> (nodes and instances in all, levels)"""
    for start in subgraphs:
        path: dict[str, list[str]] = {}
        """definition -> definitions in it that are not looked at yet"""
        if start not in sizes:
            path[start] = _within(subgraphs[start].nodes, subgraphs)
        while path:
            name, ahead = next(reversed(path.items()))
            if not ahead:
                del path[name]
                sizes[name] = _size(subgraphs[name].nodes, sizes)
                continue
            inner = ahead.pop()
            if inner in path:
                circle = [*list(path)[list(path).index(inner) :], inner]
                message = f"the subgraph {inner!r} contains itself: {' -> '.join(circle)}."
                remedy = "Take one of these instances out; repeat work with control.repeat."
                problems.append(Problem("recursion", message, remedy, place=f"/subgraphs/{circle[-2]}/nodes"))
                return
            if inner not in sizes:
                path[inner] = _within(subgraphs[inner].nodes, subgraphs)
    count, levels = _size(nodes, sizes)
    if levels > DEEPEST:
        message = f"subgraphs lie in each other {levels} levels deep, more than {DEEPEST}."
        problems.append(Problem("too_deep", message, "Unpack some of them.", place="/subgraphs"))
    if count > max_nodes:
        message = f"with its subgraphs written out the workflow has {count} nodes, more than {max_nodes}."
        problems.append(Problem("too_many_nodes", message, "Split the workflow.", place="/subgraphs"))


def _within(nodes: Mapping[str, DocumentNode], subgraphs: Mapping[str, Subgraph]) -> list[str]:
    return [name for node in nodes.values() if (name := definition_of(node.type)) in subgraphs and name is not None]


def _size(nodes: Mapping[str, DocumentNode], sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    inner = [sizes[name] for node in nodes.values() if (name := definition_of(node.type)) is not None and name in sizes]
    return len(nodes) + sum(count for count, _ in inner), max((levels + 1 for _, levels in inner), default=0)

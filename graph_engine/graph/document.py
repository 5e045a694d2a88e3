"""Document: a workflow as it is saved, before anybody asked whether its nodes exist. Parsing one never runs code.

    {"format": "anyloom", "version": 1, "title": "...", "description": "...",
     "nodes": {"load":  {"type": "media.load_image", "values": {"file": "cat.png"}},
               "small": {"type": "media.resize_image", "values": {"width": 64}, "links": {"image": "load.image"}}},
     "asks":    [{"node": "load", "input": "file", "label": "Picture"}],
     "targets": ["small"]}

`values` are literals, `links` name an output as "node.port". `asks` are the inputs that a person is expected to fill in.
`targets` (optional) are the nodes to run for; by default the output nodes. `ui` anywhere is kept and not read.
`subgraphs` (optional, from version 2 on) are parts that nodes of the type "subgraph:NAME" stand for: see subgraph.py.
`publishes` names the one of them that others may take out of the document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from graph_engine.errors import DocumentError, Problem
from graph_engine.graph.migrate import FORMAT, VERSION, migrate
from graph_engine.graph.subgraph import Subgraph, check_nesting, definition_of, read_subgraphs
from graph_engine.tuples import made

NODE_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
MODES = ("active", "muted", "bypassed")
NODES_AT_ONCE = 64
"""Nodes put into text in one go: a tenth of a millisecond."""


class DocumentNode(NamedTuple):
    id: str
    type: str
    values: dict[str, Any]
    links: dict[str, tuple[str, str]]
    """input port -> (node id, output port)"""
    mode: str = "active"
    title: str = ""


class Ask(NamedTuple):
    """An input that the workflow asks its user for."""

    node: str
    input: str
    label: str = ""
    description: str = ""


class Document(NamedTuple):
    title: str
    description: str
    nodes: dict[str, DocumentNode]
    asks: tuple[Ask, ...]
    targets: tuple[str, ...]
    raw: dict[str, Any]
    """The JSON in the present version, as it is kept, embedded in media and shown."""
    subgraphs: Mapping[str, Subgraph] = MappingProxyType({})
    publishes: str = ""
    """The subgraph that others may take out of it; empty for none."""


def parse(
    source: str | bytes | Mapping[str, Any], *, max_bytes: int = 1 << 24, max_nodes: int = 100_000, max_depth: int = 64
) -> Document:
    """Read a document of any known version. Raises DocumentError with every problem and its place."""
    raw = load_json(source, max_bytes=max_bytes) if isinstance(source, str | bytes) else source
    if not isinstance(raw, Mapping):
        raise _single("not_a_workflow", "a workflow is a JSON object.", 'Start with {"format": "anyloom", ...}.', "/")
    raw = migrate(raw)
    entries = raw.get("nodes")
    if not isinstance(entries, Mapping):
        raise _single(
            "no_nodes", '"nodes" must be an object of nodes by id.', 'Write "nodes": {"id": {...}}.', "/nodes"
        )
    if len(entries) > max_nodes:
        raise _single(
            "too_many_nodes", f"{len(entries)} nodes are more than {max_nodes}.", "Split the workflow.", "/nodes"
        )
    problems: list[Problem] = []
    subgraphs = read_subgraphs(raw, _any_node, problems)
    plain = {id: _plain_node(id, entry) for id, entry in entries.items()}
    others = {id: entries[id] for id, node in plain.items() if node is None}
    _check_depth({**raw, "nodes": others}, max_depth)
    nodes: dict[str, DocumentNode] = {}
    for id, node in plain.items():
        node = node or _node(id, entries[id], problems)
        if node is not None:
            nodes[id] = node
    asks = tuple(
        ask
        for index, entry in enumerate(_list(raw, "asks", problems))
        if (ask := _ask(index, entry, entries, problems))
    )
    targets = []
    for index, target in enumerate(_list(raw, "targets", problems)):
        if isinstance(target, str) and target.partition("/")[0] in entries:
            targets.append(target)
        else:
            problems.append(
                Problem(
                    "unknown_target",
                    f"target {target!r} is no node of this workflow.",
                    "Name a node id.",
                    place=f"/targets/{index}",
                )
            )
    publishes = raw.get("publishes")
    if publishes is not None and (not isinstance(publishes, str) or publishes not in subgraphs):
        message = f"it publishes {publishes!r}, which is no subgraph of it."
        problems.append(Problem("unknown_subgraph", message, "Name one of its subgraphs.", place="/publishes"))
    if subgraphs:
        check_nesting(subgraphs, nodes, max_nodes, problems)
    if problems:
        raise DocumentError(problems)
    title, description = (str(raw.get(field) or "") for field in ("title", "description"))
    return Document(title, description, nodes, asks, tuple(targets), raw, subgraphs, publishes or "")


def load_json(text: str | bytes, *, max_bytes: int) -> Any:
    """JSON with a size limit, no NaN, no infinity, and the line of a syntax error."""
    if len(text) > max_bytes:
        raise _single(
            "document_too_large",
            f"the document has {len(text):,} bytes, more than the limit of {max_bytes:,}.",
            "Put large data into files and load them with a node.",
            "/",
        )
    try:
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite, object_hook=_interruptible)
    except json.JSONDecodeError as error:
        raise _single(
            "bad_json",
            f"not valid JSON: {error.msg}.",
            "Correct the text there.",
            f"line {error.lineno} column {error.colno}",
        ) from None
    except UnicodeDecodeError as error:
        raise _single("bad_json", f"not valid UTF-8 at byte {error.start}.", "Save the file as UTF-8.", "/") from None
    except RecursionError:
        raise _single("too_deep", "the document is nested too deeply.", "Flatten it.", "/") from None
    except ValueError as error:
        raise _single("bad_json", f"not valid JSON: {error}.", "Correct the text.", "/") from None


def _interruptible(entry: dict[str, Any]) -> dict[str, Any]:
    """A line of Python per object, so that reading a large text in a thread leaves the event loop its turn."""
    return entry


def dump_json(document: Mapping[str, Any]) -> str:
    """The text to keep of a document, a few nodes at a time for the same reason. Raises ValueError, TypeError for no JSON."""
    parts = []
    for name, value in document.items():
        if name == "nodes" and isinstance(value, dict):
            text = "{" + ",".join([_dump(part)[1:-1] for part in _parts(value)]) + "}"
        elif name == "subgraphs" and isinstance(value, dict):
            definitions = [
                f"{_dump(_text(name))}:{dump_json(part) if isinstance(part, dict) else _dump(part)}"
                for name, part in value.items()
            ]
            text = "{" + ",".join(definitions) + "}"
        else:
            text = _dump(value)
        parts.append(f"{_dump(_text(name))}:{text}")
    return "{" + ",".join(parts) + "}"


def _parts(nodes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Raises TypeError for an id that is no text."""
    rest = iter(nodes.items())
    while part := dict(islice(rest, NODES_AT_ONCE)):
        for id in part:
            _text(id)
        yield part


_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name")
    return name


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_finite(text: str) -> Any:
    raise _single("not_finite", f"{text[:80]} is no finite number.", "Write a finite number.", "/")


def override(document: Document, values: Mapping[str, Any]) -> Document:
    """The document with `{"node.input": literal}` written over its values (and over links to the same input).

    The input of a node in a subgraph is "instance/node.input"; the instance keeps the value.
    """
    problems: list[Problem] = []
    nodes = dict(document.nodes)
    raw_nodes = dict(document.raw["nodes"])
    for name, value in values.items():
        node_id, _, port = name.partition(".")
        node_id, slash, inner = node_id.partition("/")
        node = nodes.get(node_id)
        if slash:
            port = f"{inner}.{port}" if inner and port and node and definition_of(node.type) is not None else ""
        if node is None or not port:
            problems.append(
                Problem(
                    "unknown_override",
                    f"{name!r} names no input of this workflow.",
                    f'Write "node.input"; nodes: {_some(nodes)}.',
                    place=name,
                )
            )
            continue
        links = {key: link for key, link in node.links.items() if key != port}
        node = nodes[node_id] = node._replace(values={**node.values, port: value}, links=links)
        raw_links = {key: f"{link[0]}.{link[1]}" for key, link in links.items()}
        raw_nodes[node_id] = {**raw_nodes[node_id], "values": node.values, "links": raw_links}
    if problems:
        raise DocumentError(problems)
    return document._replace(nodes=nodes, raw={**document.raw, "nodes": raw_nodes})


_PLAIN = frozenset({"type", "values", "links"})
_FLAT = frozenset({str, int, float, bool, type(None)})
_NOTHING: dict[str, Any] = {}
_match_id = NODE_ID.fullmatch


def _plain_node(id: Any, entry: Any) -> DocumentNode | None:
    """The short way for a node without faults, ornaments and nested values, which nearly all are."""
    if type(entry) is not dict or not _PLAIN.issuperset(entry) or type(id) is not str or _match_id(id) is None:
        return None
    kind, values, raw_links = entry.get("type"), entry.get("values", _NOTHING), entry.get("links", _NOTHING)
    if type(kind) is not str or type(values) is not dict or type(raw_links) is not dict:
        return None
    links: dict[str, tuple[str, str]] = {}
    if raw_links:
        for port, link in raw_links.items():
            if type(link) is not str:
                return None
            source, _, output = link.partition(".")
            if not source or not output:
                return None
            links[port] = source, output
    for value in values.values():
        if type(value) not in _FLAT:
            return None
    return made(DocumentNode, (id, kind, values, links, "active", ""))


def _any_node(id: Any, entry: Any, problems: list[Problem], within: str) -> DocumentNode | None:
    return _plain_node(id, entry) or _node(id, entry, problems, within)


def _node(id: Any, entry: Any, problems: list[Problem], within: str = "") -> DocumentNode | None:
    place = f"{within}/nodes/{id}"
    if not NODE_ID.fullmatch(id):
        problems.append(
            Problem(
                "bad_node_id", f"{id[:80]!r} is no node id.", "Use 1 to 128 letters, digits, '_' and '-'.", place=place
            )
        )
        return None
    if not isinstance(entry, Mapping):
        problems.append(Problem("bad_node", "a node is a JSON object.", 'Write {"type": "...", ...}.', id, place=place))
        return None
    type = entry.get("type")
    if not isinstance(type, str):
        problems.append(
            Problem("no_type", "the node has no type.", 'Add "type": "pack.name".', id, place=f"{place}/type")
        )
        return None
    values, raw_links = entry.get("values", {}), entry.get("links", {})
    for name, part in (("values", values), ("links", raw_links)):
        if not isinstance(part, Mapping):
            problems.append(
                Problem("bad_node", f'"{name}" must be an object by input name.', "", id, place=f"{place}/{name}")
            )
            return None
    links: dict[str, tuple[str, str]] = {}
    for port, link in raw_links.items():
        source, dot, output = link.partition(".") if isinstance(link, str) else ("", "", "")
        if not dot or not source or not output:
            problems.append(
                Problem(
                    "bad_link", f"{link!r} is no link.", 'Write "node.output".', id, port, place=f"{place}/links/{port}"
                )
            )
        else:
            links[port] = (source, output)
    mode = entry.get("mode", "active")
    if mode not in MODES:
        problems.append(
            Problem(
                "bad_mode", f"mode {mode!r} is unknown.", f"Use one of {', '.join(MODES)}.", id, place=f"{place}/mode"
            )
        )
        return None
    return DocumentNode(id, type, dict(values), links, mode, str(entry.get("title") or ""))


def _ask(index: int, entry: Any, nodes: Mapping[str, Any], problems: list[Problem]) -> Ask | None:
    place = f"/asks/{index}"
    named = isinstance(entry, Mapping) and isinstance(entry.get("node"), str) and isinstance(entry.get("input"), str)
    if not named or entry["node"] not in nodes:
        problems.append(
            Problem(
                "bad_ask",
                "an ask names a node of this workflow and one of its inputs.",
                'Write {"node": ..., "input": ...}.',
                place=place,
            )
        )
        return None
    return Ask(entry["node"], entry["input"], str(entry.get("label") or ""), str(entry.get("description") or ""))


def _list(raw: Mapping[str, Any], name: str, problems: list[Problem]) -> list[Any]:
    value = raw.get(name, [])
    if isinstance(value, list):
        return value
    problems.append(Problem("bad_shape", f'"{name}" must be a list.', "", place=f"/{name}"))
    return []


def _check_depth(raw: Mapping[str, Any], limit: int) -> None:
    """Without recursion, so that no nesting can overflow the stack."""
    level: list[Any] = [raw]
    for _ in range(limit):
        following: list[Any] = []
        for value in level:
            for child in value if type(value) is list else value.values():
                if child and (type(child) is dict or type(child) is list or isinstance(child, Mapping | list)):
                    following.append(child)
        if not following:
            return
        level = following
    raise _single("too_deep", f"the document is nested more than {limit} levels deep.", "Flatten it.", "/")


def _single(code: str, message: str, remedy: str, place: str) -> DocumentError:
    return DocumentError([Problem(code, message, remedy, place=place)])


def _some(names: Iterable[str], count: int = 12) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (f", ... ({len(listed)})" if len(listed) > count else "")


__all__ = ["FORMAT", "VERSION", "Ask", "Document", "DocumentNode", "dump_json", "load_json", "override", "parse"]

"""Kinds as an editor needs them: what may be linked to what, and which single node turns one into another."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from graph_engine.graph.kinds import Kind, ModelKind
from graph_engine.graph.node import NodeType


def drawn_kinds(types: Collection[NodeType]) -> list[dict[str, Any]]:
    """Every kind that some port has: what it is, which kinds its inputs take as they are, and which nodes turn it into
    another one, the simplest first."""
    found: dict[str, Kind] = {}
    for type in types:
        more = (type.more,) if type.more else ()
        for kind in (*(port.kind for port in (*type.inputs, *more)), *(port.kind for port in type.outputs)):
            found.setdefault(kind.name, kind)
    converters: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
    for type in sorted(types, key=lambda type: (len(type.inputs), type.id)):
        entry = converting(type)
        if entry is not None:
            converters[entry.pop("from")].extend(
                {**entry, "to": output.kind.name, "output": output.name}
                for output in type.outputs
                if _turned(type.by_name[entry["input"]].kind, output.kind)
            )
    return [
        {
            "name": kind.name,
            "description": kind.description,
            "color": kind.color,
            "literal": kind.literal,
            "model": isinstance(kind, ModelKind),
            "accepts": [other for other in sorted(found) if kind.accepts(found[other])],
            "converters": converters[kind.name],
        }
        for _, kind in sorted(found.items())
    ]


def _turned(source: Kind, made: Kind) -> bool:
    """Is `made` another thing made of `source`? A model that is loaded by its name is not made of the name."""
    return made.name not in ("*", source.name) and not (source.literal and isinstance(made, ModelKind))


def converting(type: NodeType) -> dict[str, Any] | None:
    """{from, node, title, input} of a node type that a single link makes complete, else None."""
    required = [port for port in type.inputs if port.required]
    if type.is_output or len(required) != 1 or required[0].as_list or required[0].lazy:
        return None
    [port] = required
    if port.kind.name == "COMBO" or (port.widget is not None and port.widget.upload):
        return None  # a word to choose or a file to name, not something that comes by a link
    return {"from": port.kind.name, "node": type.id, "title": type.title, "input": port.name}

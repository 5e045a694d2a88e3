"""What an editor needs to draw a node type: every literal input with the widget that enters it, every port with its words.

`NodeType.to_dict` is what the signature says; this adds what can be told from it: which widget, and the sentences of the
docstring that speak of a port.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from graph_engine.graph.kinds import Kind, ModelKind
from graph_engine.graph.node import NodeType
from graph_engine.graph.port import Input, Output

WIDGETS = ("number", "slider", "seed", "boolean", "combo", "text", "multiline", "color", "file", "json", "any")
"""Every `widget.type` there is. `number` counts whole numbers when `integer` is true."""
SLIDER_STEPS = 1000
"""A number with both bounds and at most so many steps between them is a slider."""

_BY_KIND = {
    "INT": "number",
    "FLOAT": "number",
    "BOOLEAN": "boolean",
    "COMBO": "combo",
    "STRING": "text",
    "JSON": "json",
}


def drawn(type: NodeType) -> dict[str, Any]:
    """As `GET /api/v1/nodes` shows it."""
    names = [port.name for port in ports_of(type)]
    words = port_words(type.description, names)
    return {
        **type.to_dict(),
        "pack": type.id.partition(".")[0],
        "summary": type.description.partition("\n")[0],
        "inputs": [drawn_input(port, words.get(port.name, "")) for port in type.inputs],
        "more": drawn_input(type.more, words.get(type.more.name, "")) if type.more else None,
        "outputs": [_with_words(port, words.get(port.name, "")) for port in type.outputs],
        "device": type.needs.device,
        "models": any(isinstance(port.kind, ModelKind) for port in type.inputs),
    }


def ports_of(type: NodeType) -> list[Input | Output]:
    return [*type.inputs, *type.outputs, *([type.more] if type.more else [])]


def drawn_input(port: Input, words: str = "") -> dict[str, Any]:
    """An input; `widget` is there exactly if a literal of it can be written into a workflow."""
    entry = _with_words(port, words)
    if port.kind.literal:
        widget = {"type": widget_of(port), **(port.widget.to_dict() if port.widget is not None else {})}
        if port.kind.name == "INT":
            widget["integer"] = True
        entry["widget"] = widget
    return entry


def widget_of(port: Input) -> str:
    """One of WIDGETS, for an input of a literal kind."""
    widget = port.widget
    if widget is not None:
        if widget.style:
            return widget.style
        if widget.upload:
            return "file"
        if widget.control == "seed":
            return "seed"
        if widget.options is not None:
            return "combo"
        if widget.multiline:
            return "multiline"
    found = _BY_KIND.get(port.kind.name, "any")
    if found == "number" and widget is not None and widget.min is not None and widget.max is not None:
        step = widget.step or (1 if port.kind.name == "INT" else 0)
        if step and (widget.max - widget.min) / step <= SLIDER_STEPS:
            return "slider"
    return found


def _with_words(port: Input | Output, words: str) -> dict[str, Any]:
    return {**port.to_dict(), "description": words} if words else port.to_dict()


def port_words(text: str, names: Collection[str]) -> dict[str, str]:
    """What a docstring says of each port: `name: words`, at the beginning of a sentence, up to the next such beginning or the
    end of the paragraph. `width, height: ...` speaks of both."""
    if not names:
        return {}
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    begin = re.compile(rf"(?:^|(?<=[.)]\s))((?:{one})(?:, (?:{one}))*): ")
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(line.strip() for line in paragraph.splitlines())
        begins = list(begin.finditer(flat))
        ends = [*(match.start() for match in begins[1:]), len(flat)]
        for match, end in zip(begins, ends, strict=False):
            words = flat[match.end() : end].strip()
            for name in match[1].split(", "):
                found.setdefault(name, words)
    return found


# --- which kinds fit ----------------------------------------------------------------------------------------------


def drawn_kinds(types: Collection[NodeType]) -> list[dict[str, Any]]:
    """Every kind that some port has: what it is, which kinds its inputs take as they are, and which nodes turn it into
    another one, the simplest first."""
    found: dict[str, Kind] = {}
    for type in types:
        for port in ports_of(type):
            found.setdefault(port.kind.name, port.kind)
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

"""The node list of the README, made from the registry: `python -m docs.node_list [--check]`.

Only nodes that come with Anyloom are listed, whatever else is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from docs.markers import ROOT, run
from graph_engine.graph.node import NodeType
from graph_engine.graph.registry import Registry

README = ROOT / "README.md"
PACKS = ("nextgpt", "diffusion", "media", "data", "control")


def table() -> str:
    """One table per pack."""
    own = [type for type in Registry.discover() if type.function.__module__.startswith("nodes.")]
    parts = []
    for pack in PACKS:
        types = sorted(
            (type for type in own if type.id.startswith(f"{pack}.")), key=lambda type: (type.category, type.id)
        )
        rows = [f"| `{type.id}` | {_ports(type)} | {_first_line(type)} |" for type in types]
        head = ["| node | takes → gives | what it does |", "|---|---|---|"]
        summary = f"<details><summary><b>{pack}</b>: {len(types)} nodes</summary>"
        parts.append("\n".join([summary, "", *head, *rows, "", "</details>"]))
    return "\n\n".join(parts)


def _ports(type: NodeType) -> str:
    """Kinds that have to be linked, then what comes out. Literals are left to `anyloom nodes NAME`."""
    takes = [
        _kind(port.kind.name, port.as_list) for port in type.inputs if not port.kind.literal or port.kind.name == "*"
    ]
    if type.more is not None:
        takes.append(_kind(type.more.kind.name, type.more.as_list) + "...")
    gives = [_kind(port.kind.name, port.as_list) for port in type.outputs]
    return f"{_short(takes)} → {_short(gives)}"


def _kind(name: str, as_list: bool) -> str:
    shown = "any" if name == "*" else name
    return f"list of {shown}" if as_list else shown


def _short(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "-"


def _first_line(type: NodeType) -> str:
    line = type.description.partition("\n")[0]
    return line.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


SECTIONS = {"nodes": table}

if __name__ == "__main__":
    sys.exit(run(README, SECTIONS, __doc__))

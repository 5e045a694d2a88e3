"""Content keys: equal work has an equal key, in every process and whatever the nodes are called."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from graph_engine.graph.node import NodeType

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_pieces = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # what `encode` makes anew at each call
    None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", True, False, False
)

_empty = blake2b(digest_size=16)


def digest(*parts: Any) -> str:
    """128 bits of any JSON value, as 32 hexadecimal digits."""
    return _hash("".join(_pieces(parts, 0)))


def _hash(text: str) -> str:
    found = _empty.copy()  # quicker than making one
    found.update(text.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def step_key(
    type: NodeType, literals: dict[str, Any], links: list[tuple[str, str, int]], stamps: dict[str, str]
) -> str:
    """The key of a step: its type and version, its literals, the keys of what it is linked to, the files it names.

    links: (port, key of the source, index of its output); stamps: content digests of the files named by literals.
    """
    wired = ""
    for port, key, output in links:
        wired += f"{port}\0{key}\0{output}\0"
    named = "".join(_pieces(stamps, 0)) if stamps else "{}"
    text = f"{type.id}\0{type.version}\0{wired}\0[{''.join(_pieces(literals, 0))},{named}]"
    return _hash(text)


def item_key(key: str, item: int) -> str:
    """The key of one call when a step is mapped over a list."""
    return digest("item", key, item)


def constant_key(key: str, name: str) -> str:
    """The key of a value that a growing step put into its graph."""
    return digest("constant", key, name)


def occurrence_key(key: str, occurrence: int) -> str:
    """Tells apart equal steps with side effects, each of which must really run."""
    return digest("occurrence", key, occurrence)


def run_key(key: str, run: str) -> str:
    """The key of a result that holds for one run only, because something external had a part in it."""
    return digest("run", key, run)

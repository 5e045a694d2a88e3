"""Workflows of trivial nodes in the four shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def _document(nodes: Json) -> Json:
    return {"format": "anyloom", "version": 1, "nodes": nodes}


def _add(lane: str, source: str, b: int) -> Json:
    return {"type": f"bench.{lane}", "values": {"b": b}, "links": {"a": f"{source}.int"}}


def _first(salt: int) -> Json:
    return {"type": "bench.value", "values": {"value": salt}}


def chain(size: int, lane: str, salt: int) -> Json:
    """Each node reads the one before."""
    nodes = {"n0": _first(salt)}
    for n in range(1, size):
        nodes[f"n{n}"] = _add(lane, f"n{n - 1}", n)
    return _document(nodes)


def fan_out(size: int, lane: str, salt: int) -> Json:
    """One node, read by all others, each a target."""
    return _document({"n0": _first(salt)} | {f"n{n}": _add(lane, "n0", n) for n in range(1, size)})


def fan_in(size: int, lane: str, salt: int) -> Json:
    """One node that reads all others."""
    nodes: Json = {f"n{n}": _first(salt * size + n) for n in range(size - 1)}
    nodes["end"] = {"type": f"bench.gather_{lane}", "links": {name: f"{name}.int" for name in nodes}}
    return _document(nodes)


def diamond(size: int, lane: str, salt: int) -> Json:
    """One node, all others but one read it, and the last reads these."""
    nodes: Json = {"n0": _first(salt)} | {f"n{n}": _add(lane, "n0", n) for n in range(1, size - 1)}
    nodes["end"] = {"type": f"bench.gather_{lane}", "links": {f"n{n}": f"n{n}.int" for n in range(1, size - 1)}}
    return _document(nodes)


SHAPES: dict[str, Callable[[int, str, int], Json]] = {
    "chain": chain,
    "fan-out": fan_out,
    "fan-in": fan_in,
    "diamond": diamond,
}
